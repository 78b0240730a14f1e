"""Git as the flows use it: plain commands in one folder, their output as text, their failures as our errors."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tasks.errors import WorkspaceInvalid

FALLBACK_IDENTITY = {"user.name": "Tunegate", "user.email": "tunegate@localhost"}


def git(
    root: Path,
    *arguments: str,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> str:
    """Run git in `root`, without the user's hooks, and return what it printed, stripped.

    `environment` is added to that of this process; `seconds` bounds what asks another machine.

    Hooks are for the user's own commands: `dvc install`'s would check out data in every worktree, or fail without dvc.

    Raises:
        WorkspaceInvalid: git failed, with its own message, or had no answer in time.
    """
    try:
        done = subprocess.run(
            ["git", "-c", f"core.hooksPath={os.devnull}", *arguments],
            cwd=root,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            encoding="utf-8",
            env=None if environment is None else {**os.environ, **environment},
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise WorkspaceInvalid(f"git {' '.join(arguments[:2])} in {root}: no answer in {seconds:g} seconds") from None
    if done.returncode:
        reason = done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}"
        raise WorkspaceInvalid(f"git {' '.join(arguments[:2])} in {root}: {reason}")
    return done.stdout.strip()


def tree_with(root: Path, tree: str, files: Mapping[str, str]) -> str:
    """The tree that `tree`, or that of a commit, becomes with these texts by path; index and working tree are left."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "read-tree", tree, environment=index)
        for path, text in files.items():
            blob = git(root, "hash-object", "-w", "--stdin", stdin=text)
            git(root, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", environment=index)
        return git(root, "write-tree", environment=index)


def repository_root(start: Path) -> Path:
    """The root of the working tree that `start` lies in.

    Raises:
        WorkspaceInvalid: it is no git repository, or has no commit yet.
    """
    try:
        root = Path(git(start, "rev-parse", "--show-toplevel"))
    except WorkspaceInvalid as error:
        if "not a git repository" not in str(error):
            raise
        raise WorkspaceInvalid(f"{start}: not in a Tunegate workspace; cd into the clone") from None
    git(root, "rev-parse", "--verify", "HEAD^{commit}")
    return root


def common_folder(root: Path) -> Path:
    """The .git folder that all worktrees of the repository share."""
    return (root / git(root, "rev-parse", "--git-common-dir")).resolve()


def identity(root: Path) -> list[str]:
    """`-c` options that name an author where the user has configured none."""
    options: list[str] = []
    for key, value in FALLBACK_IDENTITY.items():
        known = subprocess.run(["git", "config", key], cwd=root, capture_output=True, check=False)
        if known.returncode:
            options += ["-c", f"{key}={value}"]
    return options


def tagger(root: Path) -> dict[str, str]:
    """Who makes a tag, as GTO's options: whoever git would name, else the same fallback as for commits."""
    found = {}
    for option, key in (("author", "user.name"), ("author_email", "user.email")):
        known = subprocess.run(["git", "config", key], cwd=root, capture_output=True, text=True, check=False)
        variable = f"GIT_COMMITTER_{key.removeprefix('user.').upper()}"
        found[option] = os.environ.get(variable) or known.stdout.strip() or FALLBACK_IDENTITY[key]
    return found


def who(root: Path) -> str:
    """Who acts here, as git writes a person: `NAME <EMAIL>`."""
    person = tagger(root)
    return f"{person['author']} <{person['author_email']}>"


def show_file(root: Path, revision: str, path: str) -> str | None:
    """The text of `path` at `revision`, or None when that commit has no such file."""
    found = show_bytes(root, revision, path)
    return None if found is None else found.decode("utf-8")


def show_bytes(root: Path, revision: str, path: str) -> bytes | None:
    """The content of `path` at `revision`, or None when that commit has no such file."""
    done = subprocess.run(["git", "show", f"{revision}:{path}"], cwd=root, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None
