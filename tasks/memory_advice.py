"""What to change so that training fits: the first parameter in a fixed order, the least harmful to the result first."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from tasks.memory import Setting, estimate
from tasks.model_shape import ModelShape

LEAST_LENGTH = 128
LEAST_R = 4


class Advice(NamedTuple):
    """Changes that go together, as keys and values of the parameters, and the peak in bytes that they reach."""

    changes: tuple[str, ...]
    peak: int
    fits: bool


class Change(NamedTuple):
    """One change, in words, and the setting that it makes."""

    words: str
    setting: Setting


def advise(shape: ModelShape, setting: Setting, limit: int) -> Advice:
    """The first change under which training takes at most `limit` bytes.

    The order: checkpointing, smaller portions of a batch (or smaller batches, as many rows a step), shorter rows, fewer
    bits, a smaller optimizer, a smaller r. One change is asked for where one does; else they are taken together, in
    that order.
    """
    for change in changes(setting):
        if (peak := estimate(shape, change.setting).peak) <= limit:
            return Advice((change.words,), peak, fits=True)
    words: dict[str, str] = {}
    peak = estimate(shape, setting).peak
    while peak > limit:
        following = next((change for change in changes(setting) if estimate(shape, change.setting).peak < peak), None)
        if following is None:
            return Advice(tuple(words.values()), peak, fits=False)
        words[following.words.partition(":")[0]] = (
            following.words
        )  # a later value of the same key stands for the earlier
        setting = following.setting
        peak = estimate(shape, setting).peak
    return Advice(tuple(words.values()), peak, fits=True)


def changes(setting: Setting) -> Iterator[Change]:
    """What could be changed, in order; each alone."""
    if not setting.is_checkpointed:
        yield Change("train.activation_checkpointing: true", replace(setting, is_checkpointed=True))
    yield from _smaller_passes(setting)
    yield from _shorter_rows(setting)
    if setting.method == "full":
        yield Change("train.method: lora", replace(setting, method="lora"))
    if setting.method != "qlora":
        yield Change("train.method: qlora", replace(setting, method="qlora"))
    if setting.is_cuda and setting.optim != "paged_adamw_8bit":
        yield Change("train.optim: paged_adamw_8bit", replace(setting, optim="paged_adamw_8bit"))
    if setting.method != "full":
        yield from _smaller_adapters(setting)


def _smaller_passes(setting: Setting) -> Iterator[Change]:
    for parts in range(2, setting.rows + 1):
        rows, accumulation = setting.rows // parts, setting.accumulation * parts
        if setting.rows % parts:
            continue
        if setting.may_split:
            yield Change(f"train.micro_batch_tokens: {rows * setting.length}", replace(setting, rows=rows))
        else:
            words = f"train.per_device_train_batch_size: {rows}, train.gradient_accumulation_steps: {accumulation}"
            yield Change(words, replace(setting, rows=rows, batch=rows, accumulation=accumulation))


def _shorter_rows(setting: Setting) -> Iterator[Change]:
    length = setting.length // 2
    while length >= LEAST_LENGTH:
        yield Change(f"train.max_length and clean.max_tokens: {length}", replace(setting, length=length))
        length //= 2


def _smaller_adapters(setting: Setting) -> Iterator[Change]:
    r = setting.lora.r // 2
    while r >= LEAST_R:
        yield Change(f"lora.r: {r}", replace(setting, lora=setting.lora.model_copy(update={"r": r})))
        r //= 2
