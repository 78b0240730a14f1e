"""What the remotes of git and DVC have, before a scheduled run: a clean branch is moved forward, all else is left.

A remote that does not answer delays: the run starts from what is here, says so, and the next one asks again.
"""

from dataclasses import dataclass
from pathlib import Path

from flows.git import git
from flows.remotes import ASKS_NOBODY, without_credentials
from flows.reproduce import checkout
from tasks.errors import WorkspaceInvalid

FETCH_SECONDS = 300


@dataclass(frozen=True)
class Fetched:
    """The commit that a scheduled run starts from, and what has to be said about how it was found."""

    commit: str
    notes: tuple[str, ...] = ()


def newest_commit(root: Path) -> Fetched:
    """The newest commit of the branch that is checked out, its remote asked; uncommitted changes are never part of it.

    Where the working tree is clean and the remote is ahead, the branch is moved forward (`git pull --ff-only`). Where
    it is not clean, or both sides have commits of their own, the remote's commit is taken and nothing here is touched.
    """
    head = git(root, "rev-parse", "HEAD")
    remote, merge = _upstream(root)
    if remote is None:
        return Fetched(head)
    try:
        git(root, "fetch", "--quiet", remote, environment=ASKS_NOBODY, seconds=FETCH_SECONDS)
        theirs = git(root, "rev-parse", "--verify", "@{upstream}^{commit}")
    except WorkspaceInvalid as error:
        said = without_credentials(str(error).splitlines()[0])
        return Fetched(head, (f"{remote} was not fetched ({merge}), the run starts from what is here: {said}",))
    if _is_ancestor(root, theirs, head):
        return Fetched(head)
    if not _is_ancestor(root, head, theirs):
        note = f"the branch here has commits that {remote} has not; the run takes {theirs[:12]} of {remote}"
        return Fetched(theirs, (note,))
    return Fetched(theirs, _move_forward(root, theirs))


def _move_forward(root: Path, commit: str) -> tuple[str, ...]:
    """Move the branch to `commit` where that loses nothing; else say that it stays."""
    if git(root, "status", "--porcelain", "--untracked-files=no"):
        return (f"the working tree has uncommitted changes and stays as it is; the run takes {commit[:12]}",)
    try:
        git(root, "merge", "--quiet", "--ff-only", commit)
    except WorkspaceInvalid as error:
        return (f"the working tree stays as it is, the run takes {commit[:12]}: {str(error).splitlines()[0]}",)
    return ()


def _upstream(root: Path) -> tuple[str | None, str]:
    """The remote and the branch there that the branch here follows; None for a detached head or a branch of its own."""
    branch = git(root, "branch", "--show-current")
    remote = git(root, "config", "--default=", f"branch.{branch}.remote") if branch else ""
    merge = git(root, "config", "--default=", f"branch.{branch}.merge") if branch else ""
    return (remote or None, merge.removeprefix("refs/heads/")) if merge and remote != "." else (None, "")


def _is_ancestor(root: Path, one: str, other: str) -> bool:
    """Whether everything of `one` is in `other`."""
    return git(root, "merge-base", one, other) == one


def missing_sources(worktree: Path) -> str | None:
    """Bring what `.dvc` files in git stand for into the worktree, from DVC's remote where the cache lacks it.

    Returns:
        None when all of it is there, else what is not and why: it may be there next time.
    """
    tracked = git(worktree, "ls-files", "-z", "--", "*.dvc").split("\0")
    outs = [Path(name.removesuffix(".dvc")) for name in tracked if name.endswith(".dvc")]
    if not outs:
        return None
    try:
        checkout(worktree, *outs)
    except WorkspaceInvalid as error:
        missing = [str(out) for out in outs if not (worktree / out).exists()]
        return f"{', '.join(missing)} not there yet: {without_credentials(str(error))}" if missing else None
    return None
