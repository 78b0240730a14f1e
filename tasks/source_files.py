"""Files of sources: which files a source has, here or on the Hub, and which reader their bytes call for."""

import fnmatch
import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tasks.compressed import opened
from tasks.digests import digest_file
from tasks.errors import SourceInvalid, Unavailable
from tasks.params_data import Source
from tasks.raw_rows import FileBroken, RawRow, SourceFile
from tasks.row_readers import READERS
from tasks.strict_json import Broken

_FOREIGN_STARTS = (b"PK\x03\x04", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ", b"%PDF", b"SQLite format")
PAPERS = (".md", ".rst", ".py", ".dvc", ".gitignore")
_REFUSED = (401, 402, 403)
_MAX_NUL_SHARE = 0.1  # text has none, UTF-16 half; a row with a stray one is that row's trouble


def find_files(source: Source) -> tuple[SourceFile, ...]:
    """The files of a source, sorted by name; a Hub data set is fetched at its commit, a pinned file is checked.

    Raises:
        SourceInvalid: nothing readable lies there, or other bytes than the pinned ones.
        Unavailable: the Hub cannot be reached, or fails.
    """
    root, prefix = _root(source)
    path = root / source.path
    if source.sha256 is not None:
        _check_pin(source, path)
    if path.is_file():
        reader_suffix(path.name)
        return (SourceFile(path, prefix + source.path),)
    if not path.is_dir() and not is_glob(source.path):
        raise SourceInvalid(f"{prefix}{source.path}: no such file or folder; mend sources.{source.name}.path")
    files = [file for file in _matching(source, root) if _is_readable(file.relative_to(root))]
    if not files:
        where = "in this folder" if path.is_dir() else "that this pattern matches"
        raise SourceInvalid(f"{prefix}{source.path}: no file {where} ends in {', '.join(sorted(READERS))}")
    return tuple(SourceFile(file, prefix + file.relative_to(root).as_posix()) for file in files)


def unread_files(source: Source) -> list[str]:
    """The files in a source's folder, or of its pattern, that no reader takes; papers and hidden files aside."""
    if source.repo_id is not None or Path(source.path).is_file():
        return []
    return [file.as_posix() for file in _matching(source, Path()) if not _is_readable(file) and not _is_paper(file)]


def _matching(source: Source, root: Path) -> list[Path]:
    """The files of a folder or a pattern, sorted by name."""
    path = root / source.path
    try:
        found = path.rglob("*") if path.is_dir() else root.glob(source.path)
        return sorted(file for file in found if file.is_file())
    except (ValueError, NotImplementedError) as error:  # of a pattern
        raise SourceInvalid(f"{source.path}: {error}; mend sources.{source.name}.path") from None


def _is_paper(file: Path) -> bool:
    """Whether it is about the data, or a program: what lies beside rows without being rows."""
    is_hidden = any(part.startswith((".", "__")) for part in file.parts)
    return is_hidden or file.suffix.lower() in PAPERS or file.stem.lower() in ("license", "licence", "readme", "notice")


def read_rows(file: SourceFile) -> Iterator[RawRow]:
    """The rows of one file, in order; a row that cannot be read is there with its reason.

    So is, as the last row, the file itself when it cannot be read, or not to its end.
    """
    try:
        _check_start(file)
        yield from READERS[reader_suffix(file.path.name)](file.path)
    except FileBroken as broken:
        yield _file_row(file, broken)
    except OSError as error:
        yield _file_row(file, FileBroken("unreadable_file", error.strerror or type(error).__name__))


def reader_suffix(name: str) -> str:
    """The part of a file's name that says how it is read.

    Raises:
        SourceInvalid: there is no reader for it.
    """
    for suffix in sorted(READERS, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return suffix
    raise SourceInvalid(f"{name}: the name ends in none of {', '.join(sorted(READERS))}; rename or convert it")


def is_glob(path: str) -> bool:
    """Whether a path is a pattern for many."""
    return any(sign in path for sign in "*?[")


def _check_pin(source: Source, path: Path) -> None:
    if not path.is_file():
        raise SourceInvalid(f"{source.path}: no such file; mend sources.{source.name}.path")
    if (found := digest_file(path)) != source.sha256:
        raise SourceInvalid(
            f"{source.path}: found sha256 {found}, expected {source.sha256}; "
            f"bring the file back, or write what was found into sources.{source.name}.sha256"
        )


def _root(source: Source) -> tuple[Path, str]:
    """The folder that a source's path starts from, and what stands before the names of its files."""
    if source.repo_id is None or source.revision is None:
        return Path(), ""
    shown = f"sources.{source.name}: {source.repo_id} at {source.revision}"
    try:
        folder = _fetch(source.repo_id, source.revision, source.path)
    except GatedRepoError:
        raise SourceInvalid(f"{shown}: no access; ask for it on its page, then `hf auth login`") from None
    except RevisionNotFoundError:
        raise SourceInvalid(f"{shown}: no such commit; mend sources.{source.name}.revision") from None
    except RepositoryNotFoundError:
        raise SourceInvalid(
            f"{shown}: no such data set, or no access to it; mend repo_id, or `hf auth login`"
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx2.TransportError, OSError) as error:
        if _status(error) in _REFUSED:
            raise SourceInvalid(f"{shown}: no access (HTTP {_status(error)}); `hf auth login` again") from None
        raise Unavailable(
            f"{shown}: cannot be fetched ({type(error).__name__}); check the network and HF_ENDPOINT, and run again"
        ) from None
    return folder, f"hf://datasets/{source.repo_id}@{source.revision}/"


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _fetch(repo_id: str, revision: str, path: str) -> Path:
    """The snapshot of a data set, with the files of `path` in it.

    Their names are asked for first: without the Hub, the client would take what an earlier, partial download left.
    """
    try:
        names = HfApi().list_repo_files(repo_id, repo_type="dataset", revision=revision)
    except OfflineModeIsEnabled:
        return _cached(repo_id, revision, path)
    wanted = [name for name in names if _is_wanted(name, path)]
    patterns = [_literal(name) for name in wanted] or ["no file of this name"]
    folder = Path(snapshot_download(repo_id, repo_type="dataset", revision=revision, allow_patterns=patterns))
    if missing := [name for name in wanted if not (folder / name).is_file()]:
        raise LocalEntryNotFoundError(f"{missing[0]} is missing")
    return folder


def _cached(repo_id: str, revision: str, path: str) -> Path:
    """The snapshot as it lies in the cache; the client itself refuses one that lacks files of the patterns."""
    below = path.rstrip("/")
    patterns = (
        [f"*{suffix}" for suffix in READERS] if below in ("", ".") else [below.replace("**/", "*"), f"{below}/**"]
    )
    return Path(
        snapshot_download(
            repo_id, repo_type="dataset", revision=revision, allow_patterns=patterns, local_files_only=True
        )
    )


def _is_wanted(name: str, path: str) -> bool:
    is_below = path.rstrip("/") in ("", ".") or name == path or name.startswith(f"{path.rstrip('/')}/")
    return _is_readable(Path(name)) and (is_below or fnmatch.fnmatchcase(name, path.replace("**/", "*")))


def _literal(name: str) -> str:
    """A pattern that matches `name` alone."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def _is_readable(file: Path) -> bool:
    return not any(part.startswith(".") for part in file.parts) and file.name.lower().endswith(tuple(READERS))


def _check_start(file: SourceFile) -> None:
    with opened(file.path) as stream:
        start = stream.read1(4096)
    if not start:
        raise FileBroken("empty_file", "no bytes; export it again or remove it")
    if start.startswith(b"PAR1") or reader_suffix(file.path.name) == ".parquet":
        if not start.startswith(b"PAR1"):
            raise FileBroken("binary_file", "no Parquet file by its bytes; rename or convert it")
        if reader_suffix(file.path.name) != ".parquet":
            raise FileBroken("binary_file", "a Parquet file by its bytes; rename it to end in .parquet")
        return
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileBroken("utf16_file", "found UTF-16, expected UTF-8; save it as UTF-8")
    if start.startswith(_FOREIGN_STARTS) or start.count(0) > _MAX_NUL_SHARE * len(start):
        raise FileBroken("binary_file", "expected text in UTF-8; unpack or convert it")


def _file_row(file: SourceFile, broken: FileBroken) -> RawRow:
    """The row that stands for a file; its id comes from the file's name and what is wrong."""
    digest = hashlib.sha256(f"{file.shown}\0{broken.rule}".encode()).hexdigest()
    return RawRow(broken.line, digest, Broken(broken.rule, broken.value), b"", is_file=True)
