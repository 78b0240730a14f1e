"""The chain of the records: every record names the runs before it that no other names yet, by commit and by digest.

So each run but the newest is vouched for by a later one. Clones that were apart make two ends, and the first run after
they meet names both. What is added to a run's branch later, an approval or a late release, leaves the commit that was
named where it is: below.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.git import git, show_file
from flows.run_branches import RunBranch, every_branch, record_path, record_texts, run_branches
from flows.run_record import EarlierRun, RunRecord
from flows.workspace import running_id
from tasks.digests import digest_text
from tasks.errors import WorkspaceInvalid

LATE_FIELDS = frozenset({"release", "reason"})
"""What a late release puts into the record of a run that passed; nothing else of a record ever changes."""


@dataclass(frozen=True)
class ChainFinding:
    """One thing about a run that is not as a record says; `is_broken` is no where nothing can be known."""

    run_id: str
    problem: str
    is_broken: bool = True


def ends_of_the_chain(root: Path, run_id: str) -> tuple[EarlierRun, ...]:
    """What the record of `run_id` vouches for: every other run on record that no record names yet."""
    texts = record_texts(root)
    texts.pop(run_id, None)
    named = {run for text in texts.values() for run in _named_in(text)}
    texts.pop(running_id(root) or "", None)  # the record of a run in progress is not its last
    branches = run_branches(root)
    return tuple(
        EarlierRun(run_id=other, commit=branches[other].commit, digest=digest_text(texts[other]))
        for other in sorted(texts.keys() - named)
    )


def _named_in(text: str) -> list[str]:
    """The runs that a record vouches for; one that cannot be read vouches for nothing, and is vouched for itself."""
    try:
        return [str(earlier["run_id"]) for earlier in json.loads(text).get("vouches_for") or ()]
    except (ValueError, AttributeError, KeyError, TypeError):
        return []


def chain_findings(root: Path, records: Iterable[RunRecord]) -> list[ChainFinding]:
    """Every run that a record names and that is gone, rewritten or changed since; and branches that went apart."""
    branches: dict[str, list[RunBranch]] = {}
    for branch in every_branch(root):
        branches.setdefault(branch.run_id, []).append(branch)
    found = [finding for record in records for finding in _of_record(root, record, branches)]
    return [*found, *_apart(root)]


def _of_record(root: Path, record: RunRecord, branches: dict[str, list[RunBranch]]) -> Iterator[ChainFinding]:
    for earlier in record.vouches_for or ():
        problems = [_since(root, earlier, branch) for branch in branches.get(earlier.run_id, ())]
        if not problems:
            yield ChainFinding(
                earlier.run_id,
                f"dropped: run {record.run_id} names it, and no branch has it; deleted, or not fetched into this clone",
            )
        elif None not in problems:  # a branch here may be behind that of a remote; of branches apart `_apart` tells
            yield ChainFinding(earlier.run_id, f"{problems[0]}; run {record.run_id} names it as it was")


def _since(root: Path, earlier: EarlierRun, branch: RunBranch) -> str | None:
    """What happened to a run since it was vouched for, or None."""
    if branch.commit != earlier.commit and not is_ancestor(root, earlier.commit, branch.commit):
        return f"rewritten: its branch no longer has the commit {earlier.commit[:12]}"
    path = record_path(earlier.run_id)
    was, now = show_file(root, earlier.commit, path), show_file(root, branch.commit, path)
    if was is None or digest_text(was) != earlier.digest:
        return f"changed: the record in {earlier.commit[:12]} is not the one of digest {earlier.digest[:12]}"
    if now != was and (problem := _change(was, now)) is not None:
        return problem
    signed = (Path(path).parent / "sign_offs.json").as_posix()
    had, has = (_entries(show_file(root, commit, signed)) for commit in (earlier.commit, branch.commit))
    return None if has[: len(had)] == had else "changed: an approval or a rejection is gone"


def _entries(text: str | None) -> list[object]:
    """What was signed off, as it stands there; nothing where it cannot be read."""
    try:
        return list(json.loads(text or "{}").get("entries") or ())
    except (ValueError, AttributeError, TypeError):
        return []


def _change(was: str, now: str | None) -> str | None:
    """What is wrong with a record that was written anew after it had been vouched for; None for a late release."""
    if now is None:
        return "changed: its branch has no record any more"
    try:
        before, after = json.loads(was), json.loads(now)
        changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    except (ValueError, AttributeError):
        return "changed: its record cannot be read any more"
    is_late_release = set(changed) == LATE_FIELDS and before["status"] == "passed" and before["release"] is None
    return None if is_late_release else f"changed after the fact: {', '.join(changed)}"


def _apart(root: Path) -> Iterator[ChainFinding]:
    """Runs whose branch here and in a remote have each what the other has not."""
    own: dict[str, RunBranch] = {}
    for branch in every_branch(root):
        ours = own.setdefault(branch.run_id, branch)
        if ours.commit == branch.commit:
            continue
        if not is_ancestor(root, ours.commit, branch.commit) and not is_ancestor(root, branch.commit, ours.commit):
            yield ChainFinding(branch.run_id, f"{ours.ref} and {branch.ref} went apart: one of them was rewritten")


def is_ancestor(root: Path, older: str, newer: str) -> bool:
    """Whether a commit is `newer` or lies below it; no for one that git does not have."""
    try:
        git(root, "merge-base", "--is-ancestor", older, newer)
    except WorkspaceInvalid:
        return False
    return True


def ends(records: Iterable[RunRecord]) -> set[str]:
    """The runs that no record names: nothing vouches for these but their tags and their copies in remotes."""
    known = list(records)
    named = {earlier.run_id for record in known for earlier in record.vouches_for or ()}
    return {record.run_id for record in known} - named
