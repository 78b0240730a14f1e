"""Why a candidate did not pass and what to try: each advice from measured evidence, never from an exit code.

The failure modes are those that the literature on LoRA names: rank too low, rank too high, wrong target modules, noisy
data, forgetting, nothing learned. What the training's curves show is in its metrics already (`training_warnings`).
"""

from collections.abc import Iterator, Sequence

from tasks.records import Evaluation, TrainingPoint, TrainMetrics
from tasks.verdict_records import Verdict

HIGH_LOSS = 1.0


def diagnose(
    verdict: Verdict, base: Evaluation, candidate: Evaluation, points: Sequence[TrainingPoint], metrics: TrainMetrics
) -> Iterator[str]:
    """Advice for a verdict that is no pass, the likeliest cause first."""
    if any(item.condition == "evidence" for item in verdict.results):
        yield "evidence is missing: mend the evaluation before changing the training"
        return
    yield from _forgetting(verdict)
    yield from _learning(metrics)
    yield from _fit_without_transfer(verdict, points, base, candidate)
    yield from _too_few_items(verdict)


def _forgetting(verdict: Verdict) -> Iterator[str]:
    for item in verdict.results:
        if item.condition == "max_loss_from_base" and item.outcome == "refused":
            yield (
                f"forgetting on {item.benchmark}: raise split.replay_share (5 to 10 % is usual), "
                "lower train.learning_rate or train fewer epochs"
            )


def _learning(metrics: TrainMetrics) -> Iterator[str]:
    yield from metrics.notes
    if not metrics.notes and metrics.final_loss > HIGH_LOSS:
        yield f"the training loss is still {metrics.final_loss:.2f}: raise lora.r to 16 or 32, or train longer"


def _fit_without_transfer(
    verdict: Verdict, points: Sequence[TrainingPoint], base: Evaluation, candidate: Evaluation
) -> Iterator[str]:
    missed = [
        item
        for item in verdict.results
        if item.condition in {"min_value", "min_gain_over_base"} and item.outcome == "refused"
    ]
    eval_losses = [point.eval_loss for point in points if point.eval_loss is not None]
    for item in missed[:1]:
        moved = _moved(item.benchmark, base, candidate)
        fits = f"although the validation loss is {eval_losses[-1]:.2f}" if eval_losses else "although training ended"
        yield (
            f"{item.benchmark} does not follow, {fits} ({moved}): the training labels may not mean what the benchmark "
            "means; look for wrong labels in the sources (data/sources), then compare prompts in the report"
        )


def _too_few_items(verdict: Verdict) -> Iterator[str]:
    """Of every benchmark with open conditions the most items that one of them needs."""
    needed: dict[str, tuple[int, int]] = {}
    for item in verdict.results:
        if item.outcome == "inconclusive" and item.items is not None and item.items_needed is not None:
            needed[item.benchmark] = max(needed.get(item.benchmark, (0, 0)), (item.items_needed, item.items))
    for benchmark, (wanted, items) in needed.items():
        yield (
            f"{benchmark} has {items:,} items and about {wanted:,} would decide: add items to it (tasks/evals), allow "
            "a wider margin in gate.rules, or train a candidate that is further from the line"
        )


def _moved(benchmark: str, base: Evaluation, candidate: Evaluation) -> str:
    pairs = [
        (score, base.score(benchmark, score.metric, score.filter_name))
        for score in candidate.scores
        if score.benchmark == benchmark
    ]
    return ", ".join(
        f"{score.metric} {other.value:.2f} to {score.value:.2f}" for score, other in pairs if other is not None
    )
