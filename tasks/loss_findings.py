"""A cluster of validation rows whose loss stays high while the others are learned: their labels are the first suspect.

A cluster is what rows have in common that a person can look up: their source, or their very answer. Rows of replay
sources are left out; the base answers those as it did, and their loss says nothing about labels.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

from scipy.stats import mannwhitneyu

from tasks.findings import Finding
from tasks.records import RowLoss

LEAST_ROWS = 5
"""Of a cluster, and of the rows that it is held against."""
LEAST_RATIO, LEAST_GAP = 3.0, 0.3
"""How far the mean loss of a cluster is above that of the other rows, as a ratio and in nats."""
MOST_P = 0.01
"""Of the one-sided test of Mann and Whitney (Annals of Mathematical Statistics 18, 1947), times the clusters."""
SHOWN_CHARS = 60


class Cluster(NamedTuple):
    """Rows that have something in common, held against the rest."""

    name: str
    rows: tuple[RowLoss, ...]
    others: tuple[RowLoss, ...]

    @property
    def loss(self) -> float:
        """The mean loss of its rows, in nats a token."""
        return fmean(row.loss for row in self.rows)

    @property
    def loss_of_others(self) -> float:
        """The mean loss of the other rows."""
        return fmean(row.loss for row in self.others)


def loss_findings(losses: Sequence[RowLoss]) -> Iterator[Finding]:
    """The cluster whose loss is the furthest above that of the other rows, if that is far and no chance.

    Args:
        losses: of `row_losses.measure_rows`.
    """
    clusters = list(_clusters([row for row in losses if row.role == "train"]))
    high = [cluster for cluster in clusters if _is_high(cluster, len(clusters))]
    if not high:
        return
    worst = max(high, key=lambda cluster: cluster.loss - cluster.loss_of_others)
    ids = [row.example_id for row in sorted(worst.rows, key=lambda row: -row.loss)[:3]]
    more = "" if len(high) == 1 else f", and {len(high) - 1} more such clusters"
    yield Finding(
        mode="noisy_data",
        evidence={
            "rows": len(worst.rows),
            "loss": round(worst.loss, 4),
            "loss_of_others": round(worst.loss_of_others, 4),
            "clusters": len(high),
        },
        sentence=f"the validation loss of the {len(worst.rows)} rows {worst.name} is {worst.loss:.2f}, of the other "
        f"{len(worst.others)} rows {worst.loss_of_others:.2f}{more}",
        mitigation=f"look at those rows, the worst are {', '.join(ids)} (`tunegate data why ID`): their labels may be "
        "wrong, or there are too few rows like them",
    )


def _clusters(losses: Sequence[RowLoss]) -> Iterator[Cluster]:
    for field, name in (("source", "of the source {!r}"), ("answer", "answered with {!r}")):
        for value in dict.fromkeys(getattr(row, field) for row in losses):
            rows = tuple(row for row in losses if getattr(row, field) == value)
            others = tuple(row for row in losses if getattr(row, field) != value)
            if len(rows) >= LEAST_ROWS and len(others) >= LEAST_ROWS:
                yield Cluster(name.format(_shown(value)), rows, others)


def _is_high(cluster: Cluster, tests: int) -> bool:
    if cluster.loss < LEAST_RATIO * cluster.loss_of_others or cluster.loss - cluster.loss_of_others < LEAST_GAP:
        return False
    values, others = ([row.loss for row in rows] for rows in (cluster.rows, cluster.others))
    return float(mannwhitneyu(values, others, alternative="greater").pvalue) * tests < MOST_P


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARS else f"{line[: SHOWN_CHARS - 1]}…"
