"""Which partition a row belongs to and how often it is seen, on plain values: by hashes, so that no row moves another.

A row's fate is a number, `FATES[number]`, for there may be millions: the first three keep it in a partition, the others
are rules that drop it. What is drawn is drawn by the hash of the seed and of a name that rows appended later do not
change: a partition by the anchor of the row's cluster, everything else by the row's id.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.params_data import SplitParams

FATES = (
    "train",
    "validation",
    "test",
    "compared_only",
    "duplicate_of_test",
    "in_benchmark",
    "not_sampled",
    "replay_not_needed",
)
TRAIN, VALIDATION, TEST, COMPARED_ONLY, DUPLICATE_OF_TEST, IN_BENCHMARK, NOT_SAMPLED, REPLAY_NOT_NEEDED = range(
    len(FATES)
)


@dataclass(frozen=True)
class Rows:
    """The columns that decide, in input order."""

    ids: Sequence[str]
    sources: Sequence[str]
    roles: Sequence[str]
    clusters: Sequence[str]
    anchors: Sequence[str]


@dataclass(frozen=True)
class Decision:
    """For every row its fate, and how often an epoch shows it (0 for a row that was dropped)."""

    fates: npt.NDArray[np.uint8]
    repeats: npt.NDArray[np.int64]

    @property
    def shown_in_epoch(self) -> int:
        """How many rows an epoch of train shows."""
        return int(self.repeats[self.fates == TRAIN].sum())


def decide(
    rows: Rows, contaminated: npt.NDArray[np.bool_], weights: Mapping[str, float], params: SplitParams
) -> Decision:
    """The fate of every row.

    Args:
        rows: all of them, in input order.
        contaminated: which rows hold an item of a benchmark; rows of a test partition may.
        weights: of the sources, by name.
        params: the shares and the seed.
    """
    roles = np.array(rows.roles, dtype=object)
    fates = np.fromiter(
        (_by_role(role, anchor, params) for role, anchor in zip(rows.roles, rows.anchors, strict=True)),
        np.uint8,
        len(rows.ids),
    )
    supplied = {cluster for cluster, role in zip(rows.clusters, rows.roles, strict=True) if role == "test"}
    if supplied:
        beside = np.fromiter((cluster in supplied for cluster in rows.clusters), bool, len(rows.ids))
        fates[beside & (roles != "test") & (roles != "seen_by_base")] = DUPLICATE_OF_TEST
    fates[contaminated & ((fates == TRAIN) | (fates == VALIDATION))] = IN_BENCHMARK
    repeats = (fates <= TEST).astype(np.int64)
    for row in np.flatnonzero((fates == TRAIN) & (roles == "train")).tolist():
        repeats[row] = times_seen(rows.ids[row], weights[rows.sources[row]], params.seed)
    fates[(fates == TRAIN) & (repeats == 0)] = NOT_SAMPLED
    replay = _replay_candidates(rows, fates)
    shown = int(repeats[(fates == TRAIN) & (roles == "train")].sum())
    taken = replay_rows(rows, replay, replay_wanted(shown, len(replay), params.replay_share), weights, params.seed)
    spare = (fates == TRAIN) & (roles == "replay")
    spare[taken] = False
    fates[spare], repeats[spare] = REPLAY_NOT_NEEDED, 0
    return Decision(fates, repeats)


def _replay_candidates(rows: Rows, fates: npt.NDArray[np.uint8]) -> list[int]:
    """The replay rows that may be drawn: those that have no duplicate in validation or test."""
    held_out = {rows.clusters[row] for row in np.flatnonzero((fates == VALIDATION) | (fates == TEST)).tolist()}
    return [
        row
        for row in np.flatnonzero(fates == TRAIN).tolist()
        if rows.roles[row] == "replay" and rows.clusters[row] not in held_out
    ]


def _by_role(role: str, anchor: str, params: SplitParams) -> int:
    if role == "replay":
        return TRAIN
    if role == "test":
        return TEST
    return COMPARED_ONLY if role == "seen_by_base" else partition_of(anchor, params)


def partition_of(anchor: str, params: SplitParams) -> int:
    """The partition that the hash of (seed, anchor) falls into."""
    point = unit_hash(params.seed, anchor)
    if point < params.test_share:
        return TEST
    return VALIDATION if point < params.test_share + params.validation_share else TRAIN


def times_seen(name: str, weight: float, seed: int) -> int:
    """How often an epoch shows a row of that weight: its whole part, and once more for its fraction of the rows."""
    whole = math.floor(weight)
    fraction = weight - whole
    return whole + (fraction > 0 and unit_hash(seed, f"weight:{name}") < fraction)


def replay_wanted(shown: int, available: int, share: float) -> int:
    """How many replay rows make `share` of an epoch that shows `shown` others."""
    return available if share == 1 else math.floor(shown * share / (1 - share) + 1e-9)


def replay_rows(
    rows: Rows, candidates: Sequence[int], wanted: int, weights: Mapping[str, float], seed: int
) -> list[int]:
    """`wanted` of the candidates, drawn without replacement so that sources share them by their weights.

    Each row has the key u^(1/w) with u uniform by its hash and w its source's weight over the number of its rows; the
    largest keys are taken (Efraimidis and Spirakis 2006), here as the smallest -log(u)/w. A source that runs out leaves
    its part to the others.
    """
    counts = Counter(rows.sources[row] for row in candidates)

    def order(row: int) -> tuple[float, str]:
        name, source = rows.ids[row], rows.sources[row]
        return -math.log(1.0 - unit_hash(seed, f"replay:{name}")) * counts[source] / weights[source], name

    return sorted(candidates, key=order)[:wanted]


def unit_hash(seed: int, name: str) -> float:
    """A number in [0, 1) that depends on seed and name only."""
    return int(hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()[:13], 16) / 16**13
