"""The model registry: GTO's tags in git, `NAME@v0.0.1` for a version and `NAME#production#1` for what holds a stage.

The one owner of gto. Tags are the truth: a release is what a tag names, and nothing else. Only writing takes gto, so
that whoever just asks does not wait for its import.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from flows.git import git, show_file, tagger
from flows.record import DATA_PROFILE
from flows.run_record import ReleaseRecord, RunRecord, parse_run_record
from flows.version_rule import Change
from tasks import paths
from tasks.errors import PublishRefused
from tasks.files import parse_json
from tasks.records import Champion, DataProfile, Evaluation

FIRST_VERSION = "v0.0.1"
STAGE_TAG = "%(refname:strip=2)%00%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)%00%(subject)"


@dataclass(frozen=True)
class Holder:
    """What holds a stage: a commit, and the tag of the version that it is registered as, None for a bare commit."""

    commit: str
    tag: str | None


class StageChange(NamedTuple):
    """What one tag of a stage says: its number, whether it takes the stage away, its commit, its first line."""

    number: int
    is_withdrawal: bool
    commit: str
    subject: str


def latest_version(root: Path, name: str) -> str | None:
    """The newest version of `name` that was ever registered, or None."""
    return _highest_version(name, git(root, "tag", "--list", f"{name}@v*").split())


def _highest_version(name: str, tags: list[str]) -> str | None:
    found = [re.fullmatch(rf"{re.escape(name)}@v(\d+)\.(\d+)\.(\d+)", tag) for tag in tags]
    numbers = [tuple(map(int, match.groups())) for match in found if match]
    return "v" + ".".join(map(str, max(numbers))) if numbers else None


def next_version(root: Path, name: str, change: Change = "patch") -> str:
    """The version after the newest one, with the number raised that `flows.version_rule` names."""
    latest = latest_version(root, name)
    if latest is None:
        return FIRST_VERSION
    major, minor, patch = map(int, latest.removeprefix("v").split("."))
    raised = {"major": (major + 1, 0, 0), "minor": (major, minor + 1, 0), "patch": (major, minor, patch + 1)}
    return "v" + ".".join(map(str, raised[change]))


def register(root: Path, release: ReleaseRecord, commit: str) -> None:
    """Tag `commit` as a version; the tag that is there already must name the same commit.

    Raises:
        PublishRefused: the version belongs to another commit, or GTO refused.
    """
    tagged = git(root, "tag", "--list", release.tag)
    if tagged:
        found = git(root, "rev-parse", f"{release.tag}^{{commit}}")
        if found != commit:
            raise PublishRefused(f"{release.tag} names {found[:12]}, not {commit[:12]}; run again for a new version")
        return
    options = {"message": f"Register {release.tag}", **tagger(root)}
    _gto("register", str(root), release.name, commit, release.version, **options)


def promote(root: Path, release: ReleaseRecord, stage: str, message: str | None = None) -> bool:
    """Assign the stage to the release's version, unless it has it already.

    Args:
        root: the repository.
        release: what the stage is given to.
        stage: the name of the stage.
        message: what the tag says; who made it and when, the tag has by itself.

    Returns:
        Whether a tag was made.

    Raises:
        PublishRefused: GTO refused.
    """
    holder = stage_holder(root, release.name, stage)
    if holder is not None and holder.tag == release.tag:
        return False
    options = {"message": message or f"Promote {release.tag} to {stage}", **tagger(root)}
    _gto("assign", str(root), release.name, stage, version=release.version, force=True, **options)
    return True


def _gto(action: Literal["register", "assign"], *arguments: object, **options: object) -> None:
    from gto import api  # noqa: PLC0415  a third of a second, which `tunegate status` does without
    from gto.exceptions import GTOException  # noqa: PLC0415

    try:
        getattr(api, action)(*arguments, **options)
    except GTOException as error:
        raise PublishRefused(f"GTO: {error}") from None


def stage_holder(root: Path, name: str, stage: str) -> Holder | None:
    """What holds `stage` now, or None.

    `NAME#STAGE#N` gives the stage to a version and `NAME#STAGE!#N`, which `gto deprecate NAME VERSION STAGE` writes,
    takes it from one; they count in the order of N. Taking the stage from a version that has lost it changes nothing,
    and no earlier version gets it back.
    """
    commit = None
    for change in stage_history(root, name, stage):
        if not change.is_withdrawal:
            commit = change.commit
        elif commit == change.commit:
            commit = None
    return None if commit is None else Holder(commit, version_at(root, name, commit))


def version_at(root: Path, name: str, commit: str) -> str | None:
    """The tag of the highest version that a commit is registered as; None where it is no version of `name`."""
    version = _highest_version(name, git(root, "tag", "--list", f"{name}@v*", "--points-at", commit).split())
    return f"{name}@{version}" if version else None


def stage_history(root: Path, name: str, stage: str) -> list[StageChange]:
    """Every tag of the stage, the oldest first."""
    patterns = (f"{name}#{stage}#*", f"{name}#{stage}!#*")
    lines = git(root, "tag", f"--format={STAGE_TAG}", "--list", *patterns).splitlines()
    found = [re.fullmatch(r"[^!]+(!?)#(\d+)\0(\w+)\0(.*)", line) for line in lines]
    return sorted(StageChange(int(match[2]), match[1] == "!", match[3], match[4]) for match in found if match)


def newest_release(root: Path, name: str) -> ReleaseRecord | None:
    """The release of the newest version, from the record of its run; None when it was withdrawn or has no record."""
    version = latest_version(root, name)
    if version is None or git(root, "tag", "--list", f"{name}@{version}!"):  # `gto deprecate NAME VERSION`
        return None
    record = record_at(root, git(root, "rev-parse", f"{name}@{version}^{{commit}}"))
    return record.release if record is not None else None


def champion(root: Path, name: str, stage: str) -> tuple[Champion, RunRecord | None]:
    """The model that holds `stage`, with its per-sample scores, and the record of the run that made it.

    Raises:
        PublishRefused: the stage names a commit without a run's record and scores.
        FileInvalid: one of the two is of another schema.
    """
    holder = stage_holder(root, name, stage)
    if holder is None:
        return Champion(), None
    commit = holder.commit
    folder = f"runs/{run_at(root, commit)}"
    record = record_at(root, commit)
    evaluation_text = show_file(root, commit, f"{folder}/candidate.json")
    if record is None or evaluation_text is None:
        raise PublishRefused(f"{commit[:12]} holds {name} in {stage}, but it has no run record in {folder}")
    evaluation = parse_json(evaluation_text, Evaluation, f"{commit[:12]}:{folder}/candidate.json")
    release = record.release.tag if record.release else None
    profile_text = show_file(root, commit, f"{folder}/{DATA_PROFILE}")  # runs of old have none
    return (
        Champion(
            release=release,
            run=record.run_id,
            commit=commit,
            evaluation=evaluation.model_copy(update={"model": "champion"}),
            data=parse_json(profile_text, DataProfile, f"{commit[:12]}:{folder}/{DATA_PROFILE}")
            if profile_text
            else None,
        ),
        record,
    )


def record_at(root: Path, commit: str) -> RunRecord | None:
    """The record of the run that a commit belongs to, or None where it belongs to none."""
    path = f"runs/{run_at(root, commit)}/record.json"
    text = show_file(root, commit, path)
    return parse_run_record(text, f"{commit[:12]}:{path}") if text is not None else None


def run_at(root: Path, commit: str) -> str:
    """The id of the run that a commit belongs to, empty where it belongs to none."""
    subject = git(root, "show", "--no-patch", "--format=%(trailers:key=Run,valueonly)", commit)
    return subject.strip()


def write_champion(worktree: Path, champion_record: Champion) -> None:
    """Put the champion where the gate reads it."""
    text = json.dumps(champion_record.model_dump(mode="json"), sort_keys=True, indent=1) + "\n"
    path = worktree / paths.CHAMPION
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
