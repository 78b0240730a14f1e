"""Trainer checkpoints that cannot lie: each belongs to one training, by its key, and is whole, by its manifest.

They lie outside of DVC's outputs, which dvc deletes before a stage runs: in `checkpoints/<key>/checkpoint-<step>` below
the folder that `TUNEGATE_STATE` names, else `.tunegate`. Rotation goes by step: file times lie when clocks do.
"""

import os
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tasks.digests import combine_digests, digest_file, digest_text, file_digests
from tasks.errors import FileInvalid
from tasks.files import read_json, write_json
from tasks.params import Params
from tasks.records import Record

KEY, MANIFEST = "key.json", "manifest.json"
KEPT = 2
"""Checkpoints of one training that are kept, and other trainings whose checkpoints are."""
BYTES_PER_WEIGHT = 16
"""Of a checkpoint for each trained weight, in float32: the weight, two moments of AdamW, and the best so far."""
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")
STEP = re.compile(r"checkpoint-(\d+)")


class CheckpointKey(Record):
    """Everything that the weights of a training depend on, as digests and versions; two equal keys, equal bytes."""

    data: str
    parameters: str
    base: str
    code: str
    libraries: str
    machine: str

    @property
    def digest(self) -> str:
        """One digest over all parts."""
        return combine_digests(self.model_dump())

    def changed(self, other: "CheckpointKey") -> list[str]:
        """The names of the parts in which another key differs."""
        theirs = other.model_dump()
        return [name for name, value in self.model_dump().items() if theirs[name] != value]


class Manifest(Record):
    """The files of one checkpoint with their digests; written last, so that what has one is whole."""

    step: int
    files: dict[str, str]


def build_key(params: Params, data: dict[str, str], base_digest: str, machine: str) -> CheckpointKey:
    """The key of a training.

    Args:
        params: of them, what training reads; how often checkpoints are written changes no weight.
        data: digests of the partitions that are trained on and measured.
        base_digest: of the base model.
        machine: what kind of device computes, and with how many threads and processes.
    """
    train = params.train.model_dump(exclude={"save_steps"})
    parts = [train, params.lora, params.adapter, params.quantization, params.compute]
    written = "\n".join(str(part if isinstance(part, dict) or part is None else part.model_dump()) for part in parts)
    here = Path(__file__).parent
    return CheckpointKey(
        data=combine_digests(data),
        parameters=digest_text(written),
        base=base_digest,
        code=combine_digests({path.name: digest_file(path) for path in here.glob("*.py")}),
        libraries=" ".join(f"{name}=={version(name)}" for name in LIBRARIES),
        machine=machine,
    )


class Checkpoints:
    """The trainer checkpoints of one training."""

    def __init__(self, state: Path, key: CheckpointKey) -> None:
        self._all = state / "checkpoints"
        self._key = key
        self.folder = self._all / key.digest[:16]

    def prepare(self) -> None:
        """Make the folder, with the key in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / KEY, self._key)

    def newest_valid(self) -> Path | None:
        """The whole checkpoint of the highest step; those above it that are not whole are told and removed."""
        for step, folder in sorted(self._steps(), reverse=True):
            reason = _damage(folder, step)
            if reason is None:
                return folder
            print(f"train: the checkpoint of step {step} is not used: {reason}", flush=True)
            shutil.rmtree(folder)
        return None

    def seal(self, folder: Path) -> None:
        """Write the manifest of a checkpoint whose files are all there, then remove the oldest ones, by step."""
        step = _step(folder)
        for path in (path for path in folder.rglob("*") if path.is_file()):
            _sync(path)
        write_json(folder / MANIFEST, Manifest(step=step, files=file_digests(folder)))
        _sync(folder / MANIFEST)
        for _, old in sorted(self._steps())[:-KEPT]:
            shutil.rmtree(old)

    def others(self) -> list[str]:
        """A line for every training besides this one that left checkpoints, with what differs; beyond `KEPT` they go.

        Those that differ in least are kept: they are what a change can be taken back to.
        """
        found = []
        for path in sorted(self._all.glob(f"*/{KEY}")):
            if path.parent != self.folder:
                try:
                    changed = self._key.changed(read_json(path, CheckpointKey))
                except FileInvalid:
                    changed = ["a key that cannot be read"]
                found.append((len(changed), path.parent, changed))
        for _, folder, _ in sorted(found)[KEPT:]:
            shutil.rmtree(folder)
        return [
            f"checkpoints of another training are not used ({folder.name}): changed {', '.join(changed)}"
            for _, folder, changed in sorted(found)[:KEPT]
        ]

    def drop_after(self, step: int) -> None:
        """Remove the checkpoints of later steps."""
        for later, folder in list(self._steps()):
            if later > step:
                shutil.rmtree(folder)

    def remove(self) -> None:
        """Remove them all: the training is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> Iterator[tuple[int, Path]]:
        for path in self.folder.glob("checkpoint-*"):
            if path.is_dir() and STEP.fullmatch(path.name):
                yield _step(path), path


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("checkpoint-"))


def _damage(folder: Path, step: int) -> str | None:
    """What is wrong with a checkpoint, or None."""
    if not (folder / MANIFEST).is_file():
        return "it has no manifest, so it was not written to its end"
    try:
        manifest = read_json(folder / MANIFEST, Manifest)
    except FileInvalid as error:
        return str(error)
    found = file_digests(folder)
    found.pop(MANIFEST)
    if manifest.step != step:
        return f"its manifest is of step {manifest.step}"
    if missing := sorted(set(manifest.files) - set(found)):
        return f"{missing[0]} is missing"
    wrong = sorted(name for name, digest in found.items() if manifest.files.get(name) != digest)
    return f"{wrong[0]} has other bytes than were written" if wrong else None


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
