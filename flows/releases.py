"""Releases by the names that people give them, and which release held a stage before which."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from flows import registry
from flows.git import git
from flows.record import read_run, resolve_run
from flows.run_record import ReleaseRecord, RunRecord
from tasks.errors import PublishRefused, RunNotFound

ROLL_BACK = "Roll back"
"""How the message of a tag begins that gives a stage back to an earlier release."""
_TAG = re.compile(r"(?P<name>[^@#!\s]+)@(?P<version>v\d+\.\d+\.\d+)")


@dataclass(frozen=True)
class Released:
    """A version that is registered: the commit that its tag names, and the record that lies there."""

    commit: str
    record: RunRecord
    release: ReleaseRecord

    @property
    def tag(self) -> str:
        """The tag of the version."""
        return self.release.tag


def all_tags(root: Path) -> list[str]:
    """The tags of all versions of all models, in the order of their numbers."""
    found = [match for tag in git(root, "tag", "--list").splitlines() if (match := _TAG.fullmatch(tag))]
    return [match[0] for match in sorted(found, key=lambda match: (match["name"], version_key(match["version"])))]


def version_key(version: str) -> tuple[int, ...]:
    """What versions are ordered by."""
    return tuple(map(int, version.removeprefix("v").split(".")))


def tag_of(root: Path, name: str, wanted: str) -> str | None:
    """The tag that `wanted` means, as `v0.0.3` or `NAME@v0.0.3`; None where it is no version.

    Raises:
        RunNotFound: it is a version, and nobody registered it.
    """
    match = _TAG.fullmatch(wanted if "@" in wanted else f"{name}@{wanted}")
    if match is None:
        return None
    tags = all_tags(root)
    if match[0] not in tags:
        near = difflib.get_close_matches(match[0], tags, n=1, cutoff=0.0)
        known = f"the nearest is {near[0]}" if near else "nothing is released yet; `tunegate run` releases what passes"
        raise RunNotFound(f"{match[0]}: no such release; {known}; `tunegate audit list` shows them all")
    return match[0]


def read_release(root: Path, tag: str) -> Released:
    """The release that a tag names.

    Raises:
        PublishRefused: somebody else's tag, at a commit that has no record of this release.
    """
    commit = git(root, "rev-parse", f"refs/tags/{tag}^{{commit}}")
    record = registry.record_at(root, commit)
    if record is None:
        raise PublishRefused(
            f"{tag} names {commit[:12]}, which holds no run's record: no run of Tunegate made this tag"
        )
    if record.release is None or record.release.tag != tag:
        other = record.release.tag if record.release else "no release"
        raise PublishRefused(f"{tag} names the record of run {record.run_id}, which made {other}: the tag was moved")
    return Released(commit, record, record.release)


def find_release(root: Path, name: str, wanted: str) -> Released:
    """The release that a version or a run's id means.

    Raises:
        RunNotFound: there is none.
        PublishRefused: the tag is somebody else's, or the run released nothing.
    """
    tag = tag_of(root, name, wanted)
    if tag is not None:
        return read_release(root, tag)
    from_run = released_by(root, resolve_run(root, wanted))
    if from_run is None:
        raise PublishRefused(f"run {wanted} released nothing; `tunegate promote {wanted}` releases it if it passed")
    return from_run


def released_by(root: Path, run_id: str) -> Released | None:
    """What a run released, or found released already; None for nothing, or for what has no tag.

    A release that died before its tag was made left its version on record, which another run may have taken since: only
    a release of these bytes is this run's.
    """
    record = read_run(root, run_id)
    if record.release is None or record.release.tag not in all_tags(root):
        return None
    found = read_release(root, record.release.tag)
    return found if found.release.digest == record.release.digest else None


def is_withdrawn(root: Path, tag: str) -> bool:
    """Whether somebody took the version back, by `gto deprecate NAME VERSION`."""
    return bool(git(root, "tag", "--list", f"{tag}!"))


def holders_before(root: Path, name: str, stage: str) -> list[str]:
    """The tags of the versions that held a stage, the newest first, with what was rolled back taken out.

    A rollback undoes the promotions after the release that it went back to, so that the next one goes back further and
    never to what was rolled back from: where that release never held the stage, those of newer versions. A withdrawal
    (`gto deprecate`) takes out the release that it names.
    """
    held: list[str] = []
    for change in registry.stage_history(root, name, stage):
        commit = change.commit
        if change.is_withdrawal:
            held = [other for other in held if other != commit]
        elif change.subject.startswith(ROLL_BACK) and commit in held:
            del held[len(held) - held[::-1].index(commit) :]
        elif change.subject.startswith(ROLL_BACK):
            held = [*_older(root, name, held, commit), commit]
        elif not held or held[-1] != commit:
            held.append(commit)
    tags = [registry.version_at(root, name, commit) for commit in reversed(held)]
    return [tag for tag in tags if tag is not None]


def _older(root: Path, name: str, held: list[str], target: str) -> list[str]:
    """Of the commits those whose version is older than that of the target."""
    tags = {commit: registry.version_at(root, name, commit) for commit in {*held, target}}
    keys = {commit: version_key(tag.rpartition("@")[2]) for commit, tag in tags.items() if tag is not None}
    return [commit for commit in held if keys.get(commit, ()) < keys.get(target, ())]
