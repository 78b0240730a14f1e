"""Where a run happens: a git worktree of its own with the shared DVC cache, under a lock, on a branch of its own.

The user's branch, index and working tree are never touched. Uncommitted changes to tracked files go into the run's own
commit by a snapshot, so that what ran is what is recorded.
"""

import configparser
import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, ConfigDict

from flows.git import common_folder, git, identity, tree_with
from tasks.errors import FileInvalid, WorkspaceBusy
from tasks.files import read_json, write_text
from tasks.paths import PARAMS, STATE, STATE_VARIABLE

WORKTREES = STATE / "worktrees"
REPORTS = STATE / "reports"
CURRENT = STATE / "current.json"
DOCS_LINK = "data_docs/index.html"
"""Data Docs are kept beside the report where the user finds it; the committed page only links to them."""
RUN_BRANCHES = "run/"


class Current(BaseModel):
    """Where the run in progress is, or was when its process died; `since` is when its stage began."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    stage: str
    pid: int
    since: str


@dataclass(frozen=True)
class RunPlace:
    """One run's worktree and where it came from."""

    root: Path
    worktree: Path
    run_id: str
    base_commit: str
    start_commit: str
    changed_files: tuple[str, ...]

    @property
    def branch(self) -> str:
        """The branch that the run's record is committed to."""
        return f"{RUN_BRANCHES}{self.run_id}"

    @property
    def is_dirty(self) -> bool:
        """Whether the user's tracked files differed from their commit."""
        return bool(self.changed_files)


