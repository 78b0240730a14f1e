"""`tunegate gate`: why a candidate passed or not, and its verdict computed again."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows import cli, workspace
from flows.explanation import explanation
from flows.git import git
from flows.record import commit_record
from tasks.files import write_text
from tasks.params import load_params
from tasks.verdict_records import Verdict
from tasks.verdict_text import summary_lines
from tests.flows.fake_run import FINDINGS, fake_samples, fake_verdict, passed_record, refused_record
from tests.flows.judged_run import forgetful, judged_record
from tests.flows.tiny_line import ROOT

REFUSED, PASSED, CRASHED = "20261121-081502-77aa", "20261120-081502-3f9c", "20261122-081502-0001"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, lines: Callable[[str], Path]) -> Path:
    """A repository with a passed run, a refused one and one without a verdict; tests only read it."""
    root = Path(shutil.copytree(lines("short"), tmp_path_factory.mktemp("judged") / "repo", symlinks=True))
    good = [sample for sample in fake_samples("candidate") if sample.benchmark == "ticket_routing"]
    good += [sample for sample in fake_samples("base") if sample.benchmark == "general_knowledge"]
    assert judged_record(root, passed_record().model_copy(update={"run_id": PASSED}), good).status == "passed"
    assert judged_record(root, refused_record().model_copy(update={"run_id": REFUSED}), forgetful()).status == "refused"
    place = workspace.open_place(root, CRASHED)
    commit_record(place, refused_record().model_copy(update={"run_id": CRASHED, "status": "crashed", "verdict": None}))
    workspace.close_place(place)
    return root


@pytest.fixture
def home(recorded: Path, plain_git: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(recorded)
    return recorded


def ask(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli.app, ["gate", *words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def refused(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    monkeypatch.setattr(sys, "argv", ["tunegate", "gate", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize("run", [PASSED, REFUSED])
def test_a_replay_gives_the_bytes_on_record_and_says_so(home: Path, run: str) -> None:
    said = ask("replay", run)
    assert "the same bytes as the recorded verdict, sha256 " in said
    assert ask("replay", run, "--json") == git(home, "show", f"run/{run}:runs/{run}/verdict.json") + "\n"


def test_a_replay_with_other_thresholds_says_what_it_would_have_been_and_changes_nothing(home: Path) -> None:
    before = git(home, "rev-parse", f"run/{REFUSED}")
    looser = ["--set", "rules.general_knowledge.max_loss_from_base=0.4"]
    looser += ["--set", "rules.1.max_loss_from_champion=0.4"]
    said = ask("replay", REFUSED, *looser)
    assert "verdict: PASSED with rules.general_knowledge.max_loss_from_base=0.4" in said
    assert "recorded: REFUSED; nothing on record was changed" in said
    assert git(home, "rev-parse", f"run/{REFUSED}") == before


@pytest.mark.parametrize(
    ("setting", "code", "word"),
    [("rules.0.min_value=0.9", 3, "REFUSED"), ("rules.0.min_value=0.68", 4, "INCONCLUSIVE"), ("seed=2", 0, "PASSED")],
)
def test_the_exit_code_of_a_changed_replay_is_that_of_its_verdict(
    home: Path, setting: str, code: int, word: str
) -> None:
    assert f"verdict: {word} with {setting}" in ask("replay", PASSED, "--set", setting, code=code)


def test_a_verdict_that_was_tampered_with_is_not_reproduced(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    git(home, "clone", "--quiet", "--mirror", str(home), str(tmp_path / "mirror"))
    git(tmp_path, "clone", "--quiet", str(tmp_path / "mirror"), str(copy))
    for run in (PASSED, REFUSED):
        git(copy, "branch", f"run/{run}", f"origin/run/{run}")
    git(copy, "checkout", "--quiet", f"run/{REFUSED}")
    file = copy / f"runs/{REFUSED}/verdict.json"
    write_text(file, file.read_text(encoding="utf-8").replace('"verdict": "refused"', '"verdict": "passed"'))
    git(
        copy, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--all", "--message", "tamper"
    )
    git(copy, "checkout", "--quiet", "main")
    monkeypatch.chdir(copy)
    assert "NOT the bytes of the recorded verdict" in ask("replay", REFUSED, code=3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["replay", "1999"], "0 runs begin with '1999'; `tunegate audit list` shows the runs"),
        (["explain", "1999"], "0 runs begin with '1999'"),
        (["explain", CRASHED], f"run {CRASHED} has no verdict: it ended as crashed"),
        (["replay", PASSED, "--set", "confidense=1"], "gate has no 'confidense'; it has confidence, measured"),
        (["replay", PASSED, "--set", "confidence=high"], "confidence: Input should be a valid number"),
    ],
)
def test_what_cannot_be_asked_is_one_message_and_exit_code_2(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    code, message = refused(words, monkeypatch, capsys)
    assert (code, message.count("\n")) == (2, 1)
    assert said in message


def test_a_run_that_kept_too_little_is_not_replayed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "20261119-081502-0000"
    place = workspace.open_place(home, told)
    record = passed_record().model_copy(update={"run_id": told})
    params = record.params | {"gate": json.loads(load_params(ROOT / "params.yaml").gate.model_dump_json())}
    commit_record(place, record.model_copy(update={"params": params}))
    workspace.close_place(place)
    try:
        code, message = refused(["replay", told], monkeypatch, capsys)
        assert code == 2
        assert "on record: its gate was not reached, or it was recorded by an earlier version" in message
        assert "The run kept no texts of items to show." in ask("explain", told)
    finally:
        git(home, "branch", "-D", f"run/{told}")


def test_an_explanation_of_a_refusal_reads_well_to_somebody_who_has_never_seen_the_project(home: Path) -> None:
    said = ask("explain", REFUSED)
    for sentence in (
        "The candidate was refused. It is not merged and not released; what was in production stays there.",
        "Nothing was in production yet, so that the base stands in for it.",
        (
            "On general_knowledge (acc): it is worse by 22.5 points compared with the base, on 160 items; it may be "
            "worse by 5.0 points at most. It is proved that it does not."
        ),
        "What does hold:\n- On ticket_routing (exact_match): the candidate reached ",
        "What to try:\n- forgetting on general_knowledge: raise split.replay_share (now 0.08, 5 to 10 % is usual)",
        "    forgetting: benchmark general_knowledge, found 0.225, high 0.29375, items 160, low 0.1625, metric acc",
        (
            "    tunegate sweep --set split.replay_share=0.1\n    tunegate sweep --set train.learning_rate=0.00035\n"
            "    tunegate sweep --set train.num_train_epochs=0.25\n"
            f"  All of them, in one table: tunegate sweep --suggested {REFUSED}"
        ),
        '"Proved" means: if it were not so,',
    ):
        assert sentence in said.replace("\n\n", "\n")
    assert said.count("lost: the candidate does worse than the base (acc 1, now 0)") == 10
    assert "asked:          Question 1: which planet is the largest?" in said
    assert "candidate said: Saturn" in said


def test_an_explanation_of_a_pass_says_what_was_proved(home: Path) -> None:
    said = ask("explain", PASSED)
    assert "The candidate passed: every rule is proved to hold. It may be merged and released." in said
    assert "it must be better by 30.0 points at least. That is proved." in said
    assert "gained: the candidate does better than the base" in said


@pytest.mark.parametrize(
    ("is_passed", "word", "title"), [(True, "hint", "Hints for the next one:"), (False, "try", "What to try:")]
)
def test_the_findings_of_a_candidate_that_passed_are_hints(is_passed: bool, word: str, title: str) -> None:
    verdict = fake_verdict(passed=is_passed).model_copy(update={"diagnosis": FINDINGS})
    told = "\n".join(explanation(passed_record(), verdict))
    assert f"\n{title}\n- ticket_routing does not follow: look for wrong labels in the sources\n" in told
    first, second, *changes = summary_lines(verdict)[-5:-1]
    assert first == f"gate: {word}: ticket_routing does not follow: look for wrong labels in the sources"
    assert second.startswith(f"gate: {word}: the validation loss rose from 0.292 to 0.401: lower lora.r (now 16) or ")
    assert changes == ["gate:      lora.lora_alpha: 16, lora.r: 8", "gate:      lora.lora_dropout: 0.05"]


def test_the_newest_verdict_is_not_looked_for_beyond_the_newest_run(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, message = refused(["explain"], monkeypatch, capsys)
    assert code == 2
    assert f"run {CRASHED} has no verdict" in message


def test_a_replay_imports_neither_torch_nor_prefect_nor_the_whole_of_scipy(home: Path) -> None:
    script = (
        "import sys; from flows.gate_commands import replay_command; from pathlib import Path; "
        f"code = replay_command(Path('.'), {PASSED!r}, [], as_json=True); "
        "print(sorted({'torch', 'prefect', 'lm_eval', 'scipy.stats', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=home, check=True, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.stderr == "[]\n"
    assert Verdict.model_validate_json(done.stdout).verdict == "passed"
