"""What a training's history says went wrong, each warning with its numbers, their steps and what to try.

They are the failure modes of the literature on LoRA that show in the curves (rank too low, rank too high, noisy data),
and a learning rate that is too high. Means over several logged steps are compared, since single batches scatter.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median, variance
from typing import NamedTuple

from tasks.params_train import LoraParams, TrainParams
from tasks.records import TrainingPoint

NEAR_ZERO = 0.05
OVERFIT_RISE = 0.05
FAR_RATIO, FAR_GAP = 2.0, 0.3
BARELY_LEARNED = 0.9
END_SHARE = 0.1
"""The part of the logged steps that the loss at the start and at the end is the mean of."""
RISE, RISE_ERRORS, LEAST_IN_A_THIRD = 1.05, 3.0, 3
SPIKE, SPIKE_BEFORE, SPIKE_LEAST_BEFORE = 10.0, 10, 4


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


def training_warnings(points: Sequence[TrainingPoint], train: TrainParams, lora: LoraParams | None) -> tuple[str, ...]:
    """The warnings of one history, the likeliest cause first.

    Args:
        points: of `training_watch.history`.
        train: the section it was trained with.
        lora: the section, None for methods without it.
    """
    losses = [(point.step, point.loss) for point in points if point.loss is not None]
    evals = [(point.step, point.eval_loss) for point in points if point.eval_loss is not None]
    norms = [(point.step, point.grad_norm) for point in points if point.grad_norm is not None]
    return (*_fall(losses, train, lora), *_validation(losses, evals, train, lora), *_spikes(norms, train))


def _mean(series: Series) -> Mean:
    return Mean(fmean(value for _, value in series), series[0][0], series[-1][0])


def _ends(losses: Series) -> tuple[Mean, Mean]:
    count = max(1, int(len(losses) * END_SHARE))
    return _mean(losses[:count]), _mean(losses[-count:])


def _fall(losses: Series, train: TrainParams, lora: LoraParams | None) -> Iterator[str]:
    if len(losses) < 2:
        return
    start, end = _ends(losses)
    rise = _rise(losses) or ((start, end) if end.value > RISE * start.value else None)
    if rise is not None:
        yield (
            f"the training loss rose from {rise[0]} to {rise[1]}: lower train.learning_rate "
            f"(now {train.learning_rate:g}) or raise train.warmup_steps (now {train.warmup_steps})"
        )
    elif end.value > BARELY_LEARNED * start.value:
        more = f"raise lora.r (now {lora.r}), add target modules, " if lora else ""
        yield (
            f"the training loss hardly fell, from {start} to {end}: raise train.learning_rate "
            f"(now {train.learning_rate:g}), {more}or train longer"
        )


def _rise(losses: Series) -> tuple[Mean, Mean] | None:
    """The means of the middle and the last third, if the last one is higher by more than its scatter explains."""
    third = len(losses) // 3
    if third < LEAST_IN_A_THIRD:
        return None
    middle, last = losses[-2 * third : -third], losses[-third:]
    before, after = _mean(middle), _mean(last)
    error = math.sqrt(sum(variance(value for _, value in part) for part in (middle, last)) / third)
    is_rise = after.value > RISE * before.value and after.value - before.value > RISE_ERRORS * error
    return (before, after) if is_rise else None


def _validation(losses: Series, evals: Series, train: TrainParams, lora: LoraParams | None) -> Iterator[str]:
    if not losses or not evals:
        return
    _, end = _ends(losses)
    best_step, best = min(evals, key=lambda pair: pair[1])
    last_step, last = evals[-1]
    _, then = _ends([pair for pair in losses if pair[0] <= best_step] or losses[:1])
    less = _smaller(train, lora)
    if last - best > OVERFIT_RISE and end.value - then.value < (last - best) / 2:
        how = f"is near zero, {end}," if end.value <= NEAR_ZERO else f"went from {then} to {end}"
        yield (
            f"overfitting: the training loss {how} while the validation loss rose from {best:.3f} "
            f"(step {best_step}) to {last:.3f} (step {last_step}): {less} or train fewer epochs "
            f"(now {train.num_train_epochs:g})"
        )
    elif best > FAR_RATIO * end.value and best - end.value > FAR_GAP:
        yield (
            f"the validation loss, {best:.3f} at its best (step {best_step}), is far above the training loss, {end}: "
            f"what is learned does not carry over; look for wrong or repeated answers in the sources, {less}"
        )


def _smaller(train: TrainParams, lora: LoraParams | None) -> str:
    if lora is None:
        return f"lower train.learning_rate (now {train.learning_rate:g})"
    return f"lower lora.r (now {lora.r}), raise lora.lora_dropout (now {lora.lora_dropout:g}; 0.05 to 0.1 is usual)"


def _spikes(norms: Series, train: TrainParams) -> Iterator[str]:
    found = []
    for place in range(SPIKE_LEAST_BEFORE, len(norms)):
        step, norm = norms[place]
        usual = median(value for _, value in norms[max(0, place - SPIKE_BEFORE) : place])
        if norm > SPIKE * usual:
            found.append((norm, step, usual))
    if found:
        norm, step, usual = max(found)
        times = "once" if len(found) == 1 else f"{len(found)} times"
        yield (
            f"the gradient norm exploded {times}, at most to {norm:.1f} (step {step}) where {usual:.2f} was usual: "
            f"lower train.learning_rate (now {train.learning_rate:g}) or train.max_grad_norm (now "
            f"{train.max_grad_norm:g}), and look for odd rows in the sources"
        )
