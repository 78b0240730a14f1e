"""The branches that runs are on record on, here and in remotes, and many of their files read by one git process.

A clone that has only fetched knows a run as `origin/run/ID`: that is as good a record as a branch of its own.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.git import git
from flows.run_record import RunRecord, parse_run_record
from flows.workspace import RUN_BRANCHES
from tasks.errors import FileInvalid, WorkspaceInvalid

RUNS = Path("runs")
"""Where the records of runs lie in their commits."""
_OWN = f"refs/heads/{RUN_BRANCHES}"
_OF_A_REMOTE = re.compile(rf"refs/remotes/(?P<remote>[^/]+)/{RUN_BRANCHES}(?P<run_id>[^/]+)")
_FORMAT = "--format=%(refname) %(objectname)"


@dataclass(frozen=True)
class RunBranch:
    """Where a run is on record: the ref, the commit that it names, and the remote that it is known from, if any."""

    run_id: str
    ref: str
    commit: str
    remote: str | None


def every_branch(root: Path) -> list[RunBranch]:
    """All branches of runs, those of this clone first; a run that is known from a remote too is there twice."""
    own, theirs = [], []
    for line in git(root, "for-each-ref", _FORMAT, _OWN, "refs/remotes/").splitlines():
        ref, commit = line.split(" ")
        if ref.startswith(_OWN):
            own.append(RunBranch(ref.removeprefix(_OWN), ref, commit, None))
        elif match := _OF_A_REMOTE.fullmatch(ref):
            theirs.append(RunBranch(match["run_id"], ref, commit, match["remote"]))
    return [*own, *theirs]


def run_branches(root: Path) -> dict[str, RunBranch]:
    """One branch for each run, by its id, the oldest first: this clone's own where there is one."""
    found: dict[str, RunBranch] = {}
    for branch in every_branch(root):
        found.setdefault(branch.run_id, branch)
    return dict(sorted(found.items()))


def run_revision(root: Path, run_id: str) -> str:
    """What git reads a run's files by; the name of the branch of this clone where no branch is there at all."""
    own, theirs = f"{_OWN}{run_id}", f"refs/remotes/*/{RUN_BRANCHES}{run_id}"
    refs = git(root, "for-each-ref", "--format=%(refname)", own, theirs).split()
    return own if own in refs or not refs else refs[0]


def require_own_branch(root: Path, run_id: str) -> None:
    """Refuse to write to a run that this clone has no branch of.

    Raises:
        WorkspaceInvalid: with the command that makes one.
    """
    revision = run_revision(root, run_id)
    if match := _OF_A_REMOTE.fullmatch(revision):
        branch = f"{RUN_BRANCHES}{run_id}"
        raise WorkspaceInvalid(
            f"run {run_id} is known from {match['remote']} alone; `git fetch {match['remote']} {branch}:{branch}` "
            "makes a branch of it here, then give the command again"
        )


def read_blobs(root: Path, names: Sequence[str]) -> list[bytes | None]:
    """The content of many objects, `COMMIT:PATH` say, by one git process; None for one that is not there.

    Raises:
        WorkspaceInvalid: git failed.
    """
    asked = "".join(f"{name}\n" for name in names)
    done = subprocess.run(
        ["git", "cat-file", "--batch"], cwd=root, input=asked.encode(), capture_output=True, check=False
    )
    if done.returncode:
        raise WorkspaceInvalid(f"git cat-file in {root}: {done.stderr.decode('utf-8', 'replace').strip()}")
    found: list[bytes | None] = []
    place = 0
    for _ in names:
        end = done.stdout.index(b"\n", place)
        head, place = done.stdout[place:end], end + 1
        if head.endswith((b" missing", b" ambiguous")):
            found.append(None)
            continue
        size = int(head.rsplit(b" ", 1)[1])
        found.append(done.stdout[place : place + size])
        place += size + 1
    return found


def record_texts(root: Path) -> dict[str, str]:
    """The text of every run's record, by the run's id, the newest first, read by one git process."""
    branches = list(run_branches(root).values())[::-1]
    found = read_blobs(root, [f"{branch.commit}:{record_path(branch.run_id)}" for branch in branches])
    texts = zip(branches, found, strict=True)
    return {branch.run_id: text.decode("utf-8", "replace") for branch, text in texts if text is not None}


def record_path(run_id: str) -> str:
    """Where a run's record lies in its commit."""
    return (RUNS / run_id / "record.json").as_posix()


def read_runs(root: Path) -> list[RunRecord]:
    """The records of all runs, the newest first; a run that began this moment has none yet.

    Runs that are known from a remote alone count, but for those whose record cannot be read here: another version of
    this project may have made it. `tunegate audit verify --all` names them.

    Raises:
        FileInvalid: a record of this clone cannot be read.
    """
    branches, found = run_branches(root), []
    for run_id, text in record_texts(root).items():
        try:
            found.append(parse_run_record(text, f"{RUN_BRANCHES}{run_id}"))
        except FileInvalid:
            if branches[run_id].remote is None:
                raise
    return found
