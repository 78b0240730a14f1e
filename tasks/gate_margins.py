"""Margins that a benchmark has too few items for: known before a run, from the parameters and the items alone."""

import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist

from tasks.params_gate import GateParams, Rule

FLIPPED = 0.1
"""The share of items that two equally good models are taken to answer differently; between 0.05 and 0.2 is usual."""


def items_for_margin(margin: float, alpha: float, flipped: float = FLIPPED) -> int:
    """The items that give an even chance to prove that an unchanged model loses less than `margin`, above 0.

    `flipped` items of 1 or -1 and others of 0 have the standard deviation sqrt(flipped): n = flipped (z / margin)^2.
    """
    return math.ceil(flipped * (NormalDist().inv_cdf(1 - alpha) / margin) ** 2)


def undecidable_margins(gate: GateParams, items: Mapping[str, int]) -> Iterator[str]:
    """A line for each loss that is allowed and can hardly be proved; benchmarks not in `items` are not looked at."""
    for rule in gate.rules:
        for name in ("max_loss_from_base", "max_loss_from_champion"):
            if rule.benchmark in items and (margin := getattr(rule, name)) is not None:
                yield from _of_margin(rule, name, margin, items[rule.benchmark], 1 - gate.confidence)


def _of_margin(rule: Rule, name: str, margin: float, items: int, alpha: float) -> Iterator[str]:
    what = f"gate.rules {rule.benchmark} {rule.metric}: {name} {margin:g}"
    if margin == 0:
        yield f"{what} passes only what is proved better; an unchanged model would be inconclusive"
        return
    needed = items_for_margin(margin / (rule.range[1] - rule.range[0]), alpha)
    if needed > items:
        yield (
            f"{what} can hardly be decided by its {items} items: a model that is as good and answers "
            f"{FLIPPED:.0%} of them otherwise would be inconclusive more often than not; take {needed} items or a "
            "wider margin"
        )
