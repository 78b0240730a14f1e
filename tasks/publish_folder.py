"""The folder registry: `<registry>/<name>/<version>/`, laid out as `from_pretrained` expects."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.digests import file_digests
from tasks.errors import PublishFailed, PublishRefused, WorkspaceBusy
from tasks.files import need_disk
from tasks.publish_bundle import README, Bundle, Published


def publish_to_folder(bundle: Bundle, registry: Path) -> Published:
    """Copy the bundle to its place in `registry`; doing it twice does it once.

    The copy is made in a hidden folder, hashed against the approved digests and renamed: a reader sees all or nothing.

    Raises:
        PublishRefused: the version is there with other content.
        PublishFailed: the copy differs from its source.
        DiskFull: there is no room for it.
        WorkspaceBusy: another release of this name is being published.
    """
    shelf = registry / bundle.release.name
    target = shelf / bundle.release.version
    with _locked(shelf):
        if target.exists():
            bundle = _same_release(bundle, target)
        else:
            need_disk(shelf, bundle.size_bytes)
            _copy(bundle, target)
    return Published(
        target="folder",
        location=target.as_posix(),
        version=bundle.release.version,
        commit=None,
        digest=bundle.provenance.approval.digest,
        files=bundle.digests,
    )


@contextmanager
def _locked(shelf: Path) -> Iterator[None]:
    """Hold the shelf alone; the kernel lets go of it when the process dies, however it dies."""
    shelf.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(shelf, os.O_RDONLY)
    try:
        _take(descriptor, shelf)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, shelf: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkspaceBusy(f"{shelf}: another release is being published here; wait for it and run again") from None


def _same_release(bundle: Bundle, target: Path) -> Bundle:
    """The bundle as it lies at `target`, with what people added to its card."""
    found = file_digests(target)
    card = target / README
    there = bundle.over(card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "")
    if found != there.digests:
        names = sorted(name for name in found.keys() | there.digests if found.get(name) != there.digests.get(name))
        raise PublishRefused(
            f"{target}: holds other content ({', '.join(names)}); a released version never changes; release the next"
        )
    return there


def _copy(bundle: Bundle, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)  # a publication was killed here; the lock says that nobody writes to it now
    try:
        _fill(bundle, partial)
        _check(bundle, partial)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(bundle: Bundle, partial: Path) -> None:
    for name in bundle.provenance.files:
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.model / name, partial / name)
    for name, text in bundle.texts.items():
        (partial / name).write_text(text, encoding="utf-8")


def _check(bundle: Bundle, partial: Path) -> None:
    copied = file_digests(partial)
    wrong = sorted(name for name, digest in bundle.digests.items() if copied.get(name) != digest)
    if wrong:
        raise PublishFailed(
            f"{partial}: {', '.join(wrong)} differ from what was approved after copying; check the disk and run again"
        )
