"""Claims: base and candidate take 0.6 of the time that the plain `lm_eval` command takes, a second candidate 0.35.

And what choices of one question share is scored faster from one pass over it than lm-eval's own code scores it. Needs a
workspace in which stage `base` was run; with stage `train` too the adapter is a real one. All must come to the same
scores, to the last digit.

Tunegate's time is that of its stages' processes, imports and loading included, as `lm_eval`'s is. For the second
candidate `evaluate_base` is not started, since nothing that it depends on changed; what it takes when it is asked
again after all (after another benchmark came, say) is shown as a row of its own.
"""

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lm_eval.models.huggingface import HFLM

from benchmarks.evaluate_runs import Contest
from benchmarks.harness import Claim, Timing, interleave, parse_arguments, show
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
QUICK_ITEMS = 4


def contestant(kind: type[HFLM], answers: dict[str, list[Sample]], limit: int | None) -> Callable[[], None]:
    """A measurement of the base model by `kind`, which leaves its samples in `answers`."""
    params = load_params()
    folder = base_folder(read_json(paths.BASE_RECORD, BaseRecord))
    chosen = [benchmark for benchmark in params.evaluate.benchmarks if benchmark.name == BENCHMARK]
    settings = params.evaluate.model_copy(update={"benchmarks": chosen, "limit": limit})
    model = kind(
        pretrained=load_for_inference(folder, params.quantization, resolve_dtype(params.compute.dtype)),
        tokenizer=load_tokenizer(folder),
        batch_size=settings.batch_size,
        max_length=settings.max_length,
    )

    def measure() -> None:
        results = run_benchmark(model, chosen[0], load_tasks(settings)[BENCHMARK], settings)
        answers[kind.__name__] = parse_samples(BENCHMARK, results, parse_scores(BENCHMARK, results), {})

    return measure


def scoring(limit: int | None, repetitions: int) -> tuple[list[Timing], Claim]:
    """The choices of one benchmark scored in this process, the model loaded before."""
    answers: dict[str, list[Sample]] = {}
    contestants = {
        "lm-eval's code, every choice whole": contestant(HFLM, answers, limit),
        "tunegate's, what is shared once": contestant(HarnessModel, answers, limit),
    }
    timings = interleave(contestants, repetitions)
    assert [sample.metrics for sample in answers["HarnessModel"]] == [sample.metrics for sample in answers["HFLM"]]
    speed = timings[0].median / timings[1].median
    return timings, Claim("times as fast as lm-eval's own code", speed, "x", 1.3, "min")


def whole_runs(contest: Contest, repetitions: int) -> tuple[list[Timing], list[Claim]]:
    """Base and candidate in processes of their own, in turns."""
    taken: dict[str, list[float]] = {}
    differing: list[str] = []

    def timed(name: str, run: Callable[[], None]) -> None:
        started = time.perf_counter()
        run()
        taken.setdefault(name, []).append(time.perf_counter() - started)
        print(f"{name}: {taken[name][-1]:.1f} s", flush=True)

    for _ in range(repetitions):
        for number in (1, 2):
            contest.take_adapter(number)
            timed("lm_eval, base and candidate", contest.run_theirs)
            if number == 1:
                contest.forget()
                timed("tunegate, nothing kept", lambda: contest.run_ours("base", "candidate"))
            else:
                timed("tunegate, second candidate", lambda: contest.run_ours("candidate"))
                timed("tunegate, the base asked again", lambda: contest.run_ours("base"))
            differing += contest.differing()
    for line in dict.fromkeys(differing):
        print(f"not the same: {line}")
    timings = [Timing(name, tuple(seconds), ()) for name, seconds in taken.items()]
    plain, cold, second, _ = (timing.median for timing in timings)
    return timings, [
        Claim("cold, of lm_eval's wall time", cold / plain, "x", 0.6, "max"),
        Claim("second candidate, of lm_eval's wall time", second / plain, "x", 0.35, "max"),
        Claim("scores that are not the same to the last digit", len(set(differing)), "scores", 0, "max"),
    ]


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments(__doc__ or "")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        contest = Contest(Path(folder), QUICK_ITEMS if arguments.quick else None)
        print(f"the candidate is {contest.prepare()}", flush=True)
        runs, claims = whole_runs(contest, 1 if arguments.quick else 2)
    scored, claim = scoring(30 if arguments.quick else None, 1 if arguments.quick else 3)
    title = "base and candidate; 540 choices of 180 questions"
    show(title, [*runs, *scored], [*claims, claim], is_quick=arguments.quick, path=arguments.json)


if __name__ == "__main__":
    main()
