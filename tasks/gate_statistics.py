"""The gate's statistics: p-values that need no normal distribution, Holm's adjustment, intervals, items needed.

What is decided is always the mean of one number per item, paired differences mostly, that is bounded from below and
above. Its p-value comes from Gaffke's bound (N. Gaffke, "Three test statistics for a nonparametric one-sided
hypothesis on the mean of a nonnegative variable", Mathematical Methods of Statistics 14, 2005): the Bayesian bootstrap
(Rubin, Annals of Statistics 9, 1981) with one more item, which has the worst possible value. For outcomes of two values
it is the exact binomial test (Clopper and Pearson, Biometrika 26, 1934), for paired ones without a margin the exact
test of McNemar (Psychometrika 12, 1947). With a margin it is one integral, for other bounded values it is drawn; that
it keeps its level there is a conjecture of the paper, which enumeration (tests/unit/test_gate_statistics.py) and
simulation (benchmarks/gate.py) bear out.

Only `scipy.special` is used: `scipy.stats` takes a second to import, and a verdict is replayed in two.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tasks.verdict_records import Method

Floats = NDArray[np.float64]

NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)
TAIL = 1e-13
"""What is left out of an integral on either side."""
DRAWN_AT_ONCE = 2_000_000
FEW_VALUES = 8
POWER = 0.8
"""How likely a decision is to be with the number of items that `items_needed` gives."""


@dataclass(frozen=True)
class Drawing:
    """How often, and from which seed, what has no closed form is drawn."""

    resamples: int
    seed: int


@dataclass(frozen=True)
class Outcomes:
    """A number per item between `lowest` and `highest`, of which more is better."""

    values: Floats
    lowest: float
    highest: float

    @property
    def mean(self) -> float:
        """The mean over the items."""
        return float(self.values.mean())


@dataclass(frozen=True)
class Evidence:
    """Two p-values about "the mean is at least `threshold`": that it holds, and that it does not."""

    holds: float
    broken: float
    method: Method


def weigh(outcomes: Outcomes, threshold: float, drawing: Drawing) -> Evidence:
    """The p-values of both one-sided hypotheses about the mean.

    Returns:
        `holds` tests "the mean is at most the threshold", `broken` "it is at least the threshold".
    """
    low, high = outcomes.lowest, outcomes.highest
    middle, half = (low + high) / 2, (high - low) / 2
    scaled, asked = (outcomes.values - middle) / half, (threshold - middle) / half
    losses, ties, wins = (int((scaled == value).sum()) for value in (-1.0, 0.0, 1.0))
    if losses + ties + wins < len(scaled):
        holds, broken = _drawn(scaled, asked, drawing)
        return Evidence(holds, broken, "bounded_mean")
    is_binary = ties == 0 and low >= 0
    method: Method = "exact_binomial" if is_binary else "exact_mcnemar" if asked == 0 else "three_values"
    return Evidence(three_values(wins, ties, losses, asked), three_values(losses, ties, wins, -asked), method)


def three_values(wins: float, ties: float, losses: float, threshold: float) -> float:
    """The p-value of "the mean of values 1, 0 and -1 is at most `threshold`", from how often each was seen.

    With Dirichlet weights the mean is D (2 R - 1), D the weight of all items that differ and R the winners' part of it,
    both Beta-distributed and independent: P(D (2 R - 1) <= threshold), the extra item among the losers.
    """
    lost = losses + 1  # the item with the worst value
    if wins == 0:
        return 1.0 if threshold >= 0 else float(special.betainc(ties, lost, 1 + threshold)) if ties else 1.0
    if threshold == 0 or ties == 0:
        return float(special.betainc(wins, lost, min(max((1 + threshold) / 2, 0.0), 1.0)))
    low, high = special.betaincinv(wins + lost, ties, TAIL), special.betainccinv(wins + lost, ties, TAIL)
    differing = low + (high - low) * (NODES + 1) / 2
    part = special.betainc(wins, lost, np.clip((1 + threshold / differing) / 2, 0.0, 1.0))
    log_density = (
        (wins + lost - 1) * np.log(differing) + (ties - 1) * np.log1p(-differing) - special.betaln(wins + lost, ties)
    )
    weights = WEIGHTS * np.exp(log_density)
    return float(min(1.0, (weights * part).sum() / weights.sum()))


def _drawn(values: Floats, threshold: float, drawing: Drawing) -> tuple[float, float]:
    """Both p-values of values between -1 and 1, drawn: Dirichlet weights of the items and of one at the worst end.

    One is added to the counts, so that a p-value of drawings is none that is too small.
    """
    seen, counts = np.unique(values, return_counts=True)
    shapes = np.append(counts, 1).astype(np.float64)
    generator, left = np.random.default_rng(drawing.seed), drawing.resamples
    at_most = at_least = 0
    while left:
        rows = min(left, max(1, DRAWN_AT_ONCE // len(shapes)))
        weights = generator.standard_gamma(shapes, size=(rows, len(shapes)))
        weights /= weights.sum(axis=1, keepdims=True)
        means, extra = weights[:, :-1] @ seen, weights[:, -1]
        at_most += int((means - extra <= threshold).sum())
        at_least += int((means + extra >= threshold).sum())
        left -= rows
    return (at_most + 1) / (drawing.resamples + 1), (at_least + 1) / (drawing.resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number (Holm, Scandinavian Journal of Statistics 6, 1979), in the same order."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def interval(values: Floats, confidence: float, drawing: Drawing) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean, as `scipy.stats.bootstrap` has it (a test holds them together)."""
    seen, counts = np.unique(values, return_counts=True)
    if len(seen) == 1:
        return float(seen[0]), float(seen[0])
    generator, size = np.random.default_rng(drawing.seed), len(values)
    if len(seen) <= FEW_VALUES:  # how often each value is drawn is all that matters
        means = generator.multinomial(size, counts / size, size=drawing.resamples) @ seen / size
    else:
        rows = max(1, DRAWN_AT_ONCE // size)
        parts = [
            values[generator.integers(size, size=(min(rows, drawing.resamples - start), size))].mean(axis=1)
            for start in range(0, drawing.resamples, rows)
        ]
        means = np.concatenate(parts)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def items_needed(outcomes: Outcomes, threshold: float, alpha: float) -> int | None:
    """How many items would decide, with probability `POWER`, if all of them were as those that were measured.

    That is n = ((z(1 - alpha) + z(power)) s / (mean - threshold))^2, s the standard deviation found, and no fewer than
    the n at which not a single item to the contrary would decide. None where the mean lies on the threshold.
    """
    distance = outcomes.mean - threshold
    if abs(distance) < 1e-12:
        return None
    wanted = NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(POWER)
    by_spread = (wanted * float(outcomes.values.std()) / distance) ** 2
    room = outcomes.mean - outcomes.lowest if distance > 0 else outcomes.highest - outcomes.mean
    without_contrary = math.log(alpha) / math.log1p(-min(abs(distance) / room, 1 - 1e-12))
    return max(math.ceil(by_spread), math.ceil(without_contrary), len(outcomes.values) + 1)
