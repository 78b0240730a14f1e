"""Whether a scheduled run trains, and why not: pure functions over what was looked at before anything expensive."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from flows.data_diff import DataDiff
from flows.run_record import Decision, RunRecord, StageOutcome
from tasks.params import RetrainParams

LOOKED_AT = frozenset({"base", "ingest", "clean", "dedup", "benchmark_items", "split", "validate"})
"""Stages that run before the decision: they make the data, and cost minutes where training costs hours."""
TRIED: frozenset[StageOutcome] = frozenset({"executed", "refused", "failed", "cancelled"})
"""Outcomes of a stage that took machine time; what was restored or unchanged took none."""


@dataclass(frozen=True)
class Used:
    """What the runs of a month took: how many of them trained, and the hours of all."""

    trainings: int
    hours: float


@dataclass(frozen=True)
class RowChange:
    """How the rows differ from those of the run `since`: new ones, those of them that can be used, and gone ones."""

    since: str
    new: int
    usable: int
    gone: int


def has_verdict(run: RunRecord) -> bool:
    """Whether a run trained and was judged; one that died after its verdict has to be run again."""
    return run.verdict is not None and run.status in {"passed", "refused", "inconclusive"}


def last_judged(runs: Iterable[RunRecord], name: str) -> RunRecord | None:
    """The newest whole run with a verdict whose model would be released as `name`, of runs with the newest first.

    A candidate of a sweep ends at the gate: its data has been tried, and nothing that could be released came of it.
    """
    return next((run for run in runs if has_verdict(run) and run.until is None and _name_of(run) == name), None)


def _name_of(run: RunRecord) -> object:
    release = run.params.get("release")
    return release.get("name") if isinstance(release, dict) else None


def used_in(month: str, runs: Iterable[RunRecord]) -> Used:
    """What the runs took that began in `month`, written 2026-11, in UTC."""
    of_month = [run for run in runs if run.started_at.startswith(month)]
    seconds = sum(_seconds(run) for run in of_month)
    return Used(sum(map(_has_trained, of_month)), seconds / 3600)


def _seconds(run: RunRecord) -> float:
    return (datetime.fromisoformat(run.finished_at) - datetime.fromisoformat(run.started_at)).total_seconds()


def _has_trained(run: RunRecord) -> bool:
    return any(stage.outcome in TRIED and stage.name not in LOOKED_AT for stage in run.stages)


def row_change(diff: DataDiff, since: str) -> RowChange:
    """The rows that came and went, from the data of the run `since`, which is the first of `diff`."""
    usable = sum(move.rows for move in diff.added if move.b.startswith("kept "))
    new, gone = (sum(move.rows for move in side) for side in (diff.added, diff.removed))
    return RowChange(since, new, usable, gone)


def reason_to_skip(params: RetrainParams, used: Used, same_as: str | None) -> Decision | None:
    """What can be known without a worktree: the run skips for this reason, or None where the data has to be looked at.

    Args:
        params: the section `retrain`.
        used: what the runs of this month took.
        same_as: the last run with a verdict, when its commit had exactly the files that this one has.
    """
    if same_as is not None:
        return Decision(
            action="skip",
            cause="nothing_new",
            why=f"nothing new: every file in git is as in run {same_as}",
            compared_with=same_as,
            new_rows=0,
            gone_rows=0,
        )
    if params.max_runs_per_month is not None and used.trainings >= params.max_runs_per_month:
        limit = f"retrain.max_runs_per_month is {params.max_runs_per_month}"
        return Decision(
            action="skip", cause="runs_used", why=f"the month's runs are used: {used.trainings} trained, {limit}"
        )
    if params.max_hours_per_month is not None and used.hours >= params.max_hours_per_month:
        limit = f"retrain.max_hours_per_month is {params.max_hours_per_month:g}"
        return Decision(action="skip", cause="hours_used", why=f"the month's hours are used: {used.hours:.1f}, {limit}")
    return None


def decide_by_rows(params: RetrainParams, change: RowChange | str | None) -> Decision:
    """Train or skip by the rows that the data stages made.

    Args:
        params: the section `retrain`.
        change: against the last run with a verdict; a text says why it cannot be compared, None that there is none.
    """
    if change is None:
        return Decision(action="train", cause="first_run", why="no run on record has a verdict yet")
    if isinstance(change, str):
        why = f"the data cannot be compared, so it counts as new: {change}"
        return Decision(action="train", cause="cannot_compare", why=why)
    counts = {"compared_with": change.since, "new_rows": change.usable, "gone_rows": change.gone}
    told = f"since {change.since} {change.usable} usable rows came ({change.new} in all) and {change.gone} went"
    if change.new == change.gone == 0:
        return Decision.model_validate(
            {"action": "skip", "cause": "nothing_new", "why": f"nothing new: no row came or went since {change.since}"}
            | counts
        )
    if change.usable < params.min_new_rows:
        why = f"too few new rows: {told}; retrain.min_new_rows is {params.min_new_rows}"
        return Decision.model_validate({"action": "skip", "cause": "too_few_new_rows", "why": why} | counts)
    return Decision.model_validate({"action": "train", "cause": "new_rows", "why": told} | counts)
