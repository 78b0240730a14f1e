"""Stage `evaluate base|candidate`: base (and adapter), benchmarks -> data/evaluate/<model>.

Both models are loaded by the same call and measured by the same settings; the only difference is the adapter.
"""

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lm_eval
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from tasks import paths
from tasks.digests import combine_digests, digest_path, digest_text
from tasks.entry import run_stage
from tasks.errors import ParamsInvalid
from tasks.evaluate_model import HarnessModel
from tasks.evaluate_parsing import parse_samples, parse_scores
from tasks.files import read_json, write_json, write_jsonl
from tasks.models import (
    base_folder,
    dtype_name,
    load_candidate,
    load_for_inference,
    load_tokenizer,
    resolve_dtype,
    set_threads,
)
from tasks.params import Benchmark, EvaluateParams, Params, load_params
from tasks.records import BaseRecord, Evaluation, Fingerprint, Sample

Which = Literal["base", "candidate"]


def run_harness(model: HarnessModel, evaluate: EvaluateParams) -> Mapping[str, Any]:
    """lm-eval's raw results, samples included, for every benchmark of the parameters.

    Raises:
        ParamsInvalid: the harness does not know a benchmark.
    """
    manager = TaskManager(include_path=str(paths.EVALS))
    unknown = [benchmark.name for benchmark in evaluate.benchmarks if benchmark.name not in manager.all_tasks]
    if unknown:
        raise ParamsInvalid(
            f"params.yaml evaluate.benchmarks: lm-eval knows no {', '.join(unknown)}; see {paths.EVALS}"
        )
    gathered: dict[str, dict[str, Any]] = {}
    for num_fewshot in sorted({benchmark.num_fewshot for benchmark in evaluate.benchmarks}):
        results = simple_evaluate(
            model=model,
            tasks=[benchmark.name for benchmark in evaluate.benchmarks if benchmark.num_fewshot == num_fewshot],
            num_fewshot=num_fewshot,
            limit=evaluate.limit,
            apply_chat_template=evaluate.apply_chat_template,
            log_samples=True,
            bootstrap_iters=0,
            task_manager=manager,
            random_seed=evaluate.seed,
            numpy_random_seed=evaluate.seed,
            torch_random_seed=evaluate.seed,
            fewshot_random_seed=evaluate.seed,
        )
        for part in ("samples", "higher_is_better", "results", "configs"):
            gathered.setdefault(part, {}).update(results[part])
    return gathered


def fingerprint(benchmark: Benchmark, params: Params, base: BaseRecord, config: object) -> Fingerprint:
    """The settings that move the scores of `benchmark` besides the weights."""
    evaluate, folder = params.evaluate, paths.EVALS / benchmark.name
    ours = folder.is_dir()
    return Fingerprint(
        benchmark=benchmark.name,
        harness_version=lm_eval.__version__,
        definition_digest=digest_folder(folder)
        if ours
        else digest_text(json.dumps(config, default=str, sort_keys=True)),
        num_fewshot=benchmark.num_fewshot,
        limit=evaluate.limit,
        chat_template_digest=base.chat_template_digest if evaluate.apply_chat_template else "",
        dtype=dtype_name(resolve_dtype(params.compute.dtype)),
        batch_size=evaluate.batch_size,
        max_length=evaluate.max_length,
        seed=evaluate.seed,
    )


def digest_folder(folder: Path) -> str:
    """The digest of a benchmark's files, compiled Python left out."""
    files = [path for path in folder.iterdir() if path.is_file()]
    return combine_digests({path.name: digest_path(path) for path in files})


def build_model(which: Which, params: Params, base: BaseRecord) -> HarnessModel:
    """The base, for `candidate` with what training made of it, as lm-eval's model."""
    folder, dtype = base_folder(base), resolve_dtype(params.compute.dtype)
    if which == "candidate":
        model = load_candidate(folder, paths.ADAPTER, params.quantization, dtype)
    else:
        model = load_for_inference(folder, params.quantization, dtype)
    return HarnessModel(
        pretrained=model,
        tokenizer=load_tokenizer(folder),
        batch_size=params.evaluate.batch_size,
        max_length=params.evaluate.max_length,
        trust_remote_code=False,
    )


def evaluate(which: Which, params: Params) -> tuple[Evaluation, list[Sample]]:
    """Measure one model on every benchmark of the parameters."""
    base = read_json(paths.BASE_RECORD, BaseRecord)
    digests = {"base": base.digest} | ({"adapter": digest_path(paths.ADAPTER)} if which == "candidate" else {})
    results = run_harness(build_model(which, params, base), params.evaluate)
    benchmarks = params.evaluate.benchmarks
    evaluation = Evaluation(
        model=which,
        weights_digest=combine_digests(digests),
        adapter_digest=digests.get("adapter"),
        fingerprints=tuple(fingerprint(item, params, base, results["configs"].get(item.name)) for item in benchmarks),
        scores=tuple(score for item in benchmarks for score in parse_scores(item.name, results)),
    )
    return evaluation, [sample for item in benchmarks for sample in parse_samples(item.name, results)]


def which_model(arguments: list[str]) -> Which:
    """The model that the command line names.

    Raises:
        ParamsInvalid: it names none, or another.
    """
    match arguments:
        case ["base"]:
            return "base"
        case ["candidate"]:
            return "candidate"
    raise ParamsInvalid(f"python -m tasks.evaluate: found {' '.join(arguments)!r}, expected `base` or `candidate`")


def main() -> None:
    """Measure the model that the command line names and write its scores and samples."""
    which = which_model(sys.argv[1:])
    params = load_params()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    set_threads(params.compute)
    evaluation, samples = evaluate(which, params)
    folder = paths.EVALUATE_CANDIDATE if which == "candidate" else paths.EVALUATE_BASE
    write_jsonl(folder / paths.SAMPLES, samples)
    write_json(folder / paths.EVALUATION, evaluation)
    for score in evaluation.scores:
        error = f" ± {score.stderr:.3f}" if score.stderr is not None else ""
        print(f"evaluate {which}: {score.benchmark} {score.metric} {score.value:.3f}{error} ({score.samples} items)")


if __name__ == "__main__":
    run_stage(main)
