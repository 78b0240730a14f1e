"""What a run's record holds of its gate, and the verdict computed from it again."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from flows.git import show_bytes, show_file
from flows.record import run_folder
from flows.run_branches import run_revision
from flows.run_record import RunRecord
from tasks import paths
from tasks.errors import RunNotFound
from tasks.files import parse_json
from tasks.gate_changes import changed
from tasks.gate_evidence import Case, NoEvidence, parse_evaluation
from tasks.records import Champion, Evaluation, Sample, TrainingPoint, TrainMetrics
from tasks.verdict import Training, unreadable, whole_verdict
from tasks.verdict_records import GateEvidence, Verdict

Kind = TypeVar("Kind", bound=BaseModel)


@dataclass(frozen=True)
class Kept:
    """Files that lie beside a run's record, in its commit."""

    root: Path
    run_id: str

    @property
    def revision(self) -> str:
        """The run's branch."""
        return run_revision(self.root, self.run_id)

    def text(self, name: str) -> str:
        """The text of one file.

        Raises:
            RunNotFound: the run kept none of that name.
        """
        found = show_file(self.root, self.revision, (run_folder(self.run_id) / name).as_posix())
        if found is None:
            raise self.lacks(name)
        return found

    def lacks(self, name: str) -> RunNotFound:
        """That there is no such file, and why that may be."""
        return RunNotFound(
            f"run {self.run_id} has no {name} on record: its gate was not reached, or it was recorded by an earlier "
            "version; `tunegate audit show` says how it ended"
        )

    def record(self, name: str, kind: type[Kind]) -> Kind:
        """One JSON file, parsed."""
        return parse_json(self.text(name), kind, f"{self.revision}:{name}")

    def samples(self, name: str) -> list[Sample]:
        """The samples of one model; none where the run kept none."""
        found = show_bytes(self.root, self.revision, (run_folder(self.run_id) / name).as_posix())
        lines = [] if found is None else gzip.decompress(found).decode().splitlines()
        return [parse_json(line, Sample, name) for line in lines]


def replay(root: Path, record: RunRecord, settings: Sequence[str]) -> Verdict:
    """The verdict of a run, computed again from what it kept, with other parameters of the gate if asked.

    Raises:
        RunNotFound: the run kept too little.
        ParamsInvalid: a setting is wrong.
    """
    gate = changed(record.params.get("gate", {}), settings)
    kept = Kept(root, record.run_id)
    champion = show_file(root, kept.revision, paths.CHAMPION.as_posix())
    if champion is None:
        raise kept.lacks(paths.CHAMPION.name)
    evidence = kept.record("gate_evidence.json", GateEvidence)
    try:
        base = _evaluation(kept, "base.json", paths.EVALUATE_BASE)
        candidate = _evaluation(kept, "candidate.json", paths.EVALUATE_CANDIDATE)
    except NoEvidence as reason:
        return unreadable(gate, evidence, reason)
    case = Case(base, candidate, parse_json(champion, Champion, f"{kept.revision}:{paths.CHAMPION}"), evidence)
    lines = kept.text("train_history.jsonl").splitlines()
    history = [parse_json(line, TrainingPoint, f"{kept.revision}:train_history.jsonl") for line in lines]
    return whole_verdict(gate, case, Training(history, kept.record("train_metrics.json", TrainMetrics)))


def _evaluation(kept: Kept, name: str, stage: Path) -> Evaluation:
    """An evaluation as the gate read it, under the name that it had there."""
    return parse_evaluation(kept.text(name), str(stage / paths.EVALUATION))
