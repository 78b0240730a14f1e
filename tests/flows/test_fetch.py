"""What a scheduled run takes from the git remote, and that it leaves a user's work alone."""

import shutil
from pathlib import Path

import pytest

from flows.fetch import missing_sources, newest_commit
from flows.git import git
from tests.flows.test_retrain import user_state
from tests.flows.tiny_repo import commit, run

pytestmark = pytest.mark.usefixtures("plain_git")


@pytest.fixture
def pair(short_line: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A clone, and the repository that it follows."""
    git(tmp_path, "clone", "--quiet", str(short_line), "clone")
    return tmp_path / "clone", short_line


def add(root: Path, name: str, text: str = "new\n") -> str:
    (root / name).write_text(text, encoding="utf-8")
    return commit(root, f"add {name}")


def test_a_clean_branch_is_moved_forward(pair: tuple[Path, Path]) -> None:
    clone, origin = pair
    theirs = add(origin, "more.txt")
    assert (newest_commit(clone).commit, newest_commit(clone).notes) == (theirs, ())
    assert git(clone, "rev-parse", "HEAD") == theirs
    assert (clone / "more.txt").exists()


def test_uncommitted_work_stays_and_the_fetched_commit_runs(pair: tuple[Path, Path]) -> None:
    clone, origin = pair
    theirs = add(origin, "more.txt")
    (clone / "stage.py").write_text("edited\n", encoding="utf-8")
    before = user_state(clone)
    fetched = newest_commit(clone)
    assert fetched.commit == theirs
    assert "has uncommitted changes and stays as it is" in fetched.notes[0]
    assert user_state(clone) == before


def test_a_file_in_the_way_is_left_and_the_fetched_commit_runs(pair: tuple[Path, Path]) -> None:
    clone, origin = pair
    theirs = add(origin, "more.txt")
    (clone / "more.txt").write_text("mine\n", encoding="utf-8")
    fetched = newest_commit(clone)
    assert fetched.commit == theirs
    assert fetched.notes[0].startswith("the working tree stays as it is")
    assert (clone / "more.txt").read_text(encoding="utf-8") == "mine\n"


def test_where_both_sides_moved_the_remote_is_taken_and_nothing_here_touched(pair: tuple[Path, Path]) -> None:
    clone, origin = pair
    theirs, ours = add(origin, "more.txt"), add(clone, "mine.txt")
    fetched = newest_commit(clone)
    assert fetched.commit == theirs
    assert "commits that origin has not" in fetched.notes[0]
    assert git(clone, "rev-parse", "HEAD") == ours


def test_a_remote_that_is_down_delays_and_is_told_without_its_password(pair: tuple[Path, Path]) -> None:
    clone, origin = pair
    head = git(clone, "rev-parse", "HEAD")
    shutil.move(origin, origin.with_name("gone"))
    fetched = newest_commit(clone)
    assert fetched.commit == head
    assert fetched.notes[0].startswith("origin was not fetched (main), the run starts from what is here: git fetch")
    git(clone, "remote", "set-url", "origin", "http://ada:secret@127.0.0.1:9/repo.git")
    assert "secret" not in newest_commit(clone).notes[0]


def test_a_branch_that_follows_nothing_and_one_that_is_ahead_run_as_they_are(pair: tuple[Path, Path]) -> None:
    clone, origin = pair
    ours = add(clone, "mine.txt")
    assert (newest_commit(clone).commit, newest_commit(clone).notes) == (ours, ())
    assert newest_commit(origin).commit == git(origin, "rev-parse", "HEAD")


def test_data_that_dvc_tracks_is_brought_from_its_remote_or_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    clone, origin = pair
    assert missing_sources(clone) is None
    run(origin, "python", "-m", "dvc", "remote", "add", "--quiet", "--default", "store", str(tmp_path / "store"))
    (origin / "rows.txt").write_text("rows\n", encoding="utf-8")
    run(origin, "python", "-m", "dvc", "add", "--quiet", "rows.txt")
    commit(origin, "rows")
    newest_commit(clone)
    assert (missing_sources(clone) or "").startswith("rows.txt not there yet: dvc pull")
    run(origin, "python", "-m", "dvc", "push", "--quiet")
    assert missing_sources(clone) is None
    assert (clone / "rows.txt").read_text(encoding="utf-8") == "rows\n"
