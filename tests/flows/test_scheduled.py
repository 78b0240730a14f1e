"""The scheduled flow: it skips or trains for the right reason, is on record either way, and leaves nothing behind."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.client.schemas.objects import State

from flows import workspace
from flows.git import git
from flows.record import Progress, now, read_run
from flows.retrain import commit_record
from flows.run_branches import read_runs
from flows.run_record import RunRecord
from flows.scheduled import scheduled_retrain
from tasks import paths
from tasks.errors import KeyInvalid
from tasks.records import LedgerEntry
from tasks.tables import write_examples, write_records
from tests.flows.test_data_commands import entry, example
from tests.flows.test_retrain import is_clean, outcomes, user_state
from tests.flows.tiny_line import let, let_gate_refuse
from tests.flows.tiny_repo import commit

DEAD = "20260102-030405-aaaa"

pytestmark = pytest.mark.usefixtures("prefect_server", "plain_git")


def go(root: Path, **options: str) -> tuple[State, RunRecord]:
    """Run the scheduled flow; its state and the newest record."""
    state = scheduled_retrain(str(root), release=False, return_state=True, **options)
    return state, read_runs(root)[0]


def give_rows(root: Path, *ids: str, broken: int = 0) -> None:
    """Let the stage `ingest` make these rows, and some broken ones, and commit that."""
    made = root / "made/ingest/files" / paths.INGEST
    write_examples(made / paths.EXAMPLES, [example(name, line, name) for line, name in enumerate(ids)])
    lost = [entry(f"broken{number}", number, "ingest", "dropped", "json_syntax") for number in range(broken)]
    write_records(made / paths.LEDGER, lost, LedgerEntry)
    commit(root, f"{len(ids)} rows, {broken} broken")


def want(root: Path, old: str, new: str) -> None:
    """Change the parameters, and commit that."""
    text = (root / "params.yaml").read_text(encoding="utf-8")
    assert old in text
    (root / "params.yaml").write_text(text.replace(old, new), encoding="utf-8")
    commit(root, new)


@pytest.fixture
def judged(short_line: Path) -> Path:
    """A line whose first scheduled run passed on two rows."""
    give_rows(short_line, "one", "two")
    go(short_line)
    return short_line


def cause(run: RunRecord) -> str | None:
    return run.decision.cause if run.decision else None


def test_the_first_scheduled_run_trains_and_says_who_asked(short_line: Path) -> None:
    before = user_state(short_line)
    state, run = go(short_line)
    assert (state.name, run.status, run.trigger, cause(run)) == ("Passed", "passed", "schedule", "first_run")
    assert user_state(short_line) == before
    assert is_clean(short_line)


def test_with_the_same_files_nothing_is_started_and_the_skip_is_on_record(judged: Path) -> None:
    first = read_runs(judged)[0]
    state, run = go(judged)
    assert (state.name, run.status, cause(run)) == ("Skipped", "skipped", "nothing_new")
    assert run.reason == f"nothing new: every file in git is as in run {first.run_id}"
    assert run.stages == ()
    assert git(judged, "diff", "--name-only", run.snapshot_commit, run.branch) == f"runs/{run.run_id}/record.json"
    assert is_clean(judged)


def test_where_files_differ_and_rows_do_not_the_data_alone_is_looked_at(judged: Path) -> None:
    (judged / "notes.txt").write_text("a note\n", encoding="utf-8")
    commit(judged, "a note")
    state, run = go(judged)
    assert (state.name, cause(run)) == ("Skipped", "nothing_new")
    assert outcomes(run)["gate"] == "not_run"
    assert is_clean(judged)


def test_too_few_usable_rows_skip_and_enough_of_them_train_also_after_skipped_runs(judged: Path) -> None:
    want(judged, "min_new_rows: 1 ", "min_new_rows: 2 ")
    give_rows(judged, "one", "two", "three", broken=5)
    first = read_runs(judged)[0].run_id
    _, run = go(judged)
    assert (run.status, cause(run)) == ("skipped", "too_few_new_rows")
    assert run.reason.startswith(f"too few new rows: since {first} 1 usable rows came (6 in all) and 0 went")
    give_rows(judged, "one", "two", "three", "four", broken=5)
    _, run = go(judged)
    assert (run.status, cause(run)) == ("passed", "new_rows")
    assert run.decision is not None
    assert (run.decision.compared_with, run.decision.new_rows, run.decision.gone_rows) == (first, 2, 0)


def test_data_that_a_stage_refuses_is_a_skip_with_that_reason(judged: Path) -> None:
    let(judged, "ingest", "raise DataRefused('an expectation is broken')")
    state, run = go(judged)
    assert (state.name, run.status, cause(run)) == ("Skipped", "skipped", "data_refused")
    assert "an expectation is broken" in run.reason
    assert is_clean(judged)


def test_a_candidate_that_the_gate_refuses_is_a_refusal_and_its_data_is_not_new_again(judged: Path) -> None:
    give_rows(judged, "one", "two", "three")
    let_gate_refuse(judged)
    state, refused = go(judged)
    assert (state.name, refused.status, cause(refused)) == ("Refused", "refused", "new_rows")
    _, run = go(judged)
    assert (run.status, cause(run), run.decision and run.decision.compared_with) == (
        "skipped", "nothing_new", refused.run_id,
    )  # fmt: skip


def test_what_a_release_will_need_is_looked_at_before_the_hours_are_spent(judged: Path, tmp_path: Path) -> None:
    give_rows(judged, "one", "two", "three")
    want(judged, "signing_key: null", f"signing_key: {tmp_path / 'gone.pem'}")
    want(judged, "public_key: null", "public_key: release.pub")
    with pytest.raises(KeyInvalid):
        scheduled_retrain(str(judged))
    ended = read_runs(judged)[0]
    assert ended.status == "invalid"
    assert "gone.pem" in ended.reason
    assert {stage.outcome for stage in ended.stages} == {"not_run"}


def test_a_variant_is_decided_by_its_own_parameters_and_its_own_runs(judged: Path) -> None:
    (judged / "params/variants").mkdir(parents=True)
    (judged / "params/variants/customer.yaml").write_text("lora:\n  r: 8\nretrain:\n  min_new_rows: 2\n", "utf-8")
    git(judged, "add", "params")
    commit(judged, "a customer")
    state, first = go(judged, variant="customer")
    assert (state.name, first.variant, cause(first)) == ("Passed", "customer", "first_run")
    assert cause(go(judged, variant="customer")[1]) == "nothing_new"
    give_rows(judged, "one", "two", "three")
    _, skipped = go(judged, variant="customer")
    assert (skipped.variant, cause(skipped)) == ("customer", "too_few_new_rows")
    assert cause(go(judged)[1]) == "new_rows"


def test_a_run_that_dies_before_its_first_record_is_told(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    monkeypatch.setattr("flows.scheduled.notifications.tell", lambda event, text, *_: told.append((event, text)))
    monkeypatch.setattr("flows.scheduled.own_runs", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scheduled_retrain(str(judged), release=False)
    ((event, text),) = told
    assert event == "crashed"
    assert text.endswith("crashed before its first record: ZeroDivisionError")


def test_a_budget_that_is_used_skips_before_anything_is_looked_at(judged: Path) -> None:
    want(judged, "max_runs_per_month: null", "max_runs_per_month: 1")
    give_rows(judged, "one", "two", "three")
    _, run = go(judged)
    assert (run.status, cause(run), run.stages) == ("skipped", "runs_used", ())


@pytest.mark.parametrize("on_busy", ["skip", "cancel"])
def test_beside_another_run_it_skips_on_record_or_is_cancelled_without_one(judged: Path, on_busy: str) -> None:
    before = len(read_runs(judged))
    give_rows(judged, "one", "two", "three")
    with workspace.lock(judged):
        state, run = go(judged, on_busy=on_busy)
    if on_busy == "cancel":
        assert (state.type.value, len(read_runs(judged))) == ("CANCELLED", before)
    else:
        assert (state.name, run.status, cause(run)) == ("Skipped", "skipped", "busy")
        assert "another run holds this workspace (PID" in run.reason


def test_a_run_that_queues_waits_for_the_other_one(judged: Path) -> None:
    give_rows(judged, "one", "two", "three")
    hold = "import sys, time; from pathlib import Path; from flows.workspace import lock\n"
    hold += "with lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(4)"
    with subprocess.Popen([sys.executable, "-c", hold, str(judged)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        _, run = go(judged, on_busy="queue")
        assert time.monotonic() - began > 2
    assert (run.status, cause(run)) == ("passed", "new_rows")


def test_a_run_that_died_is_on_record_with_its_stage_and_the_next_one_trains(short_line: Path) -> None:
    place = workspace.open_place(short_line, DEAD)
    commit_record(place, Progress(started_at=now(), trigger="schedule"))
    workspace.note_current(short_line, DEAD, "gate")
    _, run = go(short_line)
    dead = read_run(short_line, DEAD)
    assert dead.status == "crashed"
    assert dead.reason.startswith("the run died in gate, which began at ")
    assert outcomes(dead) == {"ingest": "not_run", "gate": "failed", "merge": "not_run"}
    assert (run.status, cause(run)) == ("passed", "first_run")
    assert is_clean(short_line)


def test_a_stage_that_crashes_fails_the_flow_and_the_same_data_is_tried_again(judged: Path) -> None:
    give_rows(judged, "one", "two", "three")
    let(judged, "gate", "assert times > 1, 'no memory'")
    state, run = go(judged)
    assert (state.is_failed(), run.status, cause(run)) == (True, "crashed", "new_rows")
    _, run = go(judged)
    assert (run.status, cause(run)) == ("passed", "new_rows")
    assert outcomes(run)["ingest"] in {"restored", "unchanged"}


def test_parameters_that_cannot_be_read_leave_an_invalid_record(judged: Path) -> None:
    want(judged, "min_new_rows: 1 ", "min_new_rows: many ")
    state, run = go(judged)
    assert (state.is_failed(), run.status) == (True, "invalid")
    assert "retrain.min_new_rows" in run.reason


def test_limits_of_a_stage_that_does_not_exist_are_named(judged: Path) -> None:
    limits = "{trian: {timeout_seconds: 9, retries: 0, retry_delay_seconds: 1}}"
    want(judged, "by_stage: {}", f"by_stage: {limits}")
    _, run = go(judged)
    assert (run.status, cause(run)) == ("invalid", None)
    assert "run.by_stage" in run.reason
    assert "trian: expected one of ingest, gate, merge" in run.reason


def test_a_stage_has_its_own_timeout(judged: Path) -> None:
    want(judged, "by_stage: {}", "by_stage: {gate: {timeout_seconds: 1, retries: 0, retry_delay_seconds: 1}}")
    give_rows(judged, "one", "two", "three")
    let(judged, "gate", "import time; time.sleep(60)")
    _, run = go(judged)
    assert run.status == "crashed"
    assert outcomes(run)["gate"] == "failed"
    assert "longer than" in run.reason


def test_a_remote_that_is_down_is_noted_on_the_record_and_data_that_is_not_there_skips(
    judged: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", str(judged), "clone")
    clone = tmp_path / "clone"
    (clone / "rows.txt.dvc").write_text("outs:\n- md5: 0123456789abcdef0123456789abcdef\n  size: 5\n  path: rows.txt\n")
    ignored = clone / ".gitignore"
    ignored.write_text(ignored.read_text(encoding="utf-8") + "/rows.txt\n", encoding="utf-8")
    commit(clone, "rows")
    shutil.move(judged, judged.with_name("gone"))
    _, run = go(clone)
    assert (run.status, cause(run)) == ("skipped", "data_not_there")
    assert run.reason.startswith("rows.txt not there yet: ")
    assert run.decision is not None
    assert run.decision.notes[0].startswith("origin was not fetched")
    assert is_clean(clone)
