"""Where a merge works: a folder outside of DVC's outputs, which dvc deletes before a stage; a killed merge goes on.

It is `merge/<key>` below the folder that `TUNEGATE_STATE` names, else `.tunegate`; the key is of everything that the
merged bytes depend on.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tasks.digests import combine_digests, digest_file, digest_text
from tasks.errors import WorkspaceBusy
from tasks.paths import state_folder

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "safetensors")
CODE = ("merge_deltas.py", "merge_model.py", "merge_plan.py", "merge_shards.py")


def build_key(inputs: dict[str, str]) -> str:
    """The key of a merge: of its inputs, the code that merges and the libraries that compute.

    Args:
        inputs: digests of base and adapter, and the parameters that change a merged byte, by name.
    """
    here = Path(__file__).parent
    code = {name: digest_file(here / name) for name in CODE}
    libraries = {name: digest_text(version(name)) for name in LIBRARIES}
    return combine_digests(inputs | code | libraries)[:16]


@contextmanager
def work_folder(key: str) -> Iterator[Path]:
    """The folder of a merge, held alone; gone when the merge has ended well, still there when it was killed or failed.

    What killed merges of other keys have left is removed; the kernel says which of them are still at work.

    Raises:
        WorkspaceBusy: the same merge is at work in another process.
    """
    merges = state_folder() / "merge"
    folder = merges / key
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder) as is_ours:
        if not is_ours:
            raise WorkspaceBusy(f"{folder}: the same merge is running in another process; wait for it and run again")
        for other in (path for path in merges.iterdir() if path != folder):
            with _held(other) as is_left:
                if is_left:
                    shutil.rmtree(other)
        yield folder
        shutil.rmtree(folder)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether a folder could be taken alone; the kernel lets go of it when the process dies, however it dies."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def link(source: Path, target: Path) -> None:
    """Let the files of a folder be in another one too, without a second copy where the file system can."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(path for path in source.iterdir() if path.is_file()):
        try:
            os.link(path, target / path.name)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, target / path.name)
