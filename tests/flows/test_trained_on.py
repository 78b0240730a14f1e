"""`tunegate audit trained-on`: who saw a row, and who could not be asked."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import workspace
from flows.git import git
from flows.record import read_run
from flows.registry import register
from flows.row_index import INDEX
from flows.row_tables import final_fates
from flows.run_branches import run_revision
from flows.run_record import StageRecord
from flows.trained_on import own_releases
from flows.workspace import cache_folder
from tasks import paths
from tests.flows.data_runs import object_of, put_data_run
from tests.flows.fake_run import passed_record
from tests.flows.real_release import NAME, RUNS
from tests.flows.test_data_commands import BROKEN, LEDGERS, LONG, OTHER, SHORT, entry, write_data
from tests.flows.tiny_repo import commit, run

Tunegate = Callable[..., tuple[int, str]]
FIRST, SECOND, THIRD = "20261120-081502-0001", "20261121-081502-0002", "20261122-081502-0003"
FOURTH = "20261123-081502-0004"
MOVED = {
    **LEDGERS,
    paths.DEDUP: [],
    paths.SPLIT: [
        entry(LONG, 1, "split", "kept", "train", LONG),
        entry(SHORT, 2, "split", "kept", "validation", LONG),
        entry(OTHER, 5, "split", "kept", "train", OTHER),
    ],
}


def not_trained(stages: tuple[StageRecord, ...]) -> tuple[StageRecord, ...]:
    return tuple(stage.model_copy(update={"outcome": "failed"}) if stage.name == "train" else stage for stage in stages)


@pytest.fixture(scope="module")
def three_runs(tmp_path_factory: pytest.TempPathFactory, lines: Callable[[str], Path]) -> Path:
    """A release, a run of the same data, and a run of other data whose training failed."""
    root = tmp_path_factory.mktemp("trained") / "repo"
    run(root.parent, "cp", "-a", str(lines("short")), str(root))
    released = passed_record().release
    assert released is not None
    put_data_run(root, FIRST, write_data, release=released)
    register(root, released, git(root, "rev-parse", f"run/{FIRST}"))
    put_data_run(root, SECOND, write_data)
    put_data_run(root, THIRD, lambda place: write_data(place, MOVED), status="crashed")
    return root


@pytest.fixture
def at_home(tmp_path: Path, three_runs: Path, plain_git: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "repo"
    run(tmp_path, "cp", "-a", str(three_runs), str(root))
    monkeypatch.chdir(root)
    return root


def ask(tunegate: Tunegate, *words: str, code: int = 0) -> dict[str, Any]:
    found, said = tunegate("audit", "trained-on", *words, "--json")
    assert found == code, said
    return dict(json.loads(said))


def test_a_row_is_told_by_run_partition_and_release(at_home: Path, tunegate: Tunegate) -> None:
    found = ask(tunegate, LONG)
    told = [(seen["run_id"], seen["rule"], seen["trained"], seen["release"]) for seen in found["sightings"]]
    assert told == [
        (THIRD, "train", True, None), (SECOND, "train", True, None), (FIRST, "train", True, "support-router@v0.3.0"),
    ]  # fmt: skip
    assert found["releases"] == ["support-router@v0.3.0"]
    assert (found["runs_asked"], found["unread"], found["without_rows"]) == (3, [], [])


def test_a_version_that_another_run_took_is_not_told_as_this_runs(released: Path) -> None:
    first, second = (read_run(released, run_id) for run_id in RUNS[:2])
    assert first.release is not None
    assert own_releases(released, [first, second]) == {RUNS[0]: f"{NAME}@v0.0.1", RUNS[1]: f"{NAME}@v0.0.2"}
    taken = second.model_copy(update={"release": first.release})
    assert own_releases(released, [first, taken]) == {RUNS[0]: f"{NAME}@v0.0.1"}


def test_a_row_that_was_dropped_or_held_out_was_not_trained_on(at_home: Path, tunegate: Tunegate) -> None:
    found = ask(tunegate, SHORT)
    told = [(seen["run_id"], seen["stage"], seen["fate"], seen["rule"], seen["trained"]) for seen in found["sightings"]]
    assert told == [
        (THIRD, "split", "kept", "validation", False), (SECOND, "dedup", "dropped", "near_duplicate", False),
        (FIRST, "dedup", "dropped", "near_duplicate", False),
    ]  # fmt: skip
    assert (found["trained_runs"], found["releases"]) == ([], [])


def test_a_training_that_failed_trained_on_nothing(
    tmp_path: Path, short_line: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(short_line)
    put_data_run(short_line, FIRST, write_data)
    record = read_run(short_line, FIRST)
    git(short_line, "branch", "-D", f"run/{FIRST}")
    put_data_run(short_line, FIRST, write_data, stages=not_trained(record.stages))
    assert ask(tunegate, LONG)["trained_runs"] == []
    assert "in train, but no training came to its end" in tunegate("audit", "trained-on", LONG)[1]


def test_the_beginning_of_an_id_names_the_row_and_words_find_it_too(at_home: Path, tunegate: Tunegate) -> None:
    assert ask(tunegate, LONG[:3])["rows"] == [LONG]
    assert ask(tunegate, "ANNUAL plan")["rows"] == [LONG, SHORT]
    assert ask(tunegate, "oh no")["rows"] == [BROKEN]


def test_words_that_look_like_an_id_are_searched_when_no_row_has_it(at_home: Path, tunegate: Tunegate) -> None:
    assert ask(tunegate, "dd")["rows"] == [BROKEN]
    assert ask(tunegate, "dd", "--text")["rows"] == []
    assert ask(tunegate, "ed")["rows"] == [LONG, SHORT]


def test_nobody_saw_a_row_that_no_run_has(at_home: Path, tunegate: Tunegate) -> None:
    assert tunegate("audit", "trained-on", "f" * 16) == (
        0, f"none of the 3 runs that were asked has a row with '{'f' * 16}'\n",
    )  # fmt: skip


def test_a_run_whose_ledger_is_gone_is_named_and_the_answer_is_not_whole(at_home: Path, tunegate: Tunegate) -> None:
    object_of(at_home, THIRD, "data/split/ledger.parquet").unlink()
    found = ask(tunegate, LONG, code=4)
    assert [unread["run_id"] for unread in found["unread"]] == [THIRD]
    assert found["runs_asked"] == 2
    said = tunegate("audit", "trained-on", LONG)[1]
    assert f"NOT ASKED: run {THIRD}: run {THIRD}: the DVC cache no longer has data/split/ledger.parquet" in said
    assert "the answer is not whole" in said


def test_a_damaged_ledger_is_named_and_never_read(at_home: Path, tunegate: Tunegate) -> None:
    place = object_of(at_home, THIRD, "data/split/ledger.parquet")
    place.chmod(0o644)
    place.write_bytes(b"")
    found = ask(tunegate, LONG, code=4)
    assert [unread["run_id"] for unread in found["unread"]] == [THIRD]
    assert "damaged" in str(found["unread"][0]["reason"])


def test_an_indexed_run_is_asked_without_its_ledgers_and_a_broken_index_is_made_again(
    at_home: Path, tunegate: Tunegate
) -> None:
    before = ask(tunegate, LONG)
    for place in (at_home / INDEX).iterdir():
        place.write_bytes(b"torn")
    assert ask(tunegate, LONG) == before
    shutil.rmtree(cache_folder(at_home))
    assert ask(tunegate, LONG) == before
    shutil.rmtree(at_home / INDEX)
    assert len(ask(tunegate, LONG, code=4)["unread"]) == 3


def test_runs_with_the_same_data_are_read_once(
    at_home: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[Path]()

    def noted(path: Path) -> list[tuple[str, str, str]]:
        made.append(path)
        return final_fates(path)

    monkeypatch.setattr("flows.row_index.final_fates", noted)
    ask(tunegate, LONG)
    assert len(made) == 4 + 2  # the ledgers of the first data, and the two of the third run that differ


def test_a_fresh_clone_asks_its_remotes_and_fetches_what_dvc_has(
    at_home: Path, tmp_path: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clone = tmp_path / "store", tmp_path / "clone"
    run(at_home, "dvc", "remote", "add", "--default", "store", "../store")
    commit(at_home, "a remote")
    put_data_run(at_home, FOURTH, write_data)
    for run_id in (FIRST, FOURTH):
        with workspace.at_commit(at_home, f"run/{run_id}") as worktree:
            run(worktree, "dvc", "push", "--quiet")
    run(tmp_path, "git", "clone", "--quiet", str(at_home), str(clone))
    monkeypatch.chdir(clone)
    assert run_revision(clone, FIRST) == f"refs/remotes/origin/run/{FIRST}"
    assert len(ask(tunegate, LONG, code=4)["unread"]) == 4
    found = ask(tunegate, LONG, "--fetch", code=4)
    assert [seen["run_id"] for seen in found["sightings"]] == [FOURTH, SECOND, FIRST]  # the second has the first's data
    assert [unread["run_id"] for unread in found["unread"]] == [THIRD]
    shutil.rmtree(store)
    shutil.rmtree(cache_folder(clone))
    shutil.rmtree(clone / INDEX)
    found = ask(tunegate, LONG, "--fetch", code=4)
    assert len(found["unread"]) == 4
