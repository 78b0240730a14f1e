"""Digests: sha256 of a file's bytes; of a folder, sha256 over its sorted (relative path, sha256) pairs."""

import hashlib
from pathlib import Path

_BLOCK = 1 << 20


def digest_text(text: str) -> str:
    """Sha256 of `text` in UTF-8, as 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Sha256 of the bytes of `path`, as 64 hex digits, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_digests(folder: Path) -> dict[str, str]:
    """Sha256 of every file below `folder`, by its relative POSIX path, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def combine_digests(digests: dict[str, str]) -> str:
    """One digest over named digests: sha256 over the sorted `name NUL digest newline` lines."""
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(digests.items()))
    return digest_text(lines)


def digest_path(path: Path) -> str:
    """The digest of a file or of a folder."""
    return combine_digests(file_digests(path)) if path.is_dir() else digest_file(path)
