"""What a training's curves show, each finding with its numbers, their steps and what to try.

They are the failure modes of the literature on LoRA that show in the curves (rank too low, rank too high, noisy data),
and a learning rate that is too high. Means over several logged steps are compared, since single batches scatter.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median, variance
from typing import NamedTuple

from tasks.finding_changes import (
    TrainedWith,
    clipped,
    dropped_out,
    faster,
    gentler,
    larger,
    longer,
    shorter,
    slower,
    smaller,
    wider,
)
from tasks.findings import Changes, Finding
from tasks.records import TrainingPoint

NEAR_ZERO = 0.05
OVERFIT_RISE = 0.05
FAR_RATIO, FAR_GAP = 2.0, 0.3
BARELY_LEARNED = 0.9
END_SHARE = 0.1
"""The part of the logged steps that the loss at the start and at the end is the mean of."""
RISE, RISE_ERRORS, LEAST_IN_A_THIRD = 1.05, 3.0, 3
SPIKE, SPIKE_BEFORE, SPIKE_LEAST_BEFORE = 10.0, 10, 4
STILL_FALLING = 0.05
"""A loss that fell by a larger share than this from the middle third of the steps to the last one had not ended."""


class Mean(NamedTuple):
    """The mean of a loss over neighbouring logged steps."""

    value: float
    first: int
    last: int

    def __str__(self) -> str:
        steps = f"step {self.last}" if self.first == self.last else f"steps {self.first} to {self.last}"
        return f"{self.value:.3f} ({steps})"


Series = list[tuple[int, float]]


def best_point(points: Sequence[TrainingPoint]) -> TrainingPoint | None:
    """The first point of the least validation loss, None when there was no validation."""
    measured = [point for point in points if point.eval_loss is not None]
    return min(measured, key=lambda point: point.eval_loss or 0.0, default=None)


def curve_findings(points: Sequence[TrainingPoint], trained: TrainedWith) -> tuple[Finding, ...]:
    """What one history shows, the likeliest cause first.

    Args:
        points: of `training_watch.history`.
        trained: the parameters that it was trained with.
    """
    losses = training_losses(points)
    evals = [(point.step, point.eval_loss) for point in points if point.eval_loss is not None]
    norms = [(point.step, point.grad_norm) for point in points if point.grad_norm is not None]
    return (*_fall(losses, trained), *_validation(losses, evals, trained), *_spikes(norms, trained))


def training_losses(points: Sequence[TrainingPoint]) -> Series:
    """The training losses of a history, each with its step."""
    return [(point.step, point.loss) for point in points if point.loss is not None]


def late_fall(losses: Series) -> float | None:
    """The share by which the loss fell from the middle third of the steps to the last; None of too few steps."""
    if (thirds := _thirds(losses)) is None:
        return None
    middle, last = (fmean(value for _, value in part) for part in thirds)
    return rounded(1 - last / middle) if middle > 0 else None


def better_fit(trained: TrainedWith, fall: float | None) -> tuple[str, list[Changes]]:
    """What helps a training that learned too little, in words and as changes.

    A loss that was still falling asks for more steps; one that had come to rest for more that can learn. Where the
    steps are too few to tell it is both.
    """
    steps = [*longer(trained), *faster(trained)]
    capacity = [*larger(trained)[:1], *wider(trained)[-1:]]
    rate = f"raise train.learning_rate (now {trained.learning_rate:g})"
    more = "" if trained.r is None else f"raise lora.r (now {trained.r}), add target modules, "
    if fall is not None and fall > STILL_FALLING:
        return f"train longer (now {_length(trained)}) or {rate}", steps
    if fall is not None:
        return f"{more}or {rate}" if more else rate, [*larger(trained), *wider(trained), *faster(trained)]
    return f"{rate}, {more}or train longer", [*faster(trained), *capacity, *longer(trained)]


def _length(trained: TrainedWith) -> str:
    return f"{trained.max_steps} steps" if trained.max_steps > 0 else f"{trained.num_train_epochs:g} epochs"


def rounded(value: float) -> float:
    """Six significant digits: what a number of evidence is written with."""
    return float(f"{value:.6g}") + 0.0


def _mean(series: Series) -> Mean:
    return Mean(fmean(value for _, value in series), series[0][0], series[-1][0])


def _ends(losses: Series) -> tuple[Mean, Mean]:
    count = max(1, int(len(losses) * END_SHARE))
    return _mean(losses[:count]), _mean(losses[-count:])


def _thirds(losses: Series) -> tuple[Series, Series] | None:
    """The middle and the last third; None of too few steps."""
    third = len(losses) // 3
    return None if third < LEAST_IN_A_THIRD else (losses[-2 * third : -third], losses[-third:])


def _fall(losses: Series, trained: TrainedWith) -> Iterator[Finding]:
    if len(losses) < 2:
        return
    start, end = _ends(losses)
    rise = _rise(losses) or ((start, end) if end.value > RISE * start.value else None)
    if rise is not None:
        before, after = rise
        yield Finding(
            mode="unstable_training",
            evidence=_means(loss_before=before, loss_after=after) | {"learning_rate": trained.learning_rate},
            sentence=f"the training loss rose from {before} to {after}",
            mitigation=f"lower train.learning_rate (now {trained.learning_rate:g}) or raise train.warmup_steps "
            f"(now {trained.warmup_steps})",
            changes=(*slower(trained), *slower(trained, 4), *gentler(trained)),
        )
    elif end.value > BARELY_LEARNED * start.value:
        fall = late_fall(losses)
        mitigation, changes = better_fit(trained, fall)
        told = {} if fall is None else {"late_fall": fall}
        yield Finding(
            mode="under_fitting",
            evidence=_means(loss_start=start, loss_end=end) | told | {"learning_rate": trained.learning_rate},
            sentence=f"the training loss hardly fell, from {start} to {end}",
            mitigation=mitigation,
            changes=tuple(changes),
        )


def _means(**means: Mean) -> dict[str, int | float | str]:
    """Means as evidence, each with its last step."""
    told: dict[str, int | float | str] = {}
    for name, mean in means.items():
        told |= {name: rounded(mean.value), f"{name}_step": mean.last}
    return told


def _rise(losses: Series) -> tuple[Mean, Mean] | None:
    """The means of the middle and the last third, if the last one is higher by more than its scatter explains."""
    if (thirds := _thirds(losses)) is None:
        return None
    before, after = (_mean(part) for part in thirds)
    error = math.sqrt(sum(variance(value for _, value in part) for part in thirds) / len(thirds[0]))
    is_rise = after.value > RISE * before.value and after.value - before.value > RISE_ERRORS * error
    return (before, after) if is_rise else None


def _validation(losses: Series, evals: Series, trained: TrainedWith) -> Iterator[Finding]:
    if not losses or not evals:
        return
    _, end = _ends(losses)
    best_step, best = min(evals, key=lambda pair: pair[1])
    last_step, last = evals[-1]
    _, then = _ends([pair for pair in losses if pair[0] <= best_step] or losses[:1])
    less, changes = _smaller(trained)
    numbers = _means(loss_end=end) | {"best_eval_loss": rounded(best), "best_eval_loss_step": best_step}
    if last - best > OVERFIT_RISE and end.value - then.value < (last - best) / 2:
        how = f"is near zero, {end}," if end.value <= NEAR_ZERO else f"went from {then} to {end}"
        yield Finding(
            mode="overfitting",
            evidence=numbers
            | _means(loss_at_best=then)
            | {"last_eval_loss": rounded(last), "last_eval_loss_step": last_step},
            sentence=f"overfitting: the training loss {how} while the validation loss rose from {best:.3f} "
            f"(step {best_step}) to {last:.3f} (step {last_step})",
            mitigation=f"{less} or train fewer epochs (now {trained.num_train_epochs:g})",
            changes=(*changes, *shorter(trained, best_step / last_step)),
        )
    elif best > FAR_RATIO * end.value and best - end.value > FAR_GAP:
        yield Finding(
            mode="noisy_data",
            evidence=numbers,
            sentence=f"the validation loss, {best:.3f} at its best (step {best_step}), is far above the training loss, "
            f"{end}: what is learned does not carry over",
            mitigation=f"look for wrong or repeated answers in the sources, {less}",
            changes=tuple(changes),
        )


def _smaller(trained: TrainedWith) -> tuple[str, list[Changes]]:
    """What lets a training remember less, in words and as changes."""
    if trained.r is None:
        return f"lower train.learning_rate (now {trained.learning_rate:g})", slower(trained)
    said = (
        f"lower lora.r (now {trained.r}), raise lora.lora_dropout (now {trained.lora_dropout or 0:g}; 0.05 to 0.1 is "
        "usual)"
    )
    return said, [*smaller(trained), *dropped_out(trained)]


def _spikes(norms: Series, trained: TrainedWith) -> Iterator[Finding]:
    found = []
    for place in range(SPIKE_LEAST_BEFORE, len(norms)):
        step, norm = norms[place]
        usual = median(value for _, value in norms[max(0, place - SPIKE_BEFORE) : place])
        if norm > SPIKE * usual:
            found.append((norm, step, usual))
    if found:
        norm, step, usual = max(found)
        times = "once" if len(found) == 1 else f"{len(found)} times"
        yield Finding(
            mode="unstable_training",
            evidence={
                "spikes": len(found),
                "largest_grad_norm": rounded(norm),
                "largest_grad_norm_step": step,
                "usual_grad_norm": rounded(usual),
            },
            sentence=f"the gradient norm exploded {times}, at most to {norm:.1f} (step {step}) where {usual:.2f} was "
            "usual",
            mitigation=f"lower train.learning_rate (now {trained.learning_rate:g}) or train.max_grad_norm (now "
            f"{trained.max_grad_norm:g}), and look for odd rows in the sources",
            changes=(*slower(trained), *clipped(trained)),
        )