def new_run_id(now: datetime) -> str:
    """An id that sorts by time: `20261123-140501-` and 4 random hex digits."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Hold the repository's run lock; the kernel frees it when this process ends, however it ends.

    Raises:
        WorkspaceBusy: another run holds it; the message names its process.
    """
    path = common_folder(root) / "tunegate.lock"
    with path.open("a+", encoding="utf-8") as file:
        if not _locked(file):
            file.seek(0)
            holder = file.read().strip() or "an unknown process"
            raise WorkspaceBusy(
                f"{root}: another run holds this workspace ({holder}); wait for it, or see `tunegate status`"
            )
        file.truncate(0)
        file.write(f"PID {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _locked(file: TextIO) -> bool:
    """Take the lock of a file; who only asks whether it is held (`lock_holder`) has it for a moment too."""
    for wait in (0.0, 0.05, 0.2, 0.5):
        time.sleep(wait)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


@contextmanager
def state_outlives_the_worktree(root: Path) -> Iterator[None]:
    """Have the stages keep trainer checkpoints and evaluations in the state folder of `root`, not in the worktree."""
    before = os.environ.get(STATE_VARIABLE)
    os.environ[STATE_VARIABLE] = str(root / STATE)
    try:
        yield
    finally:
        del os.environ[STATE_VARIABLE]
        if before is not None:
            os.environ[STATE_VARIABLE] = before


def lock_holder(root: Path) -> str | None:
    """Who holds the run lock, or None when nobody does."""
    path = common_folder(root) / "tunegate.lock"
    if not path.exists():
        return None
    with path.open("r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "an unknown process"
    return None


def snapshot(
    root: Path, run_id: str, params: str | None = None, commit: str | None = None
) -> tuple[str, tuple[str, ...]]:
    """The commit that a run starts from, and the tracked files that differ from HEAD, or from `commit`.

    With uncommitted changes, or with a text for params.yaml in `params`, it is a new commit on top of HEAD that holds
    them (`git stash create` makes its tree and leaves the index and the working tree alone); without, it is HEAD. A
    `commit` stands for HEAD and leaves out what the user has in the working tree.
    """
    head = commit or git(root, "rev-parse", "HEAD")
    tree = git(root, "rev-parse", f"{head}^{{tree}}")
    wanted = tree
    if commit is None and git(
        root, "status", "--porcelain", "--untracked-files=no"
    ):  # `stash create` fails on files merely touched
        stash = git(root, "stash", "create", f"tunegate {run_id}")
        wanted = git(root, "rev-parse", f"{stash}^{{tree}}")
    if params is not None:
        wanted = tree_with(root, wanted, {str(PARAMS): params})
    if wanted == tree:
        return head, ()
    changed = tuple(git(root, "diff", "--name-only", head, wanted).splitlines())
    message = f"Snapshot of uncommitted changes for run {run_id}"
    return git(root, *identity(root), "commit-tree", wanted, "-p", head, "-m", message), changed


def open_place(root: Path, run_id: str, params: str | None = None, commit: str | None = None) -> RunPlace:
    """Make the worktree of a new run on its branch, sharing the DVC cache of `root`.

    `params` replaces params.yaml; a `commit` stands for what the user has in the working tree.
    """
    base = commit or git(root, "rev-parse", "HEAD")
    start, changed = snapshot(root, run_id, params, commit)
    worktree = root / WORKTREES / run_id
    place = RunPlace(root, worktree, run_id, base, start, changed)
    git(root, "worktree", "add", "--quiet", "-b", place.branch, str(worktree), start)
    share_cache(root, worktree)
    return place


@contextmanager
def preview(root: Path, params: str | None = None) -> Iterator[Path]:
    """A worktree as a run would start in, for as long as the caller looks at it; no branch, no record."""
    start, _ = snapshot(root, "preview", params)
    with at_commit(root, start) as worktree:
        yield worktree


@contextmanager
def at_commit(root: Path, commit: str) -> Iterator[Path]:
    """A worktree of `commit`, for as long as the caller looks at it."""
    (root / STATE).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="look-", dir=root / STATE) as folder:
        worktree = Path(folder) / "worktree"
        git(root, "worktree", "add", "--quiet", "--detach", str(worktree), commit)
        try:
            share_cache(root, worktree)
            yield worktree
        finally:
            remove_worktree(root, worktree)


def share_cache(root: Path, worktree: Path) -> None:
    """Point the worktree's DVC at cache and remotes of `root`, by absolute paths in its own local configuration.

    A remote that was configured after the worktree's commit is known there too.
    """
    settings = configparser.ConfigParser(interpolation=None)
    settings.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
    for name in settings.sections():
        if name.strip("'\"").startswith("remote ") and _is_relative(url := settings.get(name, "url", fallback="")):
            settings.set(name, "url", str((root / ".dvc" / url).resolve()))
    if not settings.has_section("cache"):
        settings.add_section("cache")
    settings.set("cache", "dir", str(cache_folder(root)))
    local = worktree / ".dvc" / "config.local"
    local.touch(mode=0o600)  # it may hold the credentials of a remote
    with local.open("w", encoding="utf-8") as file:
        settings.write(file)


def _is_relative(url: str) -> bool:
    return bool(url) and "://" not in url and not Path(url).is_absolute()


def cache_folder(root: Path) -> Path:
    """The DVC cache of `root`, as an absolute path."""
    found = configparser.ConfigParser(interpolation=None)
    found.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
    return (root / ".dvc" / found.get("cache", "dir", fallback="cache")).resolve()


def commit_all(place: RunPlace, message: str, paths: list[str]) -> str:
    """Commit `paths` of the worktree, ignored or not, on the run's branch; returns the commit."""
    git(place.worktree, "add", "--force", "--", *paths)
    options = identity(place.root)
    git(
        place.worktree,
        *options,
        "-c",
        "commit.gpgsign=false",
        "commit",
        "--quiet",
        "--no-verify",
        "--allow-empty",
        "--message",
        message,
    )
    return git(place.worktree, "rev-parse", "HEAD")


def close_place(place: RunPlace) -> None:
    """Remove the worktree; the branch and what was committed to it stay."""
    remove_worktree(place.root, place.worktree)


def remove_worktree(root: Path, worktree: Path) -> None:
    """Remove a worktree and git's note of it, also when it is half made."""
    shutil.rmtree(worktree, ignore_errors=True)
    git(root, "worktree", "prune")


def leftovers(root: Path) -> list[Path]:
    """Worktrees of runs that died before they could clean up; ask only while holding the lock."""
    folder = root / WORKTREES
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def note_current(root: Path, run_id: str, stage: str) -> None:
    """Tell `tunegate status` where the run in progress is."""
    note = {"run_id": run_id, "stage": stage, "pid": os.getpid(), "since": datetime.now(UTC).isoformat("T", "seconds")}
    write_text(root / CURRENT, json.dumps(note) + "\n")


def read_current(root: Path) -> Current | None:
    """Where the run in progress is, or the last one that died was; None where there is no such note."""
    try:
        return read_json(root / CURRENT, Current)
    except FileInvalid:
        return None


def running_id(root: Path) -> str | None:
    """The id of the run in progress; until it ends its record says that it did not finish."""
    current = read_current(root)
    return None if lock_holder(root) is None or current is None else current.run_id
