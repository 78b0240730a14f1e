import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import State

from flows import workspace
from flows.commands import run_command
from flows.git import git, show_file
from flows.record import Progress, read_run
from flows.retrain import commit_record, retrain
from flows.run_branches import read_runs
from flows.run_record import RunRecord
from tasks.errors import WorkspaceBusy
from tests.flows.fake_run import FAKE_PACE, FAKE_SERVING
from tests.flows.test_reproduce import gone
from tests.flows.tiny_line import ROOT, STAGES, let, let_gate_decide_nothing, let_gate_refuse
from tests.flows.tiny_repo import commit, run

FIRST, SECOND = "20260102-030405-aaaa", "20260102-040506-bbbb"

pytestmark = pytest.mark.usefixtures("prefect_server", "plain_git")


def go(root: Path, run_id: str = FIRST, *, release: bool = True) -> tuple[State, RunRecord]:
    """Run the flow; its state and the record that it left."""
    state = retrain(str(root), run_id, release=release, return_state=True)
    return state, read_run(root, run_id)


def command(
    root: Path, monkeypatch: pytest.MonkeyPatch, *, until: str | None = None, params_file: Path | None = None
) -> int:
    monkeypatch.setattr(workspace, "new_run_id", lambda _now: FIRST)
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
    return run_command(root, release=True, until=until, params_file=params_file)


def outcomes(record: RunRecord) -> dict[str, str]:
    return {stage.name: stage.outcome for stage in record.stages}


def tags(root: Path) -> list[str]:
    return git(root, "tag", "--list").split()


def is_clean(root: Path) -> bool:
    """Whether nothing of the run is left: no worktree, no note, no lock."""
    worktrees = git(root, "worktree", "list").splitlines()
    return len(worktrees) == 1 and not workspace.leftovers(root) and not (root / workspace.CURRENT).exists()


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, lines: Callable[[str], Path]) -> SimpleNamespace:
    """A whole line, run twice without a change, by a user with uncommitted work."""
    root = tmp_path_factory.mktemp("twice") / "repo"
    subprocess.run(["cp", "-a", str(lines("whole")), str(root)], check=True)
    (root / "notes.txt").write_text("staged\n", encoding="utf-8")
    git(root, "add", "notes.txt")
    with (root / "params.yaml").open("a", encoding="utf-8") as file:
        file.write("# edited\n")
    before = user_state(root)
    first = go(root, FIRST)
    between = SimpleNamespace(state=user_state(root), tags=tags(root), clean=is_clean(root))
    return SimpleNamespace(root=root, before=before, first=first, between=between, second=go(root, SECOND))


def user_state(root: Path) -> tuple[str, ...]:
    """Branch, index, edits and status as the user sees them."""
    asked = (
        ("symbolic-ref", "HEAD"),
        ("rev-parse", "HEAD"),
        ("diff",),
        ("diff", "--cached"),
        ("status", "--porcelain"),
    )
    return tuple(git(root, *words) for words in asked)


def test_a_passed_run_is_completed_and_named_passed(twice: SimpleNamespace) -> None:
    state, record = twice.first
    assert (state.type.value, state.name, record.status) == ("COMPLETED", "Passed", "passed")
    assert outcomes(record) == dict.fromkeys(STAGES, "executed")


def test_the_pace_of_the_training_is_on_record_where_it_ran(twice: SimpleNamespace) -> None:
    first, second = (run[1].stage("train") for run in (twice.first, twice.second))
    assert first is not None
    assert first.pace == FAKE_PACE
    assert second is not None
    assert second.outcome in {"restored", "unchanged"}
    assert second.pace is None


def test_what_the_models_cost_is_on_record_where_the_merge_ran(twice: SimpleNamespace) -> None:
    first, second = (run[1].stage("merge") for run in (twice.first, twice.second))
    assert first is not None
    assert first.serving == FAKE_SERVING
    assert second is not None
    assert second.serving is None


def test_the_record_lies_with_dvc_lock_report_and_scores_on_the_runs_branch(twice: SimpleNamespace) -> None:
    branch = f"run/{FIRST}"
    named = git(twice.root, "ls-tree", "-r", "--name-only", branch).splitlines()
    wanted = {"dvc.lock", *(f"runs/{FIRST}/{name}" for name in ("record.json", "report.html", "candidate.json"))}
    assert wanted <= set(named)
    assert json.loads(show_file(twice.root, branch, f"runs/{FIRST}/record.json") or "")["status"] == "passed"


