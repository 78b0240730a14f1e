"""`tunegate sweep` and `tunegate compare`: candidates, what is on record already, the choice, the tables."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import cli, sweep, sweep_commands, workspace
from flows.compare_commands import measure_text, parse_methods, parse_seeds
from flows.comparison import Measure, compare_methods, method_candidates, over_seeds
from flows.run_branches import read_runs
from flows.run_record import RunRecord
from flows.sweep import Candidate, Judged, adjusted_confidence, choose, combinations, judge_all, on_record
from tasks.errors import ParamsInvalid
from tasks.params import Params, load_params
from tasks.records import Champion
from tasks.verdict_records import Outcome
from tests.flows.fake_run import fake_samples, passed_record
from tests.flows.judged_run import forgetful, judged_record
from tests.flows.tiny_line import ROOT

TEXT = "train: # how\n  seed: 1\n  method: qlora\nlora:\n  r: 16\n  target_modules: all-linear\n"


def test_every_combination_is_a_candidate_and_comments_stay() -> None:
    found = combinations(TEXT, ["lora.r=8,32", "train.seed=range(1,3)"])
    assert [one.name for one in found] == [
        "lora.r=8, train.seed=1", "lora.r=8, train.seed=2", "lora.r=32, train.seed=1", "lora.r=32, train.seed=2",
    ]  # fmt: skip
    assert found[0].text == TEXT.replace("r: 16", "r: 8")
    assert len({one.file_name for one in found}) == 4


def test_the_same_parameters_are_one_candidate() -> None:
    assert len(combinations(TEXT, ["lora.r=8,8", "train.seed=1"])) == 1


def test_a_value_may_be_a_list_and_null() -> None:
    (found,) = combinations(TEXT, ["lora.target_modules=[q_proj,v_proj]", "train.method=null"])
    assert "target_modules: [q_proj, v_proj]" in found.text or "- q_proj" in found.text
    assert found.changes[1] == "train.method=null"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("lora.rr=8", "params.yaml.lora has no 'rr'; it has r, target_modules; did you mean 'r'"),
        ("lora.r", "expected KEY=VALUE"),
        ("lora.r.x=1", "params.yaml.lora.r is a value"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(setting: str, said: str) -> None:
    with pytest.raises(ParamsInvalid) as found:
        combinations(TEXT, [setting])
    assert said in str(found.value).replace("?", "")


def test_the_more_candidates_the_surer_each_has_to_be() -> None:
    assert adjusted_confidence(0.95, 1) == pytest.approx(0.95)
    assert adjusted_confidence(0.95, 10) == pytest.approx(0.995)


def judged(name: str, adjusted: Outcome | None, gain: float | None) -> Judged:
    return Judged(Candidate((name,), name), None, adjusted, gain)


def test_of_those_that_pass_the_one_that_gained_most_is_chosen() -> None:
    many = [
        judged("a", "passed", 0.2),
        judged("b", "refused", 0.9),
        judged("c", "passed", 0.4),
        judged("d", None, None),
    ]
    chosen = choose(many)
    assert chosen is not None
    assert chosen.candidate.name == "c"
    assert choose([judged("b", "inconclusive", 0.9)]) is None


GOOD, BAD = "20261120-081502-3f9c", "20261121-081502-77aa"
TRIED = ["train.seed=1,2,3"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, lines: Callable[[str], Path]) -> Path:
    """A repository in which the first two of three candidates are on record: one passed, one refused."""
    root = Path(shutil.copytree(lines("short"), tmp_path_factory.mktemp("swept") / "repo", symlinks=True))
    samples = [sample for sample in fake_samples("candidate") if sample.benchmark == "ticket_routing"]
    samples += [sample for sample in fake_samples("base") if sample.benchmark == "general_knowledge"]
    for run_id, candidate, answers in zip((GOOD, BAD), candidates(root), (samples, forgetful()), strict=False):
        commit, _ = workspace.snapshot(root, run_id, candidate.text)
        judged_record(root, passed_record().model_copy(update={"run_id": run_id, "snapshot_commit": commit}), answers)
    return root


def candidates(root: Path) -> list[Candidate]:
    return combinations((root / "params.yaml").read_text(encoding="utf-8"), TRIED)


@pytest.fixture
def params() -> Params:
    return load_params(ROOT / "params.yaml")


@pytest.mark.usefixtures("plain_git")
def test_a_run_is_known_by_its_tree_and_the_release_it_was_compared_with(
    swept: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def known() -> list[str | None]:
        found = on_record(swept, params, candidates(swept))
        return [None if record is None else record.run_id for record in found]

    def records(**changes: object) -> None:
        changed = [record.model_copy(update=changes) for record in read_runs(swept)]
        monkeypatch.setattr(sweep, "read_runs", lambda _root: changed)

    assert known() == [GOOD, BAD, None]
    records(status="crashed")
    assert known() == [None, None, None]
    records(snapshot_commit="0" * 40)
    assert known() == [None, None, None]
    monkeypatch.undo()
    released = Champion(release="support-router@v0.0.1"), None
    monkeypatch.setattr("flows.registry.champion", lambda *_: released)
    assert known() == [None, None, None]


@pytest.mark.usefixtures("plain_git")
def test_candidates_are_judged_with_their_number_accounted_for(swept: Path, params: Params) -> None:
    first, second, third = judge_all(swept, params, candidates(swept))
    assert (first.adjusted, second.adjusted, third.adjusted) == ("passed", "refused", None)
    assert first.gain == pytest.approx(second.gain)
    assert first.gain is not None
    assert first.gain > 0.3


def start(swept: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: list[str]) -> tuple[int, str, list[Path]]:
    """The command, with a stand-in for the runs that it starts."""
    started: list[Path] = []

    def run_apart(_root: Path, params_file: Path) -> int:
        started.append(params_file)
        return code

    monkeypatch.setattr(sweep_commands, "run_apart", run_apart)
    monkeypatch.setattr(sweep_commands, "check", lambda _root, _candidate: load_params(ROOT / "params.yaml"))
    monkeypatch.chdir(swept)
    result = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    return result.exit_code, result.output, started


@pytest.mark.usefixtures("plain_git")
def test_only_what_no_run_has_judged_is_run_and_one_is_chosen(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said, started = start(swept, monkeypatch, 1, ["sweep", "--set", TRIED[0]])
    assert [path.name for path in started] == [candidates(swept)[2].file_name]
    assert code == 0
    assert f"on record as {GOOD}" in said
    assert "chosen: train.seed=1" in said
    assert f"release it: tunegate run --params .tunegate/sweeps/{candidates(swept)[0].file_name}" in said
    assert "98.33% confidence" in said


def test_a_candidate_is_a_run_of_the_command(short_line: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wrong = short_line / "wrong.yaml"
    wrong.write_text("train: 1\n", encoding="utf-8")
    assert sweep_commands.run_apart(short_line, wrong) == 2
    assert f"error: {wrong}" in capfd.readouterr().err


@pytest.mark.usefixtures("plain_git")
def test_a_sweep_that_is_stopped_says_how_to_carry_on(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said, started = start(swept, monkeypatch, 130, ["sweep", "--set", "train.seed=7,8,9"])
    assert (code, len(started)) == (130, 1)
    assert "the same command carries on" in said


@pytest.mark.usefixtures("plain_git")
def test_nothing_is_chosen_where_nothing_passes(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said, started = start(swept, monkeypatch, 3, ["sweep", "--set", "train.seed=2"])
    assert (code, started) == (3, [])
    assert "no candidate passes" in said


def test_each_method_has_the_sections_that_it_reads(tmp_path: Path) -> None:
    made = method_candidates((ROOT / "params.yaml").read_text(encoding="utf-8"), ["qlora", "lora", "full"], [1, 2])
    for method, (first, second) in made.items():
        for one, seed in ((first, 1), (second, 2)):
            (tmp_path / "params.yaml").write_text(one.text, encoding="utf-8")
            params = load_params(tmp_path / "params.yaml")
            assert (params.train.method, params.train.seed) == (method, seed)


@pytest.mark.usefixtures("plain_git")
def test_methods_are_compared_item_by_item_with_the_first(swept: Path, params: Params) -> None:
    by_id: dict[str, RunRecord] = {record.run_id: record for record in read_runs(swept)}
    first, second = compare_methods(swept, params.gate, {"qlora": [by_id[GOOD]], "lora": [by_id[BAD]], "full": []})
    assert first.differences == (None, None)
    tickets, knowledge = second.differences
    assert tickets == Measure(0.0, 0.0, 0.0)
    assert knowledge is not None
    assert knowledge.low is not None
    assert knowledge.high is not None
    assert knowledge.low < knowledge.mean < knowledge.high < 0
    assert knowledge.mean == pytest.approx(second.scores[1] - first.scores[1])


@pytest.mark.usefixtures("plain_git")
def test_compare_shows_what_is_there_and_says_where_nothing_is(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_id = {record.run_id: record for record in read_runs(swept)}
    runs = {1: by_id[GOOD], 2: by_id[BAD]}
    monkeypatch.setattr("flows.compare_commands.memory_warning", lambda _root, _params: None)
    monkeypatch.setattr(
        "flows.compare_commands.on_record",
        lambda _root, _params, made: [runs.get(int(one.changes[1].removeprefix("train.seed="))) for one in made],
    )
    code, said, started = start(swept, monkeypatch, 0, ["compare", "--methods", "qlora,lora", "--seeds", "1,2"])
    assert (code, len(started)) == (0, 2)  # those of qlora are the candidates that were judged
    assert "points above qlora, item by item, at 95% confidence" in said
    assert f"{GOOD}, {BAD}" in said
    runs.clear()
    code, said, _ = start(swept, monkeypatch, 1, ["compare", "--methods", "qlora,lora"])
    assert code == 0
    assert "no method came to a verdict" in said


def test_a_figure_of_several_runs_has_students_interval() -> None:
    assert over_seeds([], 0.95) is None
    assert over_seeds([3.0], 0.95) == Measure(3.0, None, None)
    found = over_seeds([1.0, 2.0, 3.0], 0.95)
    assert found is not None
    assert found.low == pytest.approx(2 - 4.302653 / 3**0.5)
    assert found.high == pytest.approx(2 + 4.302653 / 3**0.5)
    assert measure_text(found, 10, "+") == "+20.0 [-4.8, +44.8]"
    assert measure_text(None, 1) == "–"


@pytest.mark.parametrize("words", ["qlora,qlora", "nola", ""])
def test_methods_that_nobody_knows_are_refused(words: str) -> None:
    with pytest.raises(ParamsInvalid, match="expected each of qlora, lora, full once at most"):
        parse_methods(words)


@pytest.mark.parametrize("words", ["1,1", "a", "-1", ""])
def test_seeds_are_different_whole_numbers(words: str) -> None:
    with pytest.raises(ParamsInvalid, match="different whole numbers"):
        parse_seeds(words)
