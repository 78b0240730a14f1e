"""Tell the git remote what was released and promoted; where there is none, nothing is told.

The push decides between two clones: what it refuses because somebody else was first is taken back here.
"""

import os
import subprocess
from pathlib import Path

from flows.git import git
from tasks.errors import PublishFailed, PublishRefused, WorkspaceInvalid

PUSH_SECONDS = 60
ASKS_NOBODY = {"GIT_TERMINAL_PROMPT": "0"}
"""A remote that wants a password is a failed push, not a command that waits for ever."""


def remote_of(root: Path) -> str | None:
    """The remote that is pushed to: `remote.pushDefault`, else `origin`, else the only one there is."""
    names = git(root, "remote").split()
    chosen = git(root, "config", "--default=", "remote.pushDefault")
    if chosen:
        return chosen
    return "origin" if "origin" in names else names[0] if len(names) == 1 else None


def push_release(root: Path, name: str, branch: str, made: str | None) -> str | None:
    """Push every version and stage tag of `name`, and the branch of the run; all of it or nothing.

    Args:
        root: the repository.
        name: the name of the model.
        branch: the branch of the run that made the release; left out where it is not here.
        made: the stage tag that was just made, None where none was.

    Returns:
        The name of the remote, or None where there is none to push to.

    Raises:
        PublishRefused: another clone gave the stage away first, and `made` is taken back; or the run's branch there has
            what this one has not.
        PublishFailed: the remote cannot be reached or would not take it; what was done here stays.
    """
    remote = remote_of(root)
    if remote is None:
        return None
    patterns = [f"refs/tags/{name}@*", f"refs/tags/{name}#*"]
    if git(root, "branch", "--list", branch):
        patterns.append(f"refs/heads/{branch}")
    said = _push(root, remote, [f"{pattern}:{pattern}" for pattern in patterns])
    if said is None:
        return remote
    taken = _taken(root, remote, patterns[:2])
    if made in taken:
        git(root, "tag", "--delete", str(made))
        raise PublishRefused(
            f"{remote} has {made} already, from another clone, which was first; what was done here is taken back\n"
            f"see what it did by `git fetch {remote} --tags --force`, and give the command again if it is still wanted"
        )
    if taken:
        raise PublishRefused(
            f"done here, but {remote} has {', '.join(taken)} of another clone at other commits; nothing was pushed\n"
            f"`git fetch {remote} --tags --force` takes those, then give the command again"
        )
    if _has_diverged(root, remote, branch):
        raise PublishRefused(
            f"done here, but {remote} has {branch} with what another clone added, an approval say; nothing was pushed\n"
            f"`git fetch {remote} +{branch}:{branch}` takes theirs in place of what was added here (`git log {branch}` "
            "shows it), then give the command again"
        )
    raise PublishFailed(
        f"done here, but {remote} does not know of it: {said}\ngive the same command again once {remote} answers: "
        "it changes nothing here and pushes what is missing"
    )


def _push(root: Path, remote: str, refspecs: list[str]) -> str | None:
    """None when the remote took everything, else what git said, in one line."""
    command = ["git", "-c", f"core.hooksPath={os.devnull}", "push", "--quiet", "--atomic", remote, *refspecs]
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env={**os.environ, **ASKS_NOBODY},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PUSH_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {PUSH_SECONDS} seconds"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return None if done.returncode == 0 else without_credentials("; ".join(lines[:3]) or f"exit {done.returncode}")


def without_credentials(text: str) -> str:
    """Addresses without the user and the password that may stand in them."""
    return " ".join(_without_user(word) for word in text.split())


def _without_user(word: str) -> str:
    before, scheme, rest = word.partition("://")
    return f"{before}{scheme}{rest.rpartition('@')[2]}" if scheme else word


def _taken(root: Path, remote: str, patterns: list[str]) -> list[str]:
    """The tags that the remote has otherwise than we; none where it does not answer."""
    theirs = _refs_of(root, remote, patterns)
    ours = git(root, "for-each-ref", "--format=%(objectname)\t%(refname)", *patterns).splitlines()
    both = [(value, ref) for value, ref in (line.split("\t") for line in ours) if ref in theirs]
    return sorted(ref.removeprefix("refs/tags/") for value, ref in both if theirs[ref] != value)


def _has_diverged(root: Path, remote: str, branch: str) -> bool:
    """Whether the remote's branch has a commit that ours has not."""
    theirs = _refs_of(root, remote, [f"refs/heads/{branch}"]).values()
    is_here = bool(git(root, "branch", "--list", branch))
    return is_here and not set(git(root, "rev-list", f"refs/heads/{branch}").split()).issuperset(theirs)


def _refs_of(root: Path, remote: str, patterns: list[str]) -> dict[str, str]:
    """What the remote's refs name; none where it does not answer."""
    words = ("ls-remote", "--refs", remote, *patterns)
    try:
        lines = git(root, *words, environment=ASKS_NOBODY, seconds=PUSH_SECONDS).splitlines()
    except WorkspaceInvalid:
        return {}
    return {ref: value for value, ref in (line.split("\t") for line in lines)}
