"""The interval of a score, the same in the record, the report and the model card."""

import math
from statistics import NormalDist

from tasks.records import Score


def score_interval(score: Score, confidence: float) -> tuple[float, float] | None:
    """The interval of a score: Wilson's for shares (1927), which stays honest at 0 and 1; else the normal one."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    if score.samples and score.per_sample and set(score.per_sample) <= {0.0, 1.0}:
        n, p = score.samples, score.value
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)
    if score.stderr is None:
        return None
    return score.value - z * score.stderr, score.value + z * score.stderr
