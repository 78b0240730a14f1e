import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from flows import cli, registry, workspace
from flows.git import git
from flows.record import commit_record, run_folder
from flows.rehearsal import check_target
from flows.reporting import write_report
from flows.run_record import RunRecord, parse_run_record
from tasks.errors import NotApproved, PublishFailed
from tasks.params import load_params
from tests.flows.fake_run import STAGES, fake_stages, passed_record, refused_record
from tests.flows.tiny_line import ROOT

PASSED, REFUSED = "20261120-081502-3f9c", "20261121-081502-77aa"


@pytest.fixture
def at_home(short_line: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that is the current folder, without any run."""
    monkeypatch.chdir(short_line)
    monkeypatch.setenv("COLUMNS", "200")
    return short_line


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, lines: Callable[[str], Path]) -> Path:
    """A repository with a released run and a refused one on record; tests only read it."""
    root = Path(shutil.copytree(lines("short"), tmp_path_factory.mktemp("recorded") / "repo", symlinks=True))
    released = passed_record().model_copy(update={"run_id": PASSED})
    made = put_on_record(root, released)
    assert released.release is not None
    registry.register(root, released.release, made)
    registry.promote(root, released.release, "production")
    put_on_record(root, refused_record().model_copy(update={"run_id": REFUSED}))
    return root


@pytest.fixture
def with_runs(recorded: Path, plain_git: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That repository as the current folder."""
    monkeypatch.chdir(recorded)
    monkeypatch.setenv("COLUMNS", "200")
    return recorded


def put_on_record(root: Path, record: RunRecord) -> str:
    place = workspace.open_place(root, record.run_id)
    write_report(record, place.worktree, place.worktree / run_folder(record.run_id) / "report.html")
    made = commit_record(place, record)
    workspace.close_place(place)
    return made


def ask(*words: str) -> str:
    result = CliRunner().invoke(cli.app, list(words), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str]]:
    """Run the command as a shell does; its exit code and what it said on standard error, without a traceback."""

    def run(*words: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["tunegate", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return end.value.code, said

    return run


Refuse = Callable[..., tuple[object, str]]


def test_audit_list_shows_all_runs_the_newest_first(with_runs: Path) -> None:
    rows = [line for line in ask("audit", "list").splitlines() if "2026112" in line]
    assert [row.split()[0] for row in rows] == [REFUSED, PASSED]
    assert "refused" in rows[0]
    assert "support-router@v0.3.0" in rows[1]


def test_audit_list_without_runs_says_what_makes_one(at_home: Path) -> None:
    assert ask("audit", "list") == "no run is on record yet; `tunegate run` makes one\n"


def test_audit_show_tells_verdict_scores_stages_digests_and_release(with_runs: Path) -> None:
    said, record = ask("audit", "show", PASSED), passed_record()
    assert "verdict: PASSED" in said
    assert "release: support-router@v0.3.0 in registry/support-router/v0.3.0, holds production" in said
    assert f"params:   {record.params_digest}" in said
    assert f"approval of merged_model: approved by merge, digest {record.approvals['merged_model'].digest}" in said
    trained = record.stage("train")
    assert trained is not None
    assert trained.output_digests["data/train"][:16] in said
    assert "ticket_routing     exact_match  candidate  0.708" in said


def test_audit_show_of_a_refused_run_says_why_and_what_to_try(with_runs: Path) -> None:
    said = ask("audit", "show", REFUSED)
    assert "verdict: REFUSED" in said
    assert "refused ticket_routing exact_match: 27.1 % found where 40.0 % are asked" in said
    assert "try: ticket_routing does not follow: look for wrong labels in the sources" in said
    assert "\n       lora.lora_alpha: 16, lora.r: 8\n       lora.lora_dropout: 0.05\n" in said
    assert f"all of these: tunegate sweep --suggested {REFUSED}" in said


def test_of_a_long_reason_a_line_is_shown_in_lists_and_no_table_without_scores(with_runs: Path) -> None:
    told = "20261116-081502-0000"
    message = "the data breaks 2 expectations:\n  tokens: one\n  prompt: two"
    stages = fake_stages(STAGES.index("validate"), "refused", message)
    changes = {"run_id": told, "reason": f"validate: {message}", "scores": (), "verdict": None, "stages": stages}
    put_on_record(with_runs, refused_record().model_copy(update=changes))
    try:
        row = next(line for line in ask("audit", "list").splitlines() if told in line)
        assert "validate: the data breaks 2 expectations" in row
        assert "tokens: one" not in ask("audit", "list")
        said = ask("audit", "show", told)
        assert said.count("tokens: one") == 1
        assert "\nscores\n" not in said
        assert "\nscores\n" in ask("audit", "show", REFUSED)
    finally:
        git(with_runs, "branch", "-D", f"run/{told}")


def test_audit_show_as_json_is_the_record_itself(with_runs: Path) -> None:
    record = parse_run_record(ask("audit", "show", PASSED, "--json"), "standard output")
    assert record == passed_record().model_copy(update={"run_id": PASSED})


def test_the_beginning_of_an_id_is_enough_and_none_means_the_newest(with_runs: Path) -> None:
    assert json.loads(ask("audit", "show", "20261120", "--json"))["run_id"] == PASSED
    assert json.loads(ask("audit", "show", "--json"))["run_id"] == REFUSED


def test_a_refusal_of_the_data_names_where_its_evidence_is(with_runs: Path) -> None:
    told, record = "20261117-081502-0000", refused_record()
    stages = tuple(
        stage.model_copy(update={"outcome": "refused"}) if stage.name == "validate" else stage
        for stage in record.stages
    )
    put_on_record(with_runs, record.model_copy(update={"run_id": told, "stages": stages, "verdict": None}))
    docs = with_runs / workspace.REPORTS / told / workspace.DOCS_LINK
    docs.parent.mkdir(parents=True)
    docs.touch()
    try:
        said = ask("audit", "show", told)
        assert f"docs:    .tunegate/reports/{told}/data_docs/index.html\n" in said
        assert f"rows:    git show {record.branch}:runs/{told}/validation.json\n" in said
    finally:
        git(with_runs, "branch", "-D", f"run/{told}")


def test_an_unknown_run_is_wrong_input_with_a_next_move(with_runs: Path, refuse: Refuse) -> None:
    assert refuse("audit", "show", "1999") == (
        2, "error: 0 runs begin with '1999'; `tunegate audit list` shows the runs\n",
    )  # fmt: skip


def test_an_ambiguous_beginning_is_wrong_input(with_runs: Path, refuse: Refuse) -> None:
    assert refuse("report", "2026112") == (
        2, "error: 2 runs begin with '2026112'; `tunegate audit list` shows the runs\n",
    )  # fmt: skip


def test_report_writes_the_committed_page_and_names_it(with_runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert ask("report", PASSED, "--output", str(page)) == f"{page}\n"
    text = page.read_text(encoding="utf-8")
    assert text == git(with_runs, "show", f"run/{PASSED}:runs/{PASSED}/report.html")
    assert PASSED in text


def test_a_run_without_a_report_is_wrong_input(at_home: Path, refuse: Refuse) -> None:
    place = workspace.open_place(at_home, PASSED)
    commit_record(place, passed_record().model_copy(update={"run_id": PASSED}))
    workspace.close_place(place)
    said = f"run {PASSED} has no report: it ended before its first stage; `tunegate audit show {PASSED}` says why"
    assert refuse("report") == (2, f"error: {said}\n")


def test_status_names_the_last_run_and_what_holds_production(with_runs: Path) -> None:
    said = ask("status").splitlines()
    assert said[0] == "running:    nothing"
    assert said[1].startswith(f"last run:   {REFUSED} refused: The gate refused the adapter")
    assert said[2] == "production: support-router@v0.3.0"


def test_a_typo_elsewhere_in_the_parameters_hides_neither_status_nor_a_source(at_home: Path) -> None:
    text = (at_home / "params.yaml").read_text(encoding="utf-8")
    (at_home / "params.yaml").write_text(text.replace("  r: 16", "  r: many"), encoding="utf-8")
    assert ask("status").splitlines()[-1] == "production: nothing"
    result = CliRunner().invoke(cli.app, ["data", "show", "support_tickets"])
    assert "support_tickets, role train, weight 1" in result.output
    (at_home / "params.yaml").write_text(text.replace("release:\n", "relese:\n"), encoding="utf-8")
    assert (
        ask("status").splitlines()[-1] == "released:   not known: params.yaml has problems; `tunegate plan` names them"
    )


def test_status_names_the_run_in_progress(at_home: Path) -> None:
    workspace.note_current(at_home, PASSED, "train")
    with workspace.lock(at_home):
        said = ask("status").splitlines()
    assert said[0].startswith(f"running:    {PASSED}, stage train since 2")
    assert "PID" in said[0]
    assert said[1:] == ["last run:   none yet; `tunegate run` makes one", "production: nothing"]


def test_plan_says_which_stages_would_run_and_why(at_home: Path) -> None:
    said = ask("plan")
    assert "HuggingFaceTB/SmolLM2-135M-Instruct, qlora, 2 source(s)" in said
    for stage in ("ingest", "gate", "merge"):
        assert next(line for line in said.splitlines() if f" {stage} " in line).split()[3] == "run"


def test_a_target_that_cannot_be_written_to_is_told_and_one_that_can_keeps_nothing(tmp_path: Path) -> None:
    release = load_params(ROOT / "params.yaml").release
    check_target(tmp_path, release)
    assert list((tmp_path / release.folder).iterdir()) == []
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(PublishFailed, match=r"file/models: cannot be written to \(Not a directory\)"):
        check_target(tmp_path, release.model_copy(update={"folder": "file/models"}))


@pytest.mark.parametrize("command", ["run", "plan"])
def test_parameters_that_do_not_parse_are_refused_before_anything_starts(
    at_home: Path, refuse: Refuse, command: str
) -> None:
    text = (at_home / "params.yaml").read_text(encoding="utf-8")
    (at_home / "params.yaml").write_text(text.replace("  r: 16", "  r: many"), encoding="utf-8")
    code, said = refuse(command)
    assert code == 2
    assert said.startswith("error: ")
    assert "params.yaml: 1 problem(s), nothing was started" in said
    assert git(at_home, "branch", "--list", "run/*") == ""


def test_a_missing_source_is_refused_before_anything_starts(at_home: Path, refuse: Refuse) -> None:
    (at_home / "data/sources/support_tickets.jsonl").unlink()
    assert refuse("run") == (
        2,
        (
            "error: params.yaml sources: nothing was started\n"
            "  source support_tickets: data/sources/support_tickets.jsonl: no such file or folder\n"
            "put it there, or mend the path\n"
        ),
    )
    assert git(at_home, "branch", "--list", "run/*") == ""


def test_a_second_run_is_told_who_holds_the_workspace(at_home: Path, refuse: Refuse) -> None:
    with workspace.lock(at_home):
        code, said = refuse("run")
    assert code == 2
    assert "another run holds this workspace (PID " in said
    assert said.endswith("see `tunegate status`\n")


def test_a_folder_without_a_repository_is_wrong_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse: Refuse
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = refuse("status")
    assert (code, said) == (2, f"error: {tmp_path}: not in a Tunegate workspace; cd into the clone\n")


def test_a_refusal_ends_in_exit_code_3(monkeypatch: pytest.MonkeyPatch, refuse: Refuse) -> None:
    def not_these(*_arguments: object) -> None:
        raise NotApproved("not these bytes; run `dvc repro merge`")

    monkeypatch.setattr("flows.commands.status_command", not_these)
    assert refuse("status") == (3, "refused: not these bytes; run `dvc repro merge`\n")


def commands(command: object, *words: str) -> list[tuple[str, ...]]:
    inner = getattr(command, "commands", {})
    return [words, *(path for name, sub in inner.items() for path in commands(sub, *words, name))]


@pytest.mark.parametrize("words", commands(get_command(cli.app)), ids=" ".join)
def test_the_help_of_every_command_shows_an_example(words: tuple[str, ...]) -> None:
    assert "Example: tunegate" in ask(*words, "--help")


def test_run_takes_its_exit_code_from_the_run(at_home: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_command(
        _start: Path, *, release: bool, until: str | None, params_file: Path | None, variant: str | None
    ) -> int:
        return 3 if release and until is None and params_file is None and variant is None else 0

    monkeypatch.setattr("flows.commands.run_command", run_command)
    assert refuse("run")[0] == 3
    assert refuse("run", "--no-release")[0] == 0
    assert refuse("run", "--until", "validate")[0] == 0
    assert refuse("run", "--params", "other.yaml")[0] == 0
    assert refuse("run", "--variant", "customer")[0] == 0


def test_an_unknown_stage_is_wrong_input_that_names_the_nearest(at_home: Path, refuse: Refuse) -> None:
    assert refuse("run", "--until", "ingset") == (
        2, "error: dvc.yaml has no stage 'ingset'; did you mean 'ingest'? it has ingest, gate, merge\n",
    )  # fmt: skip
    assert git(at_home, "branch", "--list", "run/*") == ""


def test_another_file_of_parameters_is_checked_under_its_own_name(at_home: Path, refuse: Refuse) -> None:
    text = (at_home / "params.yaml").read_text(encoding="utf-8")
    (at_home / "other.yaml").write_text(text.replace("  r: 16", "  r: many"), encoding="utf-8")
    for command in ("run", "plan"):
        code, said = refuse(command, "--params", "other.yaml")
        assert code == 2
        assert said.startswith("error: other.yaml: 1 problem(s), nothing was started\n")
    (at_home / "other.yaml").write_text(text.replace("support_tickets.jsonl", "gone.jsonl"), encoding="utf-8")
    assert refuse("run", "--params", "other.yaml")[1].startswith("error: other.yaml sources: nothing was started\n")
    assert refuse("run", "--params", "none.yaml")[0] == 2


def test_plan_takes_another_file_of_parameters(at_home: Path) -> None:
    text = (at_home / "params.yaml").read_text(encoding="utf-8")
    (at_home / "other.yaml").write_text(
        text.replace("HuggingFaceTB/SmolLM2-135M-Instruct\n", "made/up\n"), encoding="utf-8"
    )
    assert "made/up, qlora, 2 source(s)" in ask("plan", "--params", "other.yaml")
    assert (at_home / "params.yaml").read_text(encoding="utf-8") == text


def test_a_source_is_shown_with_its_layout_and_broken_rows(at_home: Path, refuse: Refuse) -> None:
    rows = ['{"instruction": "Name a planet.", "input": "", "output": "Mars."}'] * 99 + ["{"]
    (at_home / "new.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    said = ask("data", "show", "new.jsonl")
    assert "layout:  alpaca (recognised)" in said
    assert "user:      Name a planet." in said
    assert "1  json_syntax (not valid JSON)" in said
    assert "put this below `sources:` in params.yaml to use it:" in said
    assert f'\n    path: "{at_home}/new.jsonl"\n' in said
    assert "would refuse" not in said
    assert refuse("data", "show", "nothing") == (
        2,
        "error: 'nothing' is neither a source (support_tickets, general_instructions) nor a file or folder here\n",
    )


def test_a_source_that_a_run_would_refuse_ends_in_exit_code_2(
    at_home: Path, refuse: Refuse, capsys: pytest.CaptureFixture[str]
) -> None:
    (at_home / "new.jsonl").write_text('{"instruction": "a", "output": "b"}\n\n{"instruction": "c", "output": "d"}\n')
    result = CliRunner().invoke(cli.app, ["data", "show", "new.jsonl"])
    assert result.exit_code == 2
    reason = "1 of 3 rows are broken, ingest.max_broken_share allows 3.0%"
    assert f"a run would refuse it: {reason}\n" in result.output
    assert "new.jsonl:2: blank_line\n" in result.output


def test_a_file_that_git_does_not_know_is_said_to_need_git_add(at_home: Path) -> None:
    (at_home / "data/sources/new.csv").write_text("question;answer\nWhich planet?;Mars\n", encoding="utf-8")
    said = ask("data", "show", "data/sources/new.csv")
    assert "a run takes what git tracks: `git add data/sources/new.csv`\n" in said
    assert "columns: question, answer\n" in said
    git(at_home, "add", "data/sources/new.csv")
    assert "git add" not in ask("data", "show", "data/sources/new.csv")


def test_every_source_of_the_parameters_is_shown(at_home: Path) -> None:
    for path in (at_home / "data/sources").glob("*.jsonl"):  # made up: no example at all
        shutil.copy(ROOT / "data/sources" / path.name, path)
    said = ask("data", "show", "--rows", "1")
    assert "support_tickets, role train, weight 1" in said
    assert "general_instructions, role replay, weight 1" in said


def test_asking_for_help_about_rows_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom flows.cli import app\n"
        "assert CliRunner().invoke(app, ['data', '--help']).exit_code == 0\n"
        "sys.exit(bool({'pyarrow', 'prefect', 'flows.commands'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_audit_shows_a_run_that_was_stopped_on_purpose(with_runs: Path) -> None:
    reached = "20261118-081502-0000"
    changes = {
        "run_id": reached, "status": "reached", "until": "validate", "verdict": None, "release": None,
        "reason": "stopped after validate, as asked; nothing was released",
    }  # fmt: skip
    put_on_record(with_runs, passed_record().model_copy(update=changes))
    try:
        row = next(line for line in ask("audit", "list").splitlines() if reached in line)
        assert "reached" in row
        assert "stopped after validate, as asked" in row
        assert "\nreached: validate\n" in ask("audit", "show", reached)
    finally:
        git(with_runs, "branch", "-D", f"run/{reached}")


def test_the_version_is_that_of_the_package() -> None:
    assert ask("--version") == f"tunegate {version('tunegate')}\n"


def test_the_command_runs_as_a_module_as_a_sweep_starts_it() -> None:
    command = [sys.executable, "-m", "flows.cli", "--version"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == f"tunegate {version('tunegate')}\n"


def test_a_run_in_progress_has_no_report_yet_and_the_last_one_that_ended_is_shown(
    with_runs: Path, refuse: Refuse
) -> None:
    running = "20261122-081502-0000"
    put_on_record(with_runs, passed_record().model_copy(update={"run_id": running}))
    try:
        with workspace.lock(with_runs):
            workspace.note_current(with_runs, running, "train")
            assert refuse("audit", "show", running) == (
                2, f"error: run {running} is still running; `tunegate status` says where it is\n",
            )  # fmt: skip
            assert REFUSED in ask("report")
    finally:
        (with_runs / workspace.CURRENT).unlink(missing_ok=True)
        git(with_runs, "branch", "-D", f"run/{running}")


def test_why_a_stage_stopped_is_told_whole(with_runs: Path) -> None:
    record = refused_record()
    message = "stopped while it ran, and here is a long reason that a person wants to read to its end"
    stopped = record.stages[0].model_copy(update={"outcome": "cancelled", "output_digests": {}, "message": message})
    told = "20261119-081502-0000"
    put_on_record(with_runs, record.model_copy(update={"run_id": told, "stages": (stopped, *record.stages[1:])}))
    try:
        assert message in ask("audit", "show", told)
    finally:
        git(with_runs, "branch", "-D", f"run/{told}")
