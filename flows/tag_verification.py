"""GTO's tags against the records and against what their own messages say: a tag that was moved, replaced or removed."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.git import git
from flows.record_chain import is_ancestor
from flows.registry import version_at
from flows.release_verification import Finding
from flows.run_branches import RunBranch, run_branches
from flows.run_record import RunRecord

_COMMIT = "%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)"
_FORMAT = f"%(refname:strip=2)%00%(objecttype)%00{_COMMIT}%00%(subject)"
_VERSION = re.compile(r"(?P<name>[^@#!\s]+)@v\d+\.\d+\.\d+")
_NUMBERED = re.compile(r"(?P<name>[^@#!\s]+)[@#]\S*#(?P<number>\d+)")
_STAGE = re.compile(r"(?P<name>[^@#!\s]+)#(?P<stage>[^@#!\s]+?)!?#(?P<number>\d+)")


@dataclass(frozen=True)
class Tag:
    """A tag of git: its name, whether it has a message of its own, the commit that it names, its first line."""

    name: str
    is_annotated: bool
    commit: str
    subject: str


def read_tags(root: Path) -> list[Tag]:
    """Every tag of the repository."""
    lines = git(root, "for-each-ref", f"--format={_FORMAT}", "refs/tags/").splitlines()
    parts = [line.split("\0") for line in lines]
    return [Tag(name, kind == "tag", commit, subject) for name, kind, commit, subject in parts]


def tag_findings(root: Path, records: Iterable[RunRecord], own: set[str]) -> list[Finding]:
    """Every tag that does not say what it said when it was made, and every release on record without its tag.

    A version's tag and a stage's tag are GTO's, which have a message; GTO numbers all tags of a model that have a
    number, whatever their stage, without gaps.
    Those of our `own` names and of every model that a run released are looked at.
    """
    known, tags, branches = list(records), read_tags(root), run_branches(root)
    released = {record.release.tag: record.run_id for record in known if record.release is not None}
    names = {tag.rpartition("@")[0] for tag in released} | own
    return [
        *_missing(released, tags),
        *(finding for tag in tags for finding in _of_version(root, tag, names, branches, known)),
        *(finding for tag in tags for finding in _of_stage(root, tag, names)),
        *_gaps(tags, names),
    ]


def _missing(released: dict[str, str], tags: list[Tag]) -> Iterator[Finding]:
    there = {tag.name for tag in tags}
    for tag, run_id in released.items():
        if tag not in there:
            yield Finding(tag, f"run {run_id} released it, and there is no such tag: deleted, or not fetched here")


def _of_version(
    root: Path, tag: Tag, names: set[str], branches: dict[str, RunBranch], records: list[RunRecord]
) -> Iterator[Finding]:
    match = _VERSION.fullmatch(tag.name)
    if match is None or match["name"] not in names:
        return
    if not tag.is_annotated:
        yield Finding(tag.name, "replaced: it has no message, as the tags have that a release makes")
    if not any(is_ancestor(root, tag.commit, branches[record.run_id].commit) for record in _of_tag(tag, records)):
        yield Finding(tag.name, f"moved, or its run is gone: no run that released it has {tag.commit[:12]}")


def _of_tag(tag: Tag, records: list[RunRecord]) -> list[RunRecord]:
    return [record for record in records if record.release is not None and record.release.tag == tag.name]


def _of_stage(root: Path, tag: Tag, names: set[str]) -> Iterator[Finding]:
    match = _STAGE.fullmatch(tag.name)
    if match is None or match["name"] not in names:
        return
    if not tag.is_annotated:
        yield Finding(tag.name, "replaced: it has no message, as the tags have that a promotion makes")
        return
    said, found = _VERSION.search(tag.subject), version_at(root, match["name"], tag.commit)
    if found is None:
        yield Finding(tag.name, f"moved: it names {tag.commit[:12]}, which is no version of {match['name']}")
    elif said is not None and said[0] != found:
        yield Finding(tag.name, f"moved: its message says {said[0]}, it names the commit of {found}")


def _gaps(tags: list[Tag], names: set[str]) -> Iterator[Finding]:
    numbers: dict[str, set[int]] = {}
    for tag in tags:
        if (match := _NUMBERED.fullmatch(tag.name)) is not None and match["name"] in names:
            numbers.setdefault(match["name"], set()).add(int(match["number"]))
    for name, found in numbers.items():
        for number in sorted(set(range(1, max(found) + 1)) - found):
            yield Finding(f"{name}#…#{number}", "missing: a later tag of the model is there; deleted, or not fetched")
