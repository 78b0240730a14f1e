"""Claim: choices that share a question are scored faster from one pass over its text than lm-eval scores them whole.

Needs a workspace in which stage `base` was run. Both score the general-knowledge benchmark on the base model, and must
come to the same answers.
"""

import logging
from collections.abc import Callable

from lm_eval.models.huggingface import HFLM

from benchmarks.harness import Claim, interleave, parse_arguments, show
from tasks import paths
from tasks.benchmark_tasks import load_tasks
from tasks.evaluate import run_benchmark
from tasks.evaluate_model import HarnessModel
from tasks.evaluate_parsing import parse_samples, parse_scores
from tasks.files import read_json
from tasks.models import base_folder, load_for_inference, load_tokenizer, resolve_dtype
from tasks.params import load_params
from tasks.records import BaseRecord, Sample

BENCHMARK = "general_knowledge"


def contestant(kind: type[HFLM], answers: dict[str, list[Sample]], limit: int | None) -> Callable[[], None]:
    """A measurement of the base model by `kind`, which leaves its samples in `answers`."""
    params = load_params()
    folder = base_folder(read_json(paths.BASE_RECORD, BaseRecord))
    chosen = tuple(benchmark for benchmark in params.evaluate.benchmarks if benchmark.name == BENCHMARK)
    settings = params.evaluate.model_copy(update={"benchmarks": chosen, "limit": limit})
    model = kind(
        pretrained=load_for_inference(folder, params.quantization, resolve_dtype(params.compute.dtype)),
        tokenizer=load_tokenizer(folder),
        batch_size=settings.batch_size,
        max_length=settings.max_length,
    )

    def measure() -> None:
        results = run_benchmark(model, chosen[0], load_tasks(settings)[BENCHMARK], settings)
        answers[kind.__name__] = parse_samples(BENCHMARK, results, parse_scores(BENCHMARK, results))

    return measure


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments(__doc__ or "")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    answers: dict[str, list[Sample]] = {}
    limit = 30 if arguments.quick else None
    contestants = {
        "lm-eval, every choice whole": contestant(HFLM, answers, limit),
        "tunegate, the question once": contestant(HarnessModel, answers, limit),
    }
    timings = interleave(contestants, 1 if arguments.quick else 3)
    assert answers["HarnessModel"] == answers["HFLM"]
    claims = [Claim("times as fast as lm-eval's own code", timings[0].median / timings[1].median, "x", 1.3, "min")]
    show("180 questions, 540 choices", timings, claims, is_quick=arguments.quick, path=arguments.json)


if __name__ == "__main__":
    main()
