"""Whether a scheduled run trains: by rows, by the budget of the month, by what is the same as before."""

import pytest

from flows.data_diff import DataDiff, FateMove
from flows.decision import (
    RowChange,
    Used,
    decide_by_rows,
    has_verdict,
    last_judged,
    reason_to_skip,
    row_change,
    used_in,
)
from flows.run_record import Decision, RunRecord, RunStatus, StageOutcome, StageRecord
from tasks.params import RetrainParams
from tests.flows.fake_run import passed_record, refused_record

NOTHING_USED = Used(0, 0.0)
SINCE = "20261120-081502-3f9c"


def params(
    *, min_new_rows: int = 1, max_runs_per_month: int | None = None, max_hours_per_month: float | None = None
) -> RetrainParams:
    return RetrainParams(
        fetch=True, min_new_rows=min_new_rows, max_runs_per_month=max_runs_per_month,
        max_hours_per_month=max_hours_per_month, on_busy="skip", max_wait_seconds=1, notify=[],
    )  # fmt: skip


def record(run_id: str, began: str, ended: str, *stages: tuple[str, StageOutcome]) -> RunRecord:
    made = [
        StageRecord(name=name, outcome=outcome, seconds=1.0, exit_code=0, output_digests={}, message="")
        for name, outcome in stages
    ]
    update = {"run_id": run_id, "started_at": began, "finished_at": ended, "stages": tuple(made)}
    return passed_record().model_copy(update=update)


@pytest.mark.parametrize(
    ("change", "action", "cause"),
    [
        (None, "train", "first_run"),
        ("the cache has lost it", "train", "cannot_compare"),
        (RowChange(SINCE, new=0, usable=0, gone=0), "skip", "nothing_new"),
        (RowChange(SINCE, new=9, usable=4, gone=0), "skip", "too_few_new_rows"),
        (RowChange(SINCE, new=0, usable=0, gone=3), "skip", "too_few_new_rows"),
        (RowChange(SINCE, new=5, usable=5, gone=0), "train", "new_rows"),
    ],
)
def test_the_rows_decide(change: RowChange | str | None, action: str, cause: str) -> None:
    decision = decide_by_rows(params(min_new_rows=5), change)
    assert (decision.action, decision.cause) == (action, cause)


def test_the_reason_has_the_figures_and_the_parameter() -> None:
    decision = decide_by_rows(params(min_new_rows=5), RowChange(SINCE, new=9, usable=4, gone=2))
    assert decision.why == (
        f"too few new rows: since {SINCE} 4 usable rows came (9 in all) and 2 went; retrain.min_new_rows is 5"
    )
    assert (decision.compared_with, decision.new_rows, decision.gone_rows) == (SINCE, 4, 2)


def test_of_the_rows_that_came_those_are_usable_that_a_partition_keeps() -> None:
    moves = {"kept in train": 3, "kept in test": 1, "clean · too_short": 5}
    added = tuple(FateMove(a="", b=fate, rows=rows, ids=()) for fate, rows in moves.items())
    removed = (FateMove(a="kept in train", b="", rows=2, ids=()),)
    diff = DataDiff(
        a="run a", b="b", rows_a=9, rows_b=16, counts=(), added=added, removed=removed, moved=(), changed=(), params=(),
        benchmark_items=(), notes=(),
    )  # fmt: skip
    assert row_change(diff, SINCE) == RowChange(SINCE, new=9, usable=4, gone=2)


def test_the_same_files_are_nothing_new_whatever_the_budget() -> None:
    decision = reason_to_skip(params(max_runs_per_month=1), Used(9, 9.0), SINCE)
    assert decision is not None
    assert (decision.cause, decision.why) == ("nothing_new", f"nothing new: every file in git is as in run {SINCE}")


@pytest.mark.parametrize(
    ("limits", "used", "cause"),
    [
        (params(), Used(1000, 700.0), None),
        (params(max_runs_per_month=4), Used(3, 0.0), None),
        (params(max_runs_per_month=4), Used(4, 0.0), "runs_used"),
        (params(max_hours_per_month=2.5), Used(0, 2.4), None),
        (params(max_hours_per_month=2.5), Used(0, 2.5), "hours_used"),
    ],
)
def test_a_budget_that_is_used_skips(limits: RetrainParams, used: Used, cause: str | None) -> None:
    decision = reason_to_skip(limits, used, None)
    assert (decision.cause if decision else None) == cause


def test_the_budget_counts_the_trainings_of_the_month_and_the_hours_of_all_its_runs() -> None:
    runs = [
        record("a", "2026-11-01T00:00:00Z", "2026-11-01T02:00:00Z", ("ingest", "executed"), ("train", "failed")),
        record("b", "2026-11-02T00:00:00Z", "2026-11-02T00:30:00Z", ("ingest", "executed"), ("train", "not_run")),
        record("c", "2026-11-03T00:00:00Z", "2026-11-03T00:30:00Z", ("train", "restored"), ("gate", "unchanged")),
        record("d", "2026-10-31T23:00:00Z", "2026-11-01T01:00:00Z", ("train", "executed")),
    ]
    assert used_in("2026-11", runs) == Used(trainings=1, hours=3.0)


@pytest.mark.parametrize(
    ("status", "counts"),
    [("passed", True), ("refused", True), ("inconclusive", True), ("crashed", False), ("cancelled", False),
     ("skipped", False)],
)  # fmt: skip
def test_data_was_learned_from_where_a_verdict_came_to_its_end(status: RunStatus, *, counts: bool) -> None:
    assert has_verdict(passed_record().model_copy(update={"status": status})) == counts
    assert not has_verdict(passed_record().model_copy(update={"status": status, "verdict": None}))


def test_the_newest_run_with_a_verdict_is_what_is_compared_with() -> None:
    skipped = passed_record().model_copy(update={"status": "skipped", "verdict": None})
    named = [
        run.model_copy(update={"params": {"release": {"name": "router"}}})
        for run in (refused_record(), passed_record())
    ]
    assert last_judged([skipped, *named], "router") == named[0]
    assert last_judged([skipped, *named], "another-model") is None
    assert last_judged([skipped], "router") is None


def test_a_candidate_of_a_sweep_is_not_what_is_compared_with() -> None:
    router = {"params": {"release": {"name": "router"}}}
    trial, whole = (refused_record().model_copy(update=router | {"until": until}) for until in ("gate", None))
    assert last_judged([trial, whole], "router") == whole
    assert last_judged([trial], "router") is None


def test_a_decision_is_on_record_with_the_run() -> None:
    decision = Decision(action="skip", cause="busy", why="another run")
    made = passed_record().model_copy(update={"decision": decision})
    assert RunRecord.model_validate_json(made.model_dump_json()).decision == decision
