"""Stage `evaluate base|candidate`, command `evaluate champion|merged`: a model, benchmarks -> data/evaluate/<model>.

All models are loaded by the same call and measured by the same code under the same settings; the only difference is
what is put in front of the base. A model is loaded once for all benchmarks, and not at all when every one of them was
measured before: `tasks.evaluation_cache` keeps what was. Each benchmark is measured by itself, so that its scores do
not depend on which others are asked for.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from lm_eval import simple_evaluate

from tasks import paths
from tasks.benchmark_tasks import Tasks, load_tasks, without_definitions
from tasks.digests import digest_path
from tasks.entry import run_stage
from tasks.errors import NotApproved, ParamsInvalid
from tasks.evaluate_model import HarnessModel
from tasks.evaluate_parsing import parse_samples, parse_scores
from tasks.evaluate_vllm import build_vllm, choose_backend
from tasks.evaluation_cache import keep, read_measured
from tasks.files import read_json, write_json, write_jsonl
from tasks.fingerprints import build_fingerprint, weights_digest
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
from tasks.params_train import QuantizationParams
from tasks.records import BaseRecord, ChampionModel, Evaluation, Fingerprint, Measured, Sample

Which = Literal["base", "candidate", "champion", "merged"]
FOLDERS: Mapping[Which, Path] = {
    "base": paths.EVALUATE_BASE,
    "candidate": paths.EVALUATE_CANDIDATE,
    "champion": paths.EVALUATE_CHAMPION,
    "merged": paths.EVALUATE_MERGED,
}


@dataclass(frozen=True)
class Subject:
    """A model to measure: a base, as it is quantised, and the folder that training or merging wrote, or None."""

    which: Which
    base: BaseRecord
    trained: Path | None
    quantization: QuantizationParams | None

    @property
    def adapter_digest(self) -> str | None:
        """The digest of what is put in front of the base, or in its place."""
        return None if self.trained is None else digest_path(self.trained)


def find_subject(which: Which, quantization: QuantizationParams | None) -> Subject:
    """The model that `which` names, from the files of the line.

    Raises:
        NotApproved: the champion's adapter has not the digest that it was released with.
    """
    if which == "champion":
        model = read_json(paths.CHAMPION_MODEL, ChampionModel)
        if (found := digest_path(paths.CHAMPION_ADAPTER)) != model.adapter_digest:
            raise NotApproved(
                f"{paths.CHAMPION_ADAPTER} has digest {found[:12]}, the champion was released with "
                f"{model.adapter_digest[:12]}; `dvc pull` its run, or take it out of its stage with `gto deprecate`"
            )
        return Subject(which, model.base, paths.CHAMPION_ADAPTER, model.quantization)
    base = read_json(paths.BASE_RECORD, BaseRecord)
    trained = {"base": None, "candidate": paths.ADAPTER, "merged": paths.MERGED_MODEL}[which]
    return Subject(which, base, trained, quantization)


def run_benchmark(model: Any, benchmark: Benchmark, tasks: Tasks, evaluate: EvaluateParams) -> Mapping[str, Any]:
    """lm-eval's raw results of one benchmark, samples included, by task."""
    results = simple_evaluate(
        model=model,
        tasks=list(tasks.values()),
        num_fewshot=benchmark.num_fewshot,
        limit=evaluate.limit,
        apply_chat_template=evaluate.apply_chat_template,
        log_samples=True,
        task_manager=without_definitions(),
        bootstrap_iters=0,
        random_seed=evaluate.seed,
        numpy_random_seed=evaluate.seed,
        torch_random_seed=evaluate.seed,
        fewshot_random_seed=evaluate.seed,
    )
    parts = ("samples", "higher_is_better", "results")
    return {part: {name: results[part].get(name, ()) for name in tasks} for part in parts}


