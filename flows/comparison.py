"""Training methods held against each other on the same data: quality item by item, memory and speed, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue
from scipy import stats

from flows.gate_story import Kept
from flows.run_record import RunRecord
from flows.sweep import Candidate
from tasks.errors import EvidenceMissing
from tasks.gate_conditions import drawing
from tasks.gate_statistics import Floats, interval
from tasks.params_changes import with_values
from tasks.params_gate import GateParams, Rule
from tasks.paths import PARAMS
from tasks.records import Evaluation, Pace

METHODS: Mapping[str, Mapping[str, JsonValue]] = {
    "qlora": {"train.method": "qlora"},
    "lora": {"train.method": "lora", "quantization": None},
    "full": {"train.method": "full", "quantization": None, "lora": None, "train.learning_rate": 2e-5},
}
"""What each method needs changed in parameters for `qlora`. The rate of `full` is Alpaca's (Taori et al. 2023): an
adapter's rate destroys it."""


@dataclass(frozen=True)
class Measure:
    """A mean with its interval; `low` and `high` are None where one value alone was measured."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Compared:
    """One method: its runs, its scores by rule, and how far it is from the first method, item by item."""

    method: str
    records: tuple[RunRecord, ...]
    scores: tuple[float, ...]
    differences: tuple[Measure | None, ...]
    memory_gb: Measure | None
    tokens_per_second: Measure | None


def method_candidates(text: str, methods: Sequence[str], seeds: Sequence[int]) -> dict[str, list[Candidate]]:
    """For each method one candidate a seed.

    Raises:
        ParamsInvalid: the parameters lack a section that a method changes.
    """
    return {method: [_candidate(text, method, seed) for seed in seeds] for method in methods}


def _candidate(text: str, method: str, seed: int) -> Candidate:
    changes = (f"train.method={method}", f"train.seed={seed}")
    return Candidate(changes, with_values(text, [*METHODS[method].items(), ("train.seed", seed)], top=str(PARAMS)))


def compare_methods(root: Path, gate: GateParams, runs: Mapping[str, Sequence[RunRecord]]) -> list[Compared]:
    """Every method against the first one.

    Args:
        root: the repository.
        gate: whose rules name the metrics, and whose confidence the intervals have.
        runs: the judged runs of each method, a seed each, in the same order.
    """
    items = {
        method: [mean_by_item(root, records, rule) for rule in gate.rules]
        for method, records in runs.items()
        if records
    }
    first = next(iter(items.values()), [])
    return [
        Compared(
            method=method,
            records=tuple(runs[method]),
            scores=tuple(float(values.mean()) for values in found),
            differences=tuple(
                None if found is first else _difference(values - others, gate)
                for values, others in zip(found, first, strict=True)
            ),
            memory_gb=over_seeds([one.memory_gb for one in _paces(runs[method])], gate.confidence),
            tokens_per_second=over_seeds([one.tokens_per_second for one in _paces(runs[method])], gate.confidence),
        )
        for method, found in items.items()
    ]


def mean_by_item(root: Path, records: Sequence[RunRecord], rule: Rule) -> Floats:
    """The value of each item, the mean over the runs: one number an item.

    Raises:
        EvidenceMissing: a run has no such score.
    """
    values = []
    for record in records:
        kept = Kept(root, record.run_id).record("candidate.json", Evaluation)
        score = kept.score(rule.benchmark, rule.metric, rule.filter_name)
        if score is None:
            raise EvidenceMissing(f"run {record.run_id} has no score of {rule.benchmark} {rule.metric}")
        values.append(score.per_sample)
    return np.array(np.mean(values, axis=0), dtype=np.float64)


def _difference(values: Floats, gate: GateParams) -> Measure:
    low, high = interval(values, gate.confidence, drawing(gate))
    return Measure(float(values.mean()), low, high)


def _paces(records: Sequence[RunRecord]) -> list[Pace]:
    stages = [record.stage("train") for record in records]
    return [stage.pace for stage in stages if stage is not None and stage.pace is not None]


def over_seeds(values: Sequence[float], confidence: float) -> Measure | None:
    """The mean of a figure over runs, with Student's t interval (scipy.stats.t) from two runs on."""
    if not values:
        return None
    mean = float(np.mean(values))
    if len(values) < 2:
        return Measure(mean, None, None)
    error = float(stats.sem(values))
    low, high = stats.t.interval(confidence, len(values) - 1, loc=mean, scale=error) if error else (mean, mean)
    return Measure(mean, float(low), float(high))
