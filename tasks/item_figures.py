"""A figure for every item, out of what lm-eval keeps for it, such that the harness's own figure is their mean.

Models are compared in pairs, item by item. Accuracies are means already; a perplexity is not, but its logarithm is the
mean of parts, one of each item, whose weights are the item's words or bytes and so the same for every model.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal

_CLOSE = 1e-9


@dataclass(frozen=True)
class ItemFigures:
    """The parts of one score; on scale `log` the score is e to the power of their mean."""

    parts: tuple[float, ...]
    scale: Literal["mean", "log"]

    @property
    def value(self) -> float:
        """The score that the parts make."""
        mean = sum(self.parts) / len(self.parts)
        return math.exp(mean) if self.scale == "log" else mean


def item_figures(values: Sequence[object], figure: float) -> ItemFigures | None:
    """The parts of `values` that make the harness's `figure`; None where no item has a part of its own (BLEU, F1)."""
    for found in _decompositions(values):
        if math.isclose(found.value, figure, rel_tol=_CLOSE, abs_tol=_CLOSE):
            return found
    return None


def _decompositions(values: Sequence[object]) -> Iterator[ItemFigures]:
    """The parts of lm-eval's aggregations `mean`, `perplexity`, `weighted_perplexity` and `bits_per_byte`."""
    if all(isinstance(value, Real) for value in values):
        plain = [float(value) for value in values]  # type: ignore[arg-type]  # just checked
        yield ItemFigures(tuple(plain), "mean")
        yield from _logarithmic([-value for value in plain])
    elif all(isinstance(value, tuple) and len(value) == 2 for value in values):
        pairs = [(float(value[0]), float(value[1])) for value in values]  # type: ignore[index]  # just checked
        if (weights := sum(weight for _, weight in pairs)) > 0:
            parts = [-likelihood * len(pairs) / weights for likelihood, _ in pairs]
            yield from _logarithmic(parts)
            yield ItemFigures(tuple(part / math.log(2) for part in parts), "mean")


def _logarithmic(parts: Sequence[float]) -> Iterator[ItemFigures]:
    found = ItemFigures(tuple(parts), "log")
    try:
        _ = found.value
    except OverflowError:  # then no figure is finite either
        return
    yield found
