"""What the readers of all file kinds share: a row as it lies in a file, the file, and why a file cannot be read on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.strict_json import Broken

MAX_ROW_BYTES = 1_000_000  # a row above this is no example for a model, and is never held
KEPT_BYTES = 40_000  # of a broken row, for the quarantine: 10,000 characters of four bytes
MAX_COLUMNS = 1_000  # a row with more is a matrix, and as Python objects a batch of them would fill the memory
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it lies in a file: 1-based line, columns or why it has none, sha256 and the start of its bytes.

    `is_file` marks the one row that stands for a file that cannot be read, or not to its end.
    """

    line: int
    digest: str
    row: dict[str, Any] | Broken
    raw: bytes
    is_file: bool = False


@dataclass(frozen=True)
class SourceFile:
    """A file to read, and the name under which ledger and messages show it: the same on every machine."""

    path: Path
    shown: str


class FileBroken(Exception):
    """A file that cannot be read, or not on from `line`: it costs one entry, its earlier rows stay."""

    def __init__(self, rule: str, value: str, line: int = 0) -> None:
        super().__init__(rule, value, line)
        self.rule = rule
        self.value = value
        self.line = line


def raw_row(line: int, body: bytes, row: dict[str, Any] | Broken) -> RawRow:
    """A row whose bytes are `body`."""
    return RawRow(line, hashlib.sha256(body).hexdigest(), row, body)


def too_long(size: int) -> Broken:
    """The reason why a row of `size` bytes is not read."""
    return Broken("line_too_long", f"{size} bytes, at most {MAX_ROW_BYTES}")


def checked_width(row: dict[str, Any] | Broken) -> dict[str, Any] | Broken:
    """The row, unless it has too many columns."""
    if isinstance(row, dict) and len(row) > MAX_COLUMNS:
        return Broken("too_many_columns", f"{len(row)} columns, at most {MAX_COLUMNS}")
    return row
