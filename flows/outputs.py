"""What the stages of a run wrote, found again in the DVC cache by its dvc.lock, and re-hashed before it is read.

DVC serves corrupt or empty objects of its cache without a word, so nothing here is believed by its name alone.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows.git import show_file
from flows.record import read_run
from flows.run_branches import read_runs, run_revision
from flows.run_record import RunRecord
from flows.workspace import cache_folder
from tasks import paths
from tasks.errors import FileInvalid, RunNotFound
from tasks.yaml_files import read_yaml

LOCKED = frozenset({"executed", "restored", "unchanged"})
"""Outcomes of a stage whose outputs dvc.lock names; after any other it may still name those of an earlier run."""
LEDGERS = tuple(folder / paths.LEDGER for folder in (paths.INGEST, paths.CLEAN, paths.DEDUP, paths.SPLIT))
"""The ledgers of all data stages: who has them knows the fate of every row."""
_FOLDER = ".dir"


class OutputGone(FileInvalid):
    """The DVC cache no longer has what a run wrote."""


@dataclass(frozen=True)
class Outputs:
    """The files of the line, of one run or as they lie in the workspace; `name` says whose they are."""

    name: str
    root: Path
    record: RunRecord | None = None
    objects: Mapping[str, str] = field(default_factory=dict)

    def path(self, file: Path) -> Path | None:
        """Where the content of `file` lies, checked; None when the stage that writes it did not come to its end.

        Raises:
            OutputGone: the cache has lost it.
            FileInvalid: the cache has other bytes than it says.
        """
        if self.record is None:
            here = self.root / file
            return here if here.is_file() else None
        digest = self._digest(file)
        return None if digest is None else self._checked(digest, file)

    def has(self, file: Path) -> bool:
        """Whether `file` is there and whole."""
        try:
            return self.path(file) is not None
        except FileInvalid:
            return False

    def _digest(self, file: Path) -> str | None:
        for out, digest in self.objects.items():
            if file.as_posix() == out:
                return digest
            if digest.endswith(_FOLDER) and file.is_relative_to(out):
                listed = json.loads(self._checked(digest, Path(out)).read_text(encoding="utf-8"))
                inside = file.relative_to(out).as_posix()
                return next((str(entry["md5"]) for entry in listed if entry["relpath"] == inside), None)
        return None

    def _checked(self, digest: str, file: Path) -> Path:
        place = cache_folder(self.root) / "files" / "md5" / digest[:2] / digest[2:]
        if not place.is_file():
            raise OutputGone(
                f"{self.name}: the DVC cache no longer has {file} ({digest[:12]}); `dvc fetch` gets it where a remote "
                f"has it, and running from the run's commit makes it again"
            )
        with place.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != digest.removesuffix(_FOLDER):
            raise FileInvalid(f"{place}: damaged: {file} of {self.name} has other bytes than its name says; remove it")
        return place


def run_outputs(root: Path, run_id: str) -> Outputs:
    """What the stages of one run wrote.

    Raises:
        RunNotFound: there is no such run on record.
    """
    record = read_run(root, run_id)
    done = [stage.name for stage in record.stages if stage.outcome in LOCKED]
    text = show_file(root, run_revision(root, run_id), "dvc.lock")
    return Outputs(f"run {run_id}", root, record, _objects(text, done) if text and done else {})


def workspace_outputs(root: Path) -> Outputs:
    """What lies in the workspace's own data/."""
    return Outputs("the workspace", root)


def newest_outputs(root: Path) -> Outputs:
    """The outputs of the newest run that knows the fate of every row; else of one that has rows, or the workspace.

    Raises:
        RunNotFound: none of them has any.
    """
    has_rows = None
    for record in read_runs(root):
        found = run_outputs(root, record.run_id)
        if all(found.has(ledger) for ledger in LEDGERS):
            return found
        if has_rows is None and found.has(LEDGERS[0]):
            has_rows = found
    here = workspace_outputs(root)
    if has_rows is None and not here.has(LEDGERS[0]):
        raise RunNotFound(
            "no run and no workspace output has rows to ask about; `tunegate run --until validate` makes some"
        )
    return has_rows or here


def _objects(lock: str, stages: list[str]) -> dict[str, str]:
    """The digest of every output of `stages`, by its path, from the text of a dvc.lock.

    Raises:
        ParamsInvalid: it is no YAML.
        FileInvalid: it is no lock of DVC's.
    """
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "dvc.lock"
        file.write_text(lock, encoding="utf-8")
        locked = read_yaml(file).value.get("stages")
    found = locked if isinstance(locked, dict) else {}
    try:
        return {str(out["path"]): str(out["md5"]) for stage in stages for out in found.get(stage, {}).get("outs", ())}
    except (KeyError, TypeError, AttributeError):
        raise FileInvalid("dvc.lock: found something else, expected stages with outs, each with path and md5") from None
