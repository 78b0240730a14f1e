import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows import workspace
from flows.git import git, repository_root
from tasks.errors import WorkspaceBusy, WorkspaceInvalid
from tasks.paths import STATE_VARIABLE
from tests.flows.tiny_repo import make_repo, run, write_out

RUN = "20260102-030405-abcd"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo", {"one": write_out("one", "1")})


def state(root: Path) -> tuple[str, str, str]:
    """The branch, the index and the working tree as git sees them."""
    return (
        run(root, "git", "rev-parse", "HEAD", "--abbrev-ref", "HEAD"),
        run(root, "git", "diff", "--cached"),
        run(root, "git", "diff"),
    )


def test_a_run_id_sorts_by_time() -> None:
    early, late = (workspace.new_run_id(datetime(2026, 1, day, tzinfo=UTC)) for day in (2, 10))
    assert early < late
    assert early.startswith("20260102-000000-")


def test_the_lock_names_its_holder_and_is_free_afterwards(repo: Path) -> None:
    with workspace.lock(repo):
        assert (workspace.lock_holder(repo) or "").startswith("PID ")
        with pytest.raises(WorkspaceBusy, match=r"another run holds this workspace \(PID \d+, since"):
            workspace.lock(repo).__enter__()
    assert workspace.lock_holder(repo) is None


def test_a_killed_holder_frees_the_lock(repo: Path) -> None:
    code = (
        "import sys, os, pathlib; from flows import workspace\n"
        "with workspace.lock(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(repo)], check=False, cwd=Path(__file__).parents[2])
    with workspace.lock(repo):
        pass


def test_a_run_leaves_branch_index_and_working_tree_alone(repo: Path) -> None:
    (repo / "one.py").write_text("staged\n", encoding="utf-8")
    run(repo, "git", "add", "one.py")
    (repo / "one.py").write_text("edited\n", encoding="utf-8")
    before = state(repo)
    place = workspace.open_place(repo, RUN)
    assert (place.worktree / "one.py").read_text(encoding="utf-8") == "edited\n"
    (place.worktree / "note.txt").write_text("kept\n", encoding="utf-8")
    workspace.commit_all(place, "Run", ["note.txt"])
    workspace.close_place(place)
    assert state(repo) == before
    assert git(repo, "show", f"run/{RUN}:note.txt") == "kept"
    assert not place.worktree.exists()


def test_uncommitted_changes_are_in_the_runs_own_commit_and_flagged(repo: Path) -> None:
    (repo / "one.py").write_text("edited\n", encoding="utf-8")
    place = workspace.open_place(repo, RUN)
    assert (place.is_dirty, place.changed_files) == (True, ("one.py",))
    assert git(repo, "show", f"{place.start_commit}:one.py") == "edited"
    assert git(repo, "rev-parse", f"{place.start_commit}^") == place.base_commit
    workspace.close_place(place)


def test_a_clean_workspace_starts_from_its_own_commit(repo: Path) -> None:
    place = workspace.open_place(repo, RUN)
    assert (place.start_commit, place.changed_files) == (place.base_commit, ())
    workspace.close_place(place)


def test_the_worktree_shares_the_cache_of_the_workspace(repo: Path) -> None:
    place = workspace.open_place(repo, RUN)
    run(place.worktree, sys.executable, "-m", "dvc", "repro", "--quiet")
    workspace.close_place(place)
    assert any((repo / ".dvc/cache/files").rglob("*"))
    said = run(repo, sys.executable, "-m", "dvc", "repro")
    assert "is cached - skipping run" in said


def test_the_worktree_of_a_run_that_died_is_found_and_removed(repo: Path) -> None:
    place = workspace.open_place(repo, RUN)
    assert workspace.leftovers(repo) == [place.worktree]
    workspace.remove_worktree(repo, place.worktree)
    assert workspace.leftovers(repo) == []
    assert git(repo, "worktree", "list").count("\n") == 0


def test_a_folder_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceInvalid, match="not in a Tunegate workspace; cd into the clone"):
        repository_root(tmp_path)


def test_the_state_is_that_of_the_users_workspace_for_as_long_as_a_run_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    with workspace.state_outlives_the_worktree(tmp_path):
        assert os.environ[STATE_VARIABLE] == str(tmp_path / ".tunegate")
    assert STATE_VARIABLE not in os.environ
    monkeypatch.setenv(STATE_VARIABLE, "elsewhere")
    with workspace.state_outlives_the_worktree(tmp_path):
        pass
    assert os.environ[STATE_VARIABLE] == "elsewhere"
