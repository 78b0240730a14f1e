"""Commits on a branch without a working tree: what a person adds to a run that has ended.

The user's branch, index and working tree are never touched; the branch moves in one step or not at all.
"""

from collections.abc import Mapping
from pathlib import Path

from flows.git import git, identity, tree_with
from tasks.errors import WorkspaceBusy, WorkspaceInvalid


def add_files(root: Path, branch: str, files: Mapping[str, str], message: str) -> str:
    """Commit texts by path on top of `branch`; returns the commit.

    The commit is signed where the user's git signs commits (`commit.gpgsign`).

    Raises:
        WorkspaceBusy: the branch moved in between.
        WorkspaceInvalid: there is no such branch, or git could not sign.
    """
    ref = f"refs/heads/{branch}"
    tip = git(root, "rev-parse", "--verify", f"{ref}^{{commit}}")
    signing = (
        ["--gpg-sign"] if git(root, "config", "--default=false", "--type=bool", "commit.gpgsign") == "true" else []
    )
    tree = tree_with(root, tip, files)
    made = git(root, *identity(root), "commit-tree", *signing, tree, "-p", tip, "-m", message)
    try:
        git(root, "update-ref", "-m", message.splitlines()[0], ref, made, tip)
    except WorkspaceInvalid as error:
        raise WorkspaceBusy(f"{branch} moved while it was written to; give the command again ({error})") from None
    return made


def start_branch(root: Path, branch: str, commit: str, files: Mapping[str, str], message: str) -> str:
    """Make a new branch whose one commit adds texts by path to `commit`; returns the commit.

    Raises:
        WorkspaceInvalid: the branch is there already.
    """
    tree = tree_with(root, commit, files)
    made = git(root, *identity(root), "commit-tree", tree, "-p", commit, "-m", message)
    git(root, "update-ref", "-m", message.splitlines()[0], f"refs/heads/{branch}", made, "")
    return made
