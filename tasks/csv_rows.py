"""Rows of CSV and TSV files: lines and rows are both bounded, and a quoting error costs the lines it swallows."""

import csv
import hashlib
from collections.abc import Iterator
from io import BufferedIOBase
from typing import Any

from tasks.raw_rows import BOM, KEPT_BYTES, MAX_COLUMNS, MAX_ROW_BYTES, FileBroken, RawRow, raw_row, too_long
from tasks.strict_json import Broken, is_utf8


def read_csv(stream: BufferedIOBase, delimiter: str) -> Iterator[RawRow]:
    """Yield the rows below a header line; every physical line that a quoting error swallows is a row of its own.

    A header without a comma that names several columns between semicolons says that these separate the cells, as
    spreadsheets write it where the comma is the decimal mark.

    Raises:
        FileBroken: the first line is no header.
    """
    csv.field_size_limit(MAX_ROW_BYTES)  # the library's own limit is an eighth of what a row may have
    lines = _Lines(stream)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = _header(reader)
    except FileBroken:
        header = _semicolon_names(lines.pending) if delimiter == "," else []
        if len(header) < 2:
            raise
        delimiter = ";"
    if delimiter == "," and len(header) == 1 and len(names := _semicolon_names(lines.pending)) > 1:
        header, delimiter = names, ";"
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.start_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield from lines.swallowed(str(error))
        except _LineTooLong as long:
            yield from lines.swallowed("a line that is too long stands in an open quote")
            yield long.row
        else:
            body = b"".join(lines.pending).rstrip(b"\r\n")
            yield raw_row(lines.first, body, _row(header, cells, body))


class _LineTooLong(Exception):
    def __init__(self, row: RawRow) -> None:
        super().__init__()
        self.row = row


class _Lines:
    """The lines of a file as csv.reader takes them; `pending` are those of the present row."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._number = 0
        self._pending_bytes = 0
        self.first = 1
        self.pending: list[bytes] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._pending_bytes > MAX_ROW_BYTES:
            raise csv.Error(f"a row of more than {MAX_ROW_BYTES} bytes, as after an open quote")
        line = self._stream.readline(MAX_ROW_BYTES + 1)
        if not line:
            raise StopIteration
        self._number += 1
        if self._number == 1:
            line = line.removeprefix(BOM)
        if len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
            raise _LineTooLong(skip_long_line(self._stream, self._number, line))
        self.pending.append(line)
        self._pending_bytes += len(line)
        return line.decode("utf-8", "surrogateescape")

    def start_row(self) -> None:
        """Forget the lines of the last row."""
        self.pending.clear()
        self._pending_bytes = 0
        self.first = self._number + 1

    def swallowed(self, problem: str) -> Iterator[RawRow]:
        """The lines of a row that has no end, each as a broken row."""
        for offset, line in enumerate(self.pending):
            yield raw_row(self.first + offset, line, Broken("csv_syntax", problem))


def skip_long_line(stream: BufferedIOBase, number: int, start: bytes) -> RawRow:
    """Pass over a line without ever holding it."""
    digest, size = hashlib.sha256(start), len(start)
    while part := stream.readline(MAX_ROW_BYTES):
        digest.update(part)
        size += len(part)
        if part.endswith(b"\n"):
            break
    return RawRow(number, digest.hexdigest(), too_long(size), start[:KEPT_BYTES])


def _header(reader: Any) -> list[str]:
    try:
        header = [str(name) for name in next(reader, [])]
    except csv.Error as error:
        raise FileBroken("csv_header", f"the header is no CSV: {error}", 1) from None
    except _LineTooLong as long:
        raise FileBroken("csv_header", f"the header is a line of {long.row.row.value}", 1) from None  # type: ignore[union-attr]
    if len(header) > MAX_COLUMNS:
        raise FileBroken("csv_header", f"{len(header)} columns, at most {MAX_COLUMNS}", 1)
    if len(set(header)) < len(header) or not header or not all(name.strip() for name in header):
        raise FileBroken("csv_header", f"expected distinct column names, found {len(header)} cells", 1)
    if not all(map(is_utf8, header)):
        raise FileBroken("csv_header", "a column's name is no UTF-8; save the file as UTF-8", 1)
    return header


def _semicolon_names(lines: list[bytes]) -> list[str]:
    """The names of a header that semicolons separate; none where it is no such header of one line."""
    text = [line.decode("utf-8", "surrogateescape") for line in lines]
    try:
        return _header(csv.reader(text, delimiter=";", strict=True)) if len(text) == 1 else []
    except FileBroken:
        return []


def _row(header: list[str], cells: list[str], body: bytes) -> dict[str, Any] | Broken:
    if not cells:
        return Broken("blank_line", "")
    if b"\0" in body:
        return Broken("nul_byte", f"byte {body.index(0) + 1}")
    if len(cells) != len(header):
        return Broken("column_count", f"found {len(cells)} cells, expected {len(header)}")
    if not all(map(is_utf8, cells)):
        return Broken("invalid_utf8", "")
    return dict(zip(header, cells, strict=True))
