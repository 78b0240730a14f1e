"""Files of sources: which files a source has, here or on the Hub, and which reader their bytes call for."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import snapshot_download

from tasks.errors import SourceInvalid
from tasks.params import Source
from tasks.row_readers import READERS, RawRow, SourceFile, open_file


def find_files(source: Source) -> tuple[SourceFile, ...]:
    """The files of a source, sorted by name; a Hub data set is fetched at its commit.

    Raises:
        SourceInvalid: nothing readable lies there.
    """
    root, prefix = _root(source)
    path = root / source.path
    if path.is_file():
        _suffix(path.name)
        return (SourceFile(path, prefix + source.path),)
    if not path.is_dir():
        raise SourceInvalid(f"{prefix}{source.path}: no such file or folder; mend sources.{source.name}.path")
    files = sorted(file for file in path.rglob("*") if file.is_file() and _is_readable(file, path))
    if not files:
        raise SourceInvalid(f"{prefix}{source.path}: no file in this folder ends in {', '.join(sorted(READERS))}")
    return tuple(SourceFile(file, prefix + (source.path / file.relative_to(path)).as_posix()) for file in files)


def read_rows(file: SourceFile) -> Iterator[RawRow]:
    """The rows of one file, in order; a row that cannot be read is there with its reason.

    Raises:
        SourceInvalid: the file is empty, binary, of another encoding, or torn beyond its rows.
    """
    _check_start(file)
    try:
        yield from READERS[_suffix(file.path.name)](file)
    except (EOFError, gzip.BadGzipFile) as error:
        raise SourceInvalid(f"{file.shown}: the compressed file is torn ({error}); fetch it again") from None
    except json.JSONDecodeError as error:
        raise SourceInvalid(
            f"{file.shown}:{error.lineno}: not a JSON array: {error.msg} at column {error.colno}; "
            "export it again, or as JSON lines (.jsonl), where one broken row does not cost the rest"
        ) from None


def _root(source: Source) -> tuple[Path, str]:
    if source.repo_id is None:
        return Path(), ""
    patterns = [source.path, f"{source.path.rstrip('/')}/**"] if Path(source.path).parts else None
    try:
        folder = snapshot_download(
            source.repo_id, repo_type="dataset", revision=source.revision, allow_patterns=patterns
        )
    except (
        OSError,
        ValueError,
    ) as error:  # the Hub client's errors are OSErrors: no network, no such commit, no access
        raise SourceInvalid(
            f"sources.{source.name}: {source.repo_id} at {source.revision} cannot be fetched "
            f"({type(error).__name__}); check repo_id, revision, network and access (`hf auth login`)"
        ) from None
    return Path(folder), f"hf://datasets/{source.repo_id}@{source.revision}/"


def _is_readable(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.name.endswith(tuple(READERS))


def _suffix(name: str) -> str:
    for suffix in sorted(READERS, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix
    raise SourceInvalid(f"{name}: the name ends in none of {', '.join(sorted(READERS))}; rename or convert it")


def _check_start(file: SourceFile) -> None:
    try:
        with open_file(file) as stream:
            start = stream.read(4096)
    except (EOFError, gzip.BadGzipFile) as error:
        raise SourceInvalid(f"{file.shown}: named .gz but not readable as gzip ({error}); fetch it again") from None
    if not start:
        raise SourceInvalid(f"{file.shown}: empty_file: no bytes; export it again or remove the source")
    if start.startswith(b"PAR1"):
        if _suffix(file.path.name) != ".parquet":
            raise SourceInvalid(f"{file.shown}: a Parquet file by its bytes; rename it to end in .parquet")
        return
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceInvalid(f"{file.shown}: utf16_file: found UTF-16, expected UTF-8; save it as UTF-8")
    if b"\0" in start or start.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        raise SourceInvalid(f"{file.shown}: binary_file: expected text in UTF-8; unpack or convert it")