def test_the_release_is_tagged_at_the_commit_that_holds_the_record(twice: SimpleNamespace) -> None:
    record = twice.first[1]
    assert record.release is not None
    assert record.release.tag == "support-router@v0.0.1"
    commits = {git(twice.root, "rev-parse", f"{tag}^{{commit}}") for tag in twice.between.tags}
    assert twice.between.tags == ["support-router#production#1", "support-router@v0.0.1"]
    assert commits == {git(twice.root, "rev-parse", f"run/{FIRST}")}


def test_the_registry_holds_the_model_its_card_and_where_it_comes_from(twice: SimpleNamespace) -> None:
    folder = twice.root / "registry/support-router/v0.0.1"
    wanted = {
        "model.safetensors",
        "config.json",
        "README.md",
        "provenance.json",
        "slsa_provenance.json",
        "mlbom.cdx.json",
    }
    assert wanted <= {p.name for p in folder.iterdir()}
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["release"]["run"] == FIRST
    assert provenance["approval"]["digest"] == twice.first[1].approvals["merged_model"].digest


def test_the_users_branch_index_edits_and_status_stay_as_they_were(twice: SimpleNamespace) -> None:
    assert twice.between.state == twice.before
    assert twice.between.clean


def test_uncommitted_edits_ran_and_are_flagged(twice: SimpleNamespace) -> None:
    record = twice.first[1]
    assert (record.dirty, record.changed_files) == (True, ("notes.txt", "params.yaml"))
    assert (show_file(twice.root, f"run/{FIRST}", "params.yaml") or "").endswith("# edited\n")


def test_the_report_lies_where_the_user_finds_it(twice: SimpleNamespace) -> None:
    page = (twice.root / ".tunegate/reports" / FIRST / "report.html").read_text(encoding="utf-8")
    assert page == show_file(twice.root, f"run/{FIRST}", f"runs/{FIRST}/report.html")


def test_verdict_scores_and_report_are_prefect_artifacts(twice: SimpleNamespace) -> None:
    flow_run = ArtifactFilterFlowRunId(any_=[twice.first[1].prefect["flow_run_id"]])
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=flow_run))
    assert {artifact.key: artifact.type for artifact in found} == {
        "report": "markdown", "scores": "table", "verdict": "markdown",
    }  # fmt: skip


def test_any_output_of_a_past_run_is_had_as_the_guide_says(twice: SimpleNamespace, tmp_path: Path) -> None:
    guide = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^dvc get .*?(?=  )", guide, re.MULTILINE)
    words = [*command.replace("ID", FIRST).split(), "--out", str(tmp_path / "got.parquet")]
    run(twice.root, sys.executable, "-m", *words)
    assert (tmp_path / "got.parquet").read_bytes()[:4] == b"PAR1"


def test_the_same_run_again_executes_only_what_looks_at_the_champion(twice: SimpleNamespace) -> None:
    found = outcomes(twice.second[1])
    executed = {name for name, outcome in found.items() if outcome not in {"restored", "unchanged"}}
    assert executed == {"validate", "gate"}


def adopt_lock(root: Path) -> None:
    """Commit the dvc.lock of the first run to the user's branch."""
    git(root, "checkout", "--quiet", f"run/{FIRST}", "--", "dvc.lock")
    commit(root, "lock")


def test_where_nothing_changed_dvc_is_started_for_no_stage(short_line: Path) -> None:
    go(short_line, release=False)
    adopt_lock(short_line)
    _, record = go(short_line, SECOND, release=False)
    assert {(stage.outcome, stage.seconds) for stage in record.stages} == {("unchanged", 0.0)}


def test_a_stage_runs_when_one_before_it_made_other_bytes(short_line: Path) -> None:
    go(short_line, release=False)
    adopt_lock(short_line)
    (short_line / "made/ingest/files/data/ingest/more.json").write_text("{}\n", encoding="utf-8")
    commit(short_line, "other rows")
    _, record = go(short_line, SECOND, release=False)
    assert outcomes(record) == {"ingest": "executed", "gate": "executed", "merge": "unchanged"}


def test_the_same_bytes_are_not_released_again(twice: SimpleNamespace) -> None:
    state, record = twice.second
    assert state.name == "Passed"
    assert record.release == twice.first[1].release
    assert tags(twice.root) == twice.between.tags
    assert [path.name for path in (twice.root / "registry/support-router").iterdir()] == ["v0.0.1"]


def test_the_champions_scores_reach_the_gate_of_the_next_run(twice: SimpleNamespace) -> None:
    champion = json.loads(show_file(twice.root, f"run/{SECOND}", "data/champion/champion.json") or "")
    assert (champion["release"], champion["run"]) == ("support-router@v0.0.1", FIRST)
    assert champion["evaluation"]["model"] == "champion"
    assert champion["evaluation"]["scores"][0]["per_sample"] == [1.0, 1.0, 1.0, 0.0]
    assert "champion" in {line.model for line in twice.second[1].scores}


