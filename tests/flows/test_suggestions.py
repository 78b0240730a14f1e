"""`tunegate sweep --suggested`: which run, which candidates, what it shows and what it refuses."""

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import cli, sweep_commands, workspace
from flows.git import git
from flows.record import commit_record
from flows.run_record import RunRecord
from flows.suggestions import SWEEPS, run_to_mend, suggestions
from flows.sweep import combinations
from flows.wording import sweep_command_line
from tasks.digests import digest_text
from tasks.errors import NothingSuggested, ParamsInvalid, RunNotFound
from tasks.files import write_text
from tasks.findings import Changes, Finding
from tasks.params import load_params
from tasks.params_changes import with_values
from tasks.records import Sample
from tests.flows.fake_run import fake_samples, refused_record
from tests.flows.judged_run import forgetful, judged_record
from tests.flows.tiny_line import ROOT
from tests.flows.tiny_repo import commit

REFUSED, SWEPT, CRASHED = "20261120-081502-3f9c", "20261121-081502-77aa", "20261122-081502-0001"
FORGOT = ["split.replay_share=0.1", "train.learning_rate=0.00035", "train.num_train_epochs=0.25"]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def put(root: Path, run_id: str, params_text: str, answers: list[Sample], **changes: object) -> RunRecord:
    commit, _ = workspace.snapshot(root, run_id, params_text)
    fields = {"run_id": run_id, "snapshot_commit": commit, "params_digest": digest_text(params_text)}
    return judged_record(root, refused_record().model_copy(update=fields | changes), answers)


def good() -> list[Sample]:
    samples = [sample for sample in fake_samples("candidate") if sample.benchmark == "ticket_routing"]
    return samples + [sample for sample in fake_samples("base") if sample.benchmark == "general_knowledge"]


