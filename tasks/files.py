"""Files appear whole: everything is written beside its place and renamed into it; what is read is parsed at once."""

import glob
import gzip
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tasks.errors import DiskFull, FileInvalid

Record = TypeVar("Record", bound=BaseModel)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a partial path to write to, a file or a folder; on success it becomes `path`, on failure it is removed.

    What a process that was killed has left of the same path is removed too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        if not _is_alive(left.name.split(".")[-2]):
            _remove(left)
    try:
        yield partial
        if path.is_dir():
            shutil.rmtree(path)  # a folder cannot be renamed over another
        partial.replace(path)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_alive(pid: str) -> bool:
    """Whether a process of that number is there; whoever wrote a partial file and is gone was killed."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, record: BaseModel) -> None:
    """Write a record as JSON: keys sorted, two spaces, same record same bytes."""
    write_text(path, dump_json(record))


def dump_json(record: BaseModel) -> str:
    """The text of `write_json`."""
    value = record.model_dump(mode="json", by_alias=True)
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path, kind: type[Record]) -> Record:
    """Parse `path` into `kind`.

    Raises:
        FileInvalid: it is missing, torn, or of another schema.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"), kind, str(path))
    except FileNotFoundError:
        raise FileInvalid(f"{path}: no such file; run `dvc repro` to make it") from None
    except UnicodeDecodeError as error:
        raise FileInvalid(f"{path}: not UTF-8 ({error.reason})") from None


def parse_json(text: str, kind: type[Record], origin: str) -> Record:
    """Parse JSON `text` that came from `origin` into `kind`.

    Raises:
        FileInvalid: with the fields that are wrong.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        issues = "; ".join(f"{'.'.join(map(str, issue['loc'])) or 'file'}: {issue['msg']}" for issue in error.errors())
        raise FileInvalid(f"{origin}: not a {kind.__name__}: {issues}") from None


def write_jsonl(path: Path, records: Iterable[BaseModel]) -> None:
    """Write one record a line; a name that ends in `.gz` is compressed, without a time in its header."""
    lines = "".join(record.model_dump_json() + "\n" for record in records).encode()
    with whole(path) as partial:
        partial.write_bytes(gzip.compress(lines, mtime=0) if path.suffix == ".gz" else lines)


def read_jsonl(path: Path, kind: type[Record]) -> Iterator[Record]:
    """Parse a file of `write_jsonl`.

    Raises:
        FileInvalid: it is missing, torn, or a line is of another schema.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise FileInvalid(f"{path}: cannot be read: {error}; run `dvc repro` to make it") from None
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        yield parse_json(line, kind, f"{path}: line {number}")


def need_disk(folder: Path, needed_bytes: int) -> None:
    """Check the room before something large is written.

    Raises:
        DiskFull: fewer than `needed_bytes` are free where `folder` will lie.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed_bytes:
        raise DiskFull(
            f"{folder}: {free / 1e6:,.0f} MB free, {needed_bytes / 1e6:,.0f} MB needed; "
            "free some space (`dvc gc -w` drops cached outputs that nothing uses) and run again"
        )