def test_a_refused_verdict_is_completed_and_named_refused_with_its_reasons(
    short_line: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    let_gate_refuse(short_line)
    assert command(short_line, monkeypatch) == 3
    record = read_run(short_line, FIRST)
    assert (record.status, record.release, tags(short_line)) == ("refused", None, [])
    assert "ticket_routing exact_match: 27.1 % found where 40.0 % are asked" in record.reason
    assert outcomes(record) == {"ingest": "executed", "gate": "executed", "merge": "not_run"}
    assert not (short_line / "registry").exists()
    said = capsys.readouterr().out
    assert "verdict: REFUSED" in said
    assert "try: ticket_routing does not follow" in said
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(UUID(record.prefect["flow_run_id"])).state_name == "Refused"


def test_an_inconclusive_verdict_is_no_pass_and_has_its_own_word_and_exit_code(
    short_line: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    let_gate_decide_nothing(short_line)
    assert command(short_line, monkeypatch) == 4
    record = read_run(short_line, FIRST)
    assert (record.status, record.release, tags(short_line)) == ("inconclusive", None, [])
    assert record.reason.endswith("neither proved nor disproved by 160 items, about 410 would decide")
    assert outcomes(record) == {"ingest": "executed", "gate": "executed", "merge": "not_run"}
    said = capsys.readouterr().out
    assert "verdict: INCONCLUSIVE" in said
    assert "open    general_knowledge acc: neither proved nor disproved" in said
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(UUID(record.prefect["flow_run_id"])).state_name == "Inconclusive"


ENDS = [
    ("raise DataRefused('too few rows; add some')", 3, "refused", "refused", "too few rows; add some"),
    ("raise SourceInvalid('a.jsonl: line 3; mend it')", 2, "invalid", "failed", "a.jsonl: line 3; mend it"),
    ("raise KeyError('queue')", 1, "crashed", "failed", "KeyError: 'queue'"),
]

ENDS_WITH = {
    "refused": "\nverdict: REFUSED\n",
    "invalid": "\ninvalid: what the run was given is wrong\n",
    "crashed": "\ncrashed\n",
}


@pytest.mark.parametrize(("body", "code", "status", "outcome", "message"), ENDS, ids=["refuses", "input", "crashes"])
def test_a_stage_that_stops_the_line_is_on_record_with_its_message(
    short_line: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
    code: int,
    status: str,
    outcome: str,
    message: str,
) -> None:
    attempts = let(short_line, "ingest", body)
    assert command(short_line, monkeypatch) == code
    assert ENDS_WITH[status] in capsys.readouterr().out
    record = read_run(short_line, FIRST)
    assert (record.status, record.reason) == (status, f"ingest: {message}")
    assert outcomes(record) == {"ingest": outcome, "gate": "not_run", "merge": "not_run"}
    assert (record.stages[0].exit_code, record.stages[0].message) == (code, message)
    assert attempts.read_text(encoding="utf-8") == "x"
    assert is_clean(short_line)


def test_what_was_unavailable_is_tried_again(short_line: Path) -> None:
    attempts = let(short_line, "ingest", "if times == 1: raise Unavailable('the index did not answer')")
    state, record = go(short_line, release=False)
    assert outcomes(record)["ingest"] == "executed"
    assert attempts.read_text(encoding="utf-8") == "xx"
    assert (state.name, record.release, tags(short_line)) == ("Passed", None, [])


def test_parameters_that_do_not_parse_leave_an_invalid_record(short_line: Path) -> None:
    break_params(short_line)
    state, record = go(short_line)
    assert (state.is_failed(), record.status, record.params) == (True, "invalid", {})
    assert "lora.r: Input should be a valid integer; found 'many'" in record.reason
    assert not record.reason.startswith("ParamsInvalid")
    assert is_clean(short_line)


def break_params(root: Path) -> None:
    text = (root / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(text.replace("  r: 16", "  r: many"), encoding="utf-8")
    commit(root, "break")


def test_a_killed_run_stays_on_record_as_crashed_and_is_cleaned_up_by_the_next(short_line: Path) -> None:
    place = workspace.open_place(short_line, FIRST)
    commit_record(place, Progress(started_at=datetime.now(UTC).isoformat(timespec="seconds"), trigger="manual"))
    break_params(short_line)
    go(short_line, SECOND)
    dead = read_run(short_line, FIRST)
    assert (dead.status, dead.reason) == ("crashed", "the run did not finish")
    assert set(outcomes(dead).values()) == {"not_run"}
    assert is_clean(short_line)


def test_a_run_that_was_killed_before_its_first_record_does_not_hide_the_others(short_line: Path) -> None:
    workspace.open_place(short_line, FIRST)
    assert read_runs(short_line) == []
    break_params(short_line)
    go(short_line, SECOND)
    assert [record.run_id for record in read_runs(short_line)] == [SECOND]
    assert git(short_line, "branch", "--list", f"run/{FIRST}") == ""
    assert is_clean(short_line)


def test_a_second_run_beside_the_first_is_told_who_holds_the_workspace(short_line: Path) -> None:
    with workspace.lock(short_line), pytest.raises(WorkspaceBusy, match=r"another run holds this workspace \(PID \d+"):
        retrain(str(short_line), SECOND)
    assert git(short_line, "branch", "--list", "run/*") == ""


def test_a_crash_between_publishing_and_tagging_is_released_again_under_the_same_version(
    short_line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("flows.registry.register", power_cut)
        _, dead = go(short_line, FIRST)
    assert (dead.status, dead.release, tags(short_line)) == ("crashed", None, [])
    assert dead.reason == "published, but not registered: RuntimeError: power cut"
    assert provenance_run(short_line) == FIRST
    _, record = go(short_line, SECOND)
    assert record.status == "passed"
    assert tags(short_line) == ["support-router#production#1", "support-router@v0.0.1"]
    assert provenance_run(short_line) == SECOND


def power_cut(*_arguments: object) -> None:
    raise RuntimeError("power cut")


def provenance_run(root: Path) -> str:
    text = (root / "registry/support-router/v0.0.1/provenance.json").read_text(encoding="utf-8")
    return str(json.loads(text)["release"]["run"])


@pytest.mark.parametrize("stop", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_leaves_no_child_and_is_on_record_as_cancelled(
    short_line: Path, prefect_server: str, stop: signal.Signals
) -> None:
    let(short_line, "ingest", "import os, time; print('pid', os.getpid(), flush=True); time.sleep(120)")
    environment = os.environ | {"PREFECT_API_URL": prefect_server, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", "from flows.cli import main; main()", "run"]
    with subprocess.Popen(words, cwd=short_line, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pid = int(next(line for line in running.stdout if " pid " in line).split()[-1])
        running.send_signal(stop)
        last = running.stdout.read().splitlines()[-1]
        running.wait(60)
    record = read_runs(short_line)[0]
    assert gone(pid)
    assert running.returncode == 128 + stop
    assert last == f"cancelled: stopped from outside; record: tunegate audit show {record.run_id}"
    assert record.status == "cancelled"
    assert outcomes(record) == {"ingest": "cancelled", "gate": "not_run", "merge": "not_run"}
    assert is_clean(short_line)


def test_a_run_until_a_stage_reaches_it_and_releases_nothing(
    short_line: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(short_line, monkeypatch, until="ingest") == 0
    record = read_run(short_line, FIRST)
    assert (record.status, record.until, record.release) == ("reached", "ingest", None)
    assert record.reason == "stopped after ingest, as asked; nothing was released"
    assert outcomes(record) == {"ingest": "executed", "gate": "not_run", "merge": "not_run"}
    assert tags(short_line) == []
    assert is_clean(short_line)
    said = capsys.readouterr().out
    assert "\nreached: ingest\n" in said
    page = (short_line / ".tunegate/reports" / FIRST / "report.html").read_text(encoding="utf-8")
    assert "REACHED</h1>" in page
    assert "The stage train is not part of this run." in page
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(UUID(record.prefect["flow_run_id"])).state_name == "Reached"


def test_a_gate_that_refuses_on_the_way_is_a_refusal(short_line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_gate_refuse(short_line)
    assert command(short_line, monkeypatch, until="merge") == 3
    assert read_run(short_line, FIRST).status == "refused"


def test_a_run_with_another_file_of_parameters_leaves_the_users_alone(
    short_line: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (short_line / "params.yaml").read_text(encoding="utf-8")
    other = tmp_path / "other.yaml"
    other.write_text(text.replace("  r: 16", "  r: 8"), encoding="utf-8")
    before = user_state(short_line)
    assert command(short_line, monkeypatch, until="ingest", params_file=other) == 0
    record = read_run(short_line, FIRST)
    assert (record.dirty, record.changed_files) == (True, ("params.yaml",))
    assert record.params["lora"]["r"] == 8  # type: ignore[index,call-overload]
    assert show_file(short_line, record.snapshot_commit, "params.yaml") == other.read_text(encoding="utf-8")
    assert user_state(short_line) == before
