"""What a scheduled run looks at in its worktree before it trains: are the sources there, what is new in the data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows import data_diff, outputs
from flows.decision import LOOKED_AT, RowChange, decide_by_rows, row_change
from flows.fetch import missing_sources
from flows.record import Progress
from flows.reproduce import Stage
from flows.run_record import Decision
from flows.workspace import RunPlace
from tasks.errors import FileInvalid, RunNotFound
from tasks.params import RetrainParams


@dataclass(frozen=True)
class Look:
    """Decides in the worktree of a scheduled run; `since` is the last run with a verdict, None where there is none."""

    params: RetrainParams
    since: str | None
    notes: tuple[str, ...]

    def finds_sources(self, place: RunPlace, progress: Progress) -> bool:
        """Whether the data that DVC tracks is there, from its remote where it has to be; else the run is skipped."""
        missing = missing_sources(place.worktree)
        if missing is None:
            return True
        self._settle(progress, Decision(action="skip", cause="data_not_there", why=missing))
        return False

    def in_order(self, stages: Sequence[Stage]) -> list[Stage]:
        """The stages with those first that the decision needs; the order within both parts stays."""
        return sorted(stages, key=lambda stage: stage.name not in LOOKED_AT)

    def stops_before(self, stage: Stage, place: RunPlace, progress: Progress) -> bool:
        """Decide once, by the rows that the data stages made; whether the run ends before `stage`, skipped."""
        if stage.name in LOOKED_AT or progress.decision is not None:
            return False
        self._settle(progress, decide_by_rows(self.params, self._change(place.root, place.worktree)))
        return progress.status == "skipped"

    def note_refused_data(self, progress: Progress) -> None:
        """Turn a refusal by a data stage into a skip: there is no candidate that could have been refused."""
        why = f"the data was refused: {progress.reason}"
        self._settle(progress, Decision(action="skip", cause="data_refused", why=why, compared_with=self.since))

    def _change(self, root: Path, worktree: Path) -> RowChange | str | None:
        if self.since is None:
            return None
        try:
            before, after = outputs.run_outputs(root, self.since), outputs.workspace_outputs(worktree)
            return row_change(data_diff.compare(before, after), self.since)
        except (FileInvalid, RunNotFound) as error:  # the cache may have been cleaned since
            return str(error).splitlines()[0]

    def _settle(self, progress: Progress, decision: Decision) -> None:
        progress.decision = decision.model_copy(update={"notes": self.notes})
        if decision.action == "skip":
            progress.status, progress.reason = "skipped", decision.why
