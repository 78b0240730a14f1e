"""Why a candidate was refused and what to try: each advice from measured evidence, never from an exit code.

The failure modes are those that the literature on LoRA names: rank too low, rank too high, wrong target modules, noisy
data, forgetting, nothing learned.
"""

from collections.abc import Iterator, Sequence

from tasks.records import Evaluation, TrainingPoint, TrainMetrics, Verdict

OVERFIT_RISE = 0.05
BARELY_LEARNED = 0.9
HIGH_LOSS = 1.0


def diagnose(
    verdict: Verdict, base: Evaluation, candidate: Evaluation, points: Sequence[TrainingPoint], metrics: TrainMetrics
) -> Iterator[str]:
    """Advice for a refused verdict, the likeliest cause first."""
    if any(item.condition == "evidence" for item in verdict.results):
        yield "evidence is missing: mend the evaluation before changing the training"
        return
    yield from _forgetting(verdict)
    yield from _learning(points, metrics)
    yield from _fit_without_transfer(verdict, points, base, candidate)


def _forgetting(verdict: Verdict) -> Iterator[str]:
    for item in verdict.results:
        if item.condition == "max_loss_from_base" and not item.passed:
            yield (
                f"forgetting on {item.benchmark}: raise split.replay_share (5 to 10 % is usual), "
                "lower train.learning_rate or train fewer epochs"
            )


def _learning(points: Sequence[TrainingPoint], metrics: TrainMetrics) -> Iterator[str]:
    losses = [point.loss for point in points if point.loss is not None]
    if losses and losses[-1] > BARELY_LEARNED * losses[0]:
        yield (
            f"the training loss hardly fell ({losses[0]:.2f} to {losses[-1]:.2f} in {metrics.steps} steps): raise "
            "train.learning_rate within 1e-4 to 1e-3, add target modules, or train longer"
        )
    elif losses and losses[-1] > HIGH_LOSS:
        yield f"the training loss is still {losses[-1]:.2f}: raise lora.r to 16 or 32, or train longer"
    eval_losses = [point.eval_loss for point in points if point.eval_loss is not None]
    if len(eval_losses) > 1 and eval_losses[-1] > min(eval_losses) + OVERFIT_RISE:
        yield (
            f"overfitting: the validation loss rose from {min(eval_losses):.2f} to {eval_losses[-1]:.2f}; lower "
            "lora.r, add lora.lora_dropout (0.05 to 0.1) or train fewer epochs"
        )


def _fit_without_transfer(
    verdict: Verdict, points: Sequence[TrainingPoint], base: Evaluation, candidate: Evaluation
) -> Iterator[str]:
    missed = [
        item for item in verdict.results if item.condition in {"min_value", "min_gain_over_base"} and not item.passed
    ]
    eval_losses = [point.eval_loss for point in points if point.eval_loss is not None]
    for item in missed[:1]:
        moved = _moved(item.benchmark, base, candidate)
        fits = f"although the validation loss is {eval_losses[-1]:.2f}" if eval_losses else "although training ended"
        yield (
            f"{item.benchmark} does not follow, {fits} ({moved}): the training labels may not mean what the benchmark "
            "means; look for wrong labels in the sources (data/sources), then compare prompts in the report"
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
