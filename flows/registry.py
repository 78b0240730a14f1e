"""The model registry: GTO's tags in git, `NAME@v0.0.1` for a version and `NAME#production#1` for what holds a stage.

The one owner of gto. Tags are the truth: a release is what a tag names, and nothing else.
"""

import json
import re
from pathlib import Path

from gto import api
from gto.exceptions import GTOException

from flows.git import git, show_file, tagger
from flows.run_record import ReleaseRecord, RunRecord, parse_run_record
from tasks import paths
from tasks.errors import PublishRefused
from tasks.files import parse_json
from tasks.records import Champion, Evaluation

FIRST_VERSION = "v0.0.1"


def latest_version(root: Path, name: str) -> str | None:
    """The newest registered version of `name`, or None."""
    tags = git(root, "tag", "--list", f"{name}@v*").split()
    found = [re.fullmatch(rf"{re.escape(name)}@v(\d+)\.(\d+)\.(\d+)", tag) for tag in tags]
    numbers = [tuple(map(int, match.groups())) for match in found if match]
    return "v" + ".".join(map(str, max(numbers))) if numbers else None


def next_version(root: Path, name: str) -> str:
    """The version after the newest one, its last number raised."""
    latest = latest_version(root, name)
    if latest is None:
        return FIRST_VERSION
    major, minor, patch = latest.removeprefix("v").split(".")
    return f"v{major}.{minor}.{int(patch) + 1}"


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
    _quietly(api.register, str(root), release.name, commit, release.version, **options)


def promote(root: Path, release: ReleaseRecord, stage: str) -> None:
    """Assign the stage to the release's version, unless it has it already.

    Raises:
        PublishRefused: GTO refused.
    """
    holder = stage_holder(root, release.name, stage)
    if holder == release.version:
        return
    options = {"message": f"Promote {release.tag} to {stage}", **tagger(root)}
    _quietly(api.assign, str(root), release.name, stage, version=release.version, force=True, **options)


def _quietly(call: object, *arguments: object, **options: object) -> None:
    try:
        call(*arguments, **options)  # type: ignore[operator]  # gto is not typed
    except GTOException as error:
        raise PublishRefused(f"GTO: {error}") from None


def stage_holder(root: Path, name: str, stage: str) -> str | None:
    """The version that holds `stage` now, or None."""
    commit = _stage_commit(root, name, stage)
    if commit is None:
        return None
    tags = git(root, "tag", "--points-at", commit, "--list", f"{name}@v*").split()
    return tags[-1].split("@")[1] if tags else None


def _stage_commit(root: Path, name: str, stage: str) -> str | None:
    tags = git(root, "tag", "--list", f"{name}#{stage}#*").split()
    newest = max(tags, key=lambda tag: int(tag.rsplit("#", 1)[1]), default=None)
    return git(root, "rev-parse", f"{newest}^{{commit}}") if newest else None


def champion(root: Path, name: str, stage: str) -> tuple[Champion, RunRecord | None]:
    """The model that holds `stage`, with its per-sample scores, and the record of the run that made it."""
    commit = _stage_commit(root, name, stage)
    if commit is None:
        return Champion(), None
    folder = f"runs/{_run_at(root, commit)}"
    record_text = show_file(root, commit, f"{folder}/record.json")
    evaluation_text = show_file(root, commit, f"{folder}/candidate.json")
    if record_text is None or evaluation_text is None:
        raise PublishRefused(f"{commit[:12]} holds {name} in {stage}, but it has no run record in {folder}")
    record = parse_run_record(record_text, f"{commit[:12]}:{folder}/record.json")
    evaluation = parse_json(evaluation_text, Evaluation, f"{commit[:12]}:{folder}/candidate.json")
    release = record.release.tag if record.release else None
    return (
        Champion(
            release=release,
            run=record.run_id,
            commit=commit,
            evaluation=evaluation.model_copy(update={"model": "champion"}),
        ),
        record,
    )


def _run_at(root: Path, commit: str) -> str:
    subject = git(root, "show", "--no-patch", "--format=%(trailers:key=Run,valueonly)", commit)
    return subject.strip()


def write_champion(worktree: Path, champion_record: Champion) -> None:
    """Put the champion where the gate reads it."""
    text = json.dumps(champion_record.model_dump(mode="json"), sort_keys=True, indent=1) + "\n"
    path = worktree / paths.CHAMPION
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