def build_model(subject: Subject, evaluate: EvaluateParams, dtype: Any, backend: str) -> Any:
    """The subject as lm-eval's model.

    Raises:
        ParamsInvalid: vLLM cannot load it: a champion whose base is in 4 bits, with parameters whose base is not.
    """
    folder = base_folder(subject.base)
    if backend == "vllm":
        if subject.quantization is not None:
            raise ParamsInvalid(
                f"params.yaml evaluate.backend: vLLM cannot load the {subject.which}, whose base is in 4 bits; write hf"
            )
        return build_vllm(folder, subject.trained, evaluate, dtype_name(dtype))
    if subject.trained is None:
        model: Any = load_for_inference(folder, subject.quantization, dtype)
    else:
        model = load_candidate(folder, subject.trained, subject.quantization, dtype)
    return HarnessModel(
        pretrained=model,
        tokenizer=load_tokenizer(folder),
        batch_size=evaluate.batch_size,
        max_length=evaluate.max_length,
        trust_remote_code=False,
    )


def evaluate(which: Which, params: Params) -> tuple[Evaluation, list[Sample]]:
    """Measure one model on every benchmark of the parameters, where it was not measured before."""
    subject = find_subject(which, params.quantization)
    backend = choose_backend(params.evaluate, params.quantization)
    tasks = load_tasks(params.evaluate)
    asked = [
        (item, build_fingerprint(item, tasks[item.name], params.evaluate, params.compute, subject.base, backend))
        for item in params.evaluate.benchmarks
    ]
    adapter_digest = subject.adapter_digest
    digest = weights_digest(subject.base, adapter_digest, subject.quantization)

    @cache
    def model() -> Any:
        return build_model(subject, params.evaluate, resolve_dtype(params.compute.dtype), backend)

    measured = [
        measured_before(which, digest, fingerprint)
        or measure(model, item, tasks[item.name], params.evaluate, digest, fingerprint)
        for item, fingerprint in asked
    ]
    evaluation = Evaluation(
        model=which,
        weights_digest=digest,
        adapter_digest=adapter_digest,
        fingerprints=tuple(fingerprint for _, fingerprint in asked),
        scores=tuple(score for found in measured for score in found.scores),
    )
    return evaluation, [sample for found in measured for sample in found.samples]


def measured_before(which: Which, digest: str, fingerprint: Fingerprint) -> Measured | None:
    """What these weights scored under this fingerprint before, told; or None."""
    found = read_measured(digest, fingerprint)
    if found is not None:
        print(f"evaluate {which}: {fingerprint.benchmark} was measured before, nothing to compute", flush=True)
    return found


def measure(
    model: Callable[[], Any],
    benchmark: Benchmark,
    tasks: Tasks,
    evaluate: EvaluateParams,
    digest: str,
    fingerprint: Fingerprint,
) -> Measured:
    """Measure one benchmark, and keep the result."""
    harness = model()
    results = run_benchmark(harness, benchmark, tasks, evaluate)
    scores = parse_scores(benchmark.name, results)
    measured = Measured(
        weights_digest=digest,
        fingerprint=fingerprint,
        scores=tuple(scores),
        samples=tuple(parse_samples(benchmark.name, results, scores, getattr(harness, "endings", {}))),
    )
    keep(measured)
    return measured


def which_model(arguments: list[str]) -> Which:
    """The model that the command line names.

    Raises:
        ParamsInvalid: it names none, or another.
    """
    for which in get_args(Which):
        if arguments == [which]:
            return which  # type: ignore[no-any-return]  # one of the literals
    known = ", ".join(f"`{which}`" for which in get_args(Which))
    raise ParamsInvalid(f"python -m tasks.evaluate: found {' '.join(arguments)!r}, expected one of {known}")


def main() -> None:
    """Measure the model that the command line names and write its scores and samples."""
    which = which_model(sys.argv[1:])
    params = load_params()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    set_threads(params.compute)
    evaluation, samples = evaluate(which, params)
    write_jsonl(FOLDERS[which] / paths.SAMPLES, samples)
    write_json(FOLDERS[which] / paths.EVALUATION, evaluation)
    for score in evaluation.scores:
        error = f" ± {score.stderr:.3f}" if score.stderr is not None else ""
        print(f"evaluate {which}: {score.benchmark} {score.metric} {score.value:.3f}{error} ({score.samples} items)")


if __name__ == "__main__":
    run_stage(main)