@pytest.fixture
def home(tmp_path: Path, lines: Callable[[str], Path], plain_git: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a refused run, which forgot, a sweep's candidate of it that passed, and a crashed run."""
    root = Path(shutil.copytree(lines("short"), tmp_path / "repo", symlinks=True))
    write_text(root / "params.yaml", TEXT)
    commit(root, "the shipped parameters")
    put(root, REFUSED, TEXT, forgetful())
    candidate = combinations(TEXT, [FORGOT[0]])[0]
    write_text(root / SWEEPS / candidate.file_name, candidate.text)
    put(root, SWEPT, candidate.text, good(), until="gate")
    place = workspace.open_place(root, CRASHED)
    commit_record(place, refused_record().model_copy(update={"run_id": CRASHED, "status": "crashed", "verdict": None}))
    workspace.close_place(place)
    monkeypatch.chdir(root)
    monkeypatch.setattr(sweep_commands, "memory_warning", lambda _root, _params: None)
    return root


def sweep(
    monkeypatch: pytest.MonkeyPatch, *words: str, code: int = 1, impossible: str = ""
) -> tuple[int, str, list[str]]:
    """The command with a stand-in for the runs that it starts: what it ends in, says and starts."""
    started: list[str] = []

    def run_apart(_root: Path, params_file: Path) -> int:
        started.append(params_file.name)
        return code

    def check(_root: Path, candidate: object) -> object:
        if impossible and impossible in str(candidate):
            raise ParamsInvalid("candidate: this machine has no CUDA device")
        return load_params(ROOT / "params.yaml")

    monkeypatch.setattr(sweep_commands, "run_apart", run_apart)
    monkeypatch.setattr(sweep_commands, "check", check)
    result = CliRunner().invoke(cli.app, ["sweep", *words], catch_exceptions=False)
    return result.exit_code, result.output, started


def test_the_newest_run_with_a_verdict_that_is_no_sweeps_is_the_one_to_mend(home: Path) -> None:
    assert run_to_mend(home, None).run_id == REFUSED
    assert run_to_mend(home, SWEPT).run_id == SWEPT
    with pytest.raises(RunNotFound, match=f"run {CRASHED} has no verdict: it ended as crashed"):
        run_to_mend(home, CRASHED)
    shutil.rmtree(home / SWEEPS)
    assert run_to_mend(home, None).run_id == SWEPT


def test_without_a_verdict_on_record_there_is_nothing_to_mend(home: Path) -> None:
    for run in (REFUSED, SWEPT):
        git(home, "branch", "-D", f"run/{run}")
    with pytest.raises(RunNotFound, match="no run on record has a verdict yet; `tunegate run` makes one"):
        run_to_mend(home, None)


def test_the_candidates_are_the_runs_own_parameters_each_with_one_alternative(home: Path) -> None:
    record = run_to_mend(home, REFUSED)
    write_text(home / "params.yaml", TEXT.replace("learning_rate: 7e-4", "learning_rate: 1e-4"))
    found = suggestions(home, record, None)
    assert [one.candidate.name for one in found] == FORGOT
    assert {one.modes for one in found} == {("forgetting",)}
    assert found[0].candidate.text == with_values(TEXT, [("split.replay_share", 0.1)], top="it")
    other = suggestions(home, record, (home / "params.yaml").read_text(encoding="utf-8"))
    assert "learning_rate: 1e-4" in other[0].candidate.text


def with_findings(*findings: Finding, verdict: str = "refused") -> RunRecord:
    record = refused_record()
    assert record.verdict is not None
    changed = record.verdict.model_copy(update={"diagnosis": findings, "verdict": verdict})
    return record.model_copy(update={"verdict": changed})


def finding(mode: str, *changes: Changes) -> Finding:
    return Finding.model_validate(
        {"mode": mode, "evidence": {}, "sentence": "s", "mitigation": "m", "changes": changes}
    )


def test_what_two_findings_propose_is_one_candidate_with_both_reasons(home: Path) -> None:
    slower: Changes = {"train.learning_rate": 0.00035}
    record = with_findings(finding("forgetting", slower), finding("unstable_training", slower, {"lora.r": 8}))
    found = suggestions(home, record, TEXT)
    assert [(one.candidate.name, one.modes) for one in found] == [
        ("train.learning_rate=0.00035", ("forgetting", "unstable_training")),
        ("lora.r=8", ("unstable_training",)),
    ]


def test_hints_of_a_run_that_passed_are_held_against_that_run(home: Path) -> None:
    found = suggestions(home, with_findings(finding("overfitting", {"lora.r": 8}), verdict="passed"), TEXT)
    assert [(one.candidate.name, one.modes) for one in found] == [("as it is", ()), ("lora.r=8", ("overfitting",))]


@pytest.mark.parametrize(
    ("findings", "said"),
    [
        ((), "has no findings; try values of your own: tunegate sweep --set KEY=VALUE,VALUE"),
        ((finding("unclassified"),), "was recorded before findings named changes; run again"),
        (
            (finding("noisy_data"),),
            r"has findings \(noisy_data\), and none that a parameter would cure; `tunegate gate",
        ),
    ],
)
def test_a_run_whose_findings_name_no_change_is_refused_with_what_to_do(
    home: Path, findings: tuple[Finding, ...], said: str
) -> None:
    with pytest.raises(NothingSuggested, match=said):
        suggestions(home, with_findings(*findings), TEXT)


def test_what_is_suggested_is_shown_run_once_and_chosen_among(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said, started = sweep(monkeypatch, "--suggested")
    assert said.startswith(
        f"what the findings of run {REFUSED} suggest, each a run until `gate`:\n"
        f"  {FORGOT[0]}  (forgetting)\n  {FORGOT[1]}  (forgetting)\n  {FORGOT[2]}  (forgetting)\n"
    )
    names = [combinations(TEXT, [setting])[0].file_name for setting in FORGOT]
    assert started == names[1:]
    assert f"[1/3] {FORGOT[0]}: on record as {SWEPT}" in said
    assert code == 0
    assert f"chosen: {FORGOT[0]}" in said
    assert "98.33% confidence" in said


def test_a_sweep_that_is_stopped_names_its_run_for_the_next_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said, started = sweep(monkeypatch, "--suggested", code=130)
    assert (code, len(started)) == (130, 1)
    assert f"stopped; `tunegate sweep --suggested {REFUSED}` carries on" in said


def test_what_cannot_be_tried_here_is_left_out_and_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, said, started = sweep(monkeypatch, "--suggested", REFUSED[:12], impossible=FORGOT[1])
    assert f"  {FORGOT[1]}  (left out: candidate: this machine has no CUDA device)" in said
    assert started == [combinations(TEXT, [FORGOT[2]])[0].file_name]
    assert "97.50% confidence" in said
    monkeypatch.setattr(sweep_commands, "memory_warning", lambda _root, _params: "too large")
    with pytest.raises(NothingSuggested, match="can be tried here; mend what is said above"):
        sweep(monkeypatch, "--suggested", REFUSED)


@pytest.mark.parametrize(
    "words", [[], ["--suggested", "--set", "lora.r=8"], [REFUSED], [REFUSED, "--set", "lora.r=8"]], ids=" ".join
)
def test_set_and_suggested_exclude_each_other_and_one_is_needed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tunegate", "sweep", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "takes either --set KEY=VALUE,… (may be repeated), or --suggested [RUN]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [
        {"lora.r": 32, "lora.lora_alpha": 64},
        {"train.method": "lora", "quantization": None},
        {"train.learning_rate": 3.5e-05},
        {"lora.target_modules": ["q_proj", "v_proj"]},
        {"evaluate.apply_chat_template": True},
    ],
)
def test_a_command_that_is_shown_can_be_pasted(changes: Changes) -> None:
    line = shlex.split(sweep_command_line(changes))
    assert line[:2] == ["tunegate", "sweep"]
    settings = [word for word in line[2:] if word != "--set"]
    (candidate,) = combinations(TEXT, settings)
    assert candidate.text == with_values(TEXT, changes.items(), top="it")
