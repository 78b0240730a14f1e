"""After a change of what is measured the champion is evaluated again from its own adapter, or the gate refuses."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import champion, display, registry
from flows.champion import bring_up_to_date, outdated, write_samples
from flows.evidence import read_evidence
from flows.git import git, show_file
from flows.workspace import RunPlace, at_commit
from tasks import paths
from tasks.digests import digest_path
from tasks.errors import WorkspaceInvalid
from tasks.files import read_json, write_json, write_jsonl
from tasks.records import Champion, ChampionModel, Evaluation, Sample
from tests.flows.fake_run import fake_samples, passed_record
from tests.flows.test_retrain import FIRST, SECOND, go
from tests.flows.tiny_line import evaluation
from tests.flows.tiny_repo import commit, run

pytestmark = pytest.mark.usefixtures("prefect_server", "plain_git")


MEASURED_AGAIN = "what the champion said when it was measured again"


def other_settings(found: Evaluation) -> Evaluation:
    """The same scores as if they had been taken with another batch size."""
    prints = tuple(item.model_copy(update={"batch_size": 32}) for item in found.fingerprints)
    return found.model_copy(update={"fingerprints": prints})


def stand_in(monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> list[ChampionModel]:
    """Let the evaluation of the champion be one that is written down, and note what it was given."""
    given: list[ChampionModel] = []

    def run_lines(command: list[str], root: Path, extra: dict[str, str], _timeout: float) -> Iterator[str | int]:
        assert command[1:] == ["-m", "tasks.evaluate", "champion"]
        given.append(read_json(root / paths.CHAMPION_MODEL, ChampionModel))
        assert digest_path(root / paths.CHAMPION_ADAPTER) == given[-1].adapter_digest
        if fails:
            Path(extra["TUNEGATE_OUTCOME"]).write_text(json.dumps({"message": "out of memory"}), encoding="utf-8")
        else:
            again = other_settings(evaluation("champion", 0.75))
            write_json(root / paths.EVALUATE_CHAMPION / paths.EVALUATION, again)
            write_jsonl(root / paths.EVALUATE_CHAMPION / paths.SAMPLES, [answer(MEASURED_AGAIN)])
        yield "evaluate champion: ticket_routing exact_match 0.750"
        yield 1 if fails else 0

    monkeypatch.setattr(champion, "run_lines", run_lines)
    return given


def answer(text: str) -> Sample:
    """What the champion answered to an item that the made-up candidate has answered too."""
    return next(one for one in fake_samples("candidate") if one.item == 1).model_copy(update={"answer": text})


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, lines: Callable[[str], Path]) -> Path:
    """A whole line whose first run holds production, and whose benchmarks have changed since."""
    root = tmp_path_factory.mktemp("released") / "repo"
    shutil.copytree(lines("whole"), root, symlinks=True)
    files = root / "made/evaluate_candidate/files" / paths.EVALUATE_CANDIDATE / paths.EVALUATION
    adapter = digest_path(next((root / "made").rglob("adapter_model.safetensors")).parent)
    write_json(files, evaluation("candidate", 0.75).model_copy(update={"adapter_digest": adapter}))
    commit(root, "the candidate's adapter has a digest")
    go(root, FIRST)
    write_json(files, other_settings(read_json(files, Evaluation)))
    commit(root, "another batch size")
    return root


@pytest.fixture
def place(released: Path, tmp_path: Path) -> Iterator[RunPlace]:
    """A run of that line as it stands before the gate."""
    with at_commit(released, "HEAD") as worktree:
        record, _ = registry.champion(released, "support-router", "production")
        write_json(worktree / paths.CHAMPION, record)
        for stage in ("base", "evaluate_candidate"):
            shutil.copytree(worktree / "made" / stage / "files", worktree, dirs_exist_ok=True)
        yield RunPlace(released, worktree, SECOND, "b", "s", ())


def test_a_run_evaluates_the_champion_again_and_the_gate_compares_with_that(
    released: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = stand_in(monkeypatch)
    _, record = go(released, SECOND)
    kept = json.loads(show_file(released, f"run/{SECOND}", "data/champion/champion.json") or "")
    assert (kept["release"], kept["evaluation"]["fingerprints"][0]["batch_size"]) == ("support-router@v0.0.1", 32)
    assert {stage.name: stage.outcome for stage in record.stages}["gate"] in {"executed", "restored"}
    assert [model.base.name for model in given] == ["made/up"]
    assert given[0].quantization is not None
    files = git(released, "ls-tree", "-r", "--name-only", f"run/{SECOND}").splitlines()
    assert [name for name in files if name.startswith("data/champion/")] == ["data/champion/champion.json"]


def test_the_report_sets_the_candidates_answers_beside_the_champions(
    place: RunPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_samples(place, kept(place))
    of_the_release = read_evidence(passed_record(), place.worktree).champion_samples
    assert of_the_release == tuple(fake_samples("candidate"))
    stand_in(monkeypatch)
    bring_up_to_date(place, 60)
    assert [one.answer for one in read_evidence(passed_record(), place.worktree).champion_samples] == [MEASURED_AGAIN]


def test_without_a_champion_there_are_no_answers_of_it(place: RunPlace) -> None:
    write_samples(place, kept(place))
    write_samples(place, Champion())
    assert read_evidence(passed_record(), place.worktree).champion_samples == ()


def test_the_gate_looks_again_where_nothing_but_the_champions_scores_moved(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "repo"
    shutil.copytree(released, root, symlinks=True)
    registry.write_champion(root, registry.champion(root, "support-router", "production")[0])
    run(root, sys.executable, "-m", "dvc", "repro", "--quiet")
    commit(root, "all that a run would compute, with the champion as it was released")
    stand_in(monkeypatch)
    _, record = go(root, "20260102-050607-cccc")
    ended = {stage.name: stage.outcome for stage in record.stages}
    assert ended["evaluate_candidate"] == "unchanged"
    assert ended["gate"] in {"executed", "restored"}  # restored where a run before has met the same scores


def test_it_is_told(place: RunPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    notes = noted(monkeypatch)
    assert bring_up_to_date(place, 60)
    assert notes == ["support-router@v0.0.1 was measured otherwise on ticket_routing: it is evaluated again"]


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    notes: list[str] = []
    shown = SimpleNamespace(note=notes.append, line=lambda *_: None)
    monkeypatch.setattr(display, "current", lambda: shown)
    return notes


def kept(place: RunPlace) -> Champion:
    return read_json(place.worktree / paths.CHAMPION, Champion)


def test_a_champion_that_was_measured_alike_is_left_alone(place: RunPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    given = stand_in(monkeypatch)
    write_json(place.worktree / paths.EVALUATE_CANDIDATE / paths.EVALUATION, evaluation("candidate", 0.75))
    assert not bring_up_to_date(place, 60)
    assert given == []


def test_without_a_champion_the_base_stands_in_and_that_is_told(
    place: RunPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = noted(monkeypatch)
    write_json(place.worktree / paths.CHAMPION, Champion())
    assert not bring_up_to_date(place, 60)
    assert notes == ["no release holds production: the base stands in for it"]


def not_in_the_cache(*_: object) -> None:
    raise WorkspaceInvalid("not in the cache")


@pytest.mark.parametrize("trouble", ["failed", "other_bytes", "gone"])
def test_what_stands_in_the_way_is_told_and_the_old_scores_stay(
    trouble: str, place: RunPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, fails=trouble == "failed")
    notes, before = noted(monkeypatch), kept(place)
    assert before.evaluation is not None
    if trouble == "other_bytes":
        changed = before.evaluation.model_copy(update={"adapter_digest": "0" * 64})
        before = before.model_copy(update={"evaluation": changed})
        write_json(place.worktree / paths.CHAMPION, before)
    if trouble == "gone":
        monkeypatch.setattr(champion, "checkout", not_in_the_cache)
    assert not bring_up_to_date(place, 60)
    reason = {"failed": "out of memory", "other_bytes": "released was 000000000000", "gone": "not in the cache"}[
        trouble
    ]
    assert "cannot be evaluated again, so that the gate will refuse" in notes[-1]
    assert reason in notes[-1]
    assert kept(place) == before


def test_only_the_benchmarks_of_the_candidate_count() -> None:
    old, new = evaluation("champion", 0.5), evaluation("candidate", 0.75)
    more = new.fingerprints[0].model_copy(update={"benchmark": "another"})
    grown = new.model_copy(update={"fingerprints": (*new.fingerprints, more)})
    assert outdated(old, new) == []
    assert outdated(old, grown) == ["another"]
    assert outdated(grown, old) == []
