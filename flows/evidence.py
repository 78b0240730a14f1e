"""What a report shows beside the run record: the line's own files, or the sentence that says why one is absent.

A workspace may still hold outputs of an earlier run. So a file counts only when the stage that owns it came to an
end in this run; whatever else lies there is left alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from flows.row_tables import count_final, count_rows, entries_table
from flows.run_record import ENDED, RunRecord, StageOutcome
from tasks import paths
from tasks.errors import FileInvalid
from tasks.files import read_json, read_jsonl
from tasks.records import (
    Champion,
    ContaminatedItems,
    DataProfile,
    DataSummary,
    Sample,
    SupervisionAudit,
    TrainingPoint,
    TrainMetrics,
    Validation,
)

DATA_STAGES = {"ingest": paths.INGEST, "clean": paths.CLEAN, "dedup": paths.DEDUP, "split": paths.SPLIT}
_ENDS: dict[StageOutcome, str] = {"refused": "was refused", "failed": "failed", "cancelled": "was cancelled"}

Value = TypeVar("Value")


@dataclass(frozen=True)
class Found(Generic[Value]):
    """A file's content, or `missing`: the sentence that says why there is none."""

    value: Value | None
    missing: str


@dataclass(frozen=True)
class Ledger:
    """The ledgers of all data stages counted: final fates, and how many different rows they are of."""

    fates: int
    rows: int


@dataclass(frozen=True)
class Evidence:
    """What the line's files say; `champion_samples` are empty where nothing holds production, or its run kept none.

    `conflicts` counts the hints of wrong labels; `champion_data` is the profile that `profile` is compared with, and
    `docs` is the folder of Data Docs.
    """

    summaries: tuple[Found[DataSummary], ...]
    ledger: Found[Ledger]
    conflicts: Found[int]
    contaminated: Found[ContaminatedItems]
    validation: Found[Validation]
    drift: Found[Validation]
    profile: Found[DataProfile]
    champion_data: DataProfile | None
    docs: Path | None
    metrics: Found[TrainMetrics]
    history: Found[tuple[TrainingPoint, ...]]
    supervision: Found[SupervisionAudit]
    base_samples: Found[tuple[Sample, ...]]
    candidate_samples: Found[tuple[Sample, ...]]
    champion_samples: tuple[Sample, ...]


def read_evidence(record: RunRecord, workspace: Path) -> Evidence:
    """Read what the stages of this run left in `workspace`; a file that is absent or torn becomes a sentence."""

    def found(stage: str, read: Callable[[], Value]) -> Found[Value]:
        return _found(record, stage, workspace, read)

    def samples(folder: Path) -> tuple[Sample, ...]:
        return tuple(read_jsonl(workspace / folder / paths.SAMPLES, Sample))

    return Evidence(
        summaries=tuple(
            found(stage, partial(read_json, workspace / folder / paths.SUMMARY, DataSummary))
            for stage, folder in DATA_STAGES.items()
        ),
        ledger=found("split", lambda: read_ledger(workspace)),
        conflicts=found("dedup", lambda: count_rows(workspace / paths.DEDUP / paths.CONFLICTS)),
        contaminated=found("split", lambda: read_json(workspace / paths.CONTAMINATED_ITEMS, ContaminatedItems)),
        drift=found("validate", lambda: read_json(workspace / paths.DRIFT, Validation)),
        profile=found("validate", lambda: read_json(workspace / paths.DATA_PROFILE, DataProfile)),
        champion_data=champion_data(workspace),
        docs=data_docs(record, workspace),
        validation=found("validate", lambda: read_json(workspace / paths.VALIDATION, Validation)),
        metrics=found("train", lambda: read_json(workspace / paths.TRAIN_METRICS, TrainMetrics)),
        history=found("train", lambda: tuple(read_jsonl(workspace / paths.TRAIN_HISTORY, TrainingPoint))),
        supervision=found("train", lambda: read_json(workspace / paths.SUPERVISION, SupervisionAudit)),
        base_samples=found("evaluate_base", lambda: samples(paths.EVALUATE_BASE)),
        candidate_samples=found("evaluate_candidate", lambda: samples(paths.EVALUATE_CANDIDATE)),
        champion_samples=champion_samples(workspace),
    )


def read_ledger(workspace: Path) -> Ledger:
    """Count the final fates over the ledgers of all data stages.

    Raises:
        FileInvalid: a ledger is missing or torn.
    """
    return Ledger(*count_final(entries_table([workspace / folder / paths.LEDGER for folder in DATA_STAGES.values()])))


def champion_data(workspace: Path) -> DataProfile | None:
    """What the data of the champion's run looked like; None when there is no champion, or its run kept no profile."""
    try:
        return read_json(workspace / paths.CHAMPION, Champion).data
    except FileInvalid:
        return None


def champion_samples(workspace: Path) -> tuple[Sample, ...]:
    """What the champion answered; nothing when there is no champion, or its run kept no samples."""
    try:
        return tuple(read_jsonl(workspace / paths.CHAMPION_SAMPLES, Sample))
    except FileInvalid:
        return ()


def data_docs(record: RunRecord, workspace: Path) -> Path | None:
    """The folder of Data Docs that this run wrote."""
    folder = workspace / paths.DATA_DOCS
    return folder if not why_missing(record, "validate") and (folder / "index.html").is_file() else None


def _found(record: RunRecord, stage: str, workspace: Path, read: Callable[[], Value]) -> Found[Value]:
    if reason := why_missing(record, stage):
        return Found(None, reason)
    try:
        return Found(read(), "")
    except FileInvalid as error:
        message = str(error).replace(f"{workspace}/", "").split(":")[0]
        return Found(None, f"The stage {stage} ended, but its file {message} is missing or cannot be read.")


def why_missing(record: RunRecord, stage: str) -> str:
    """Say why `stage` has no outputs in this run; empty when it came to an end."""
    own = record.stage(stage)
    if own is None:
        return f"The stage {stage} is not part of this run."
    if own.outcome in ENDED:
        return ""
    if own.outcome != "not_run":
        return f"The stage {stage} {_ENDS[own.outcome]}."
    stop = next((other for other in record.stages if other.outcome in _ENDS), None)
    if stop is None and record.until is not None:
        return f"The stage {stage} did not run: the run was asked to stop after {record.until}."
    if stop is None:
        return f"The stage {stage} did not run: the run ended before it."
    return f"The stage {stage} did not run: {stop.name} {_ENDS[stop.outcome]} before it."
