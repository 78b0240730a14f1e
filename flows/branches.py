"""Commits on a branch without a working tree: what a person adds to a run that has ended.

The user's branch, index and working tree are never touched; the branch moves in one step or not at all.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from flows.git import git, identity
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
    tree = _tree_with(root, tip, files)
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
    tree = _tree_with(root, commit, files)
    made = git(root, *identity(root), "commit-tree", tree, "-p", commit, "-m", message)
    git(root, "update-ref", "-m", message.splitlines()[0], f"refs/heads/{branch}", made, "")
    return made


def _tree_with(root: Path, commit: str, files: Mapping[str, str]) -> str:
    """The tree of `commit` with these files put into it, made in an index of its own."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "read-tree", commit, environment=index)
        for path, text in files.items():
            blob = git(root, "hash-object", "-w", "--stdin", stdin=text)
            git(root, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", environment=index)
        return git(root, "write-tree", environment=index)
