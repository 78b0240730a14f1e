"""Rows of one file, strictly read: JSON lines, JSON arrays, CSV, TSV, Parquet; each with line and digest."""

import csv
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tasks.errors import SourceInvalid
from tasks.strict_json import Broken, parse_elements, parse_row
from tasks.tables import read_foreign_rows

MAX_LINE_BYTES = 1_000_000
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class RawRow:
    """One row as it lies in a file: its 1-based line, the sha256 of its bytes, and its columns or why it has none."""

    line: int
    digest: str
    row: dict[str, Any] | Broken


@dataclass(frozen=True)
class SourceFile:
    """A file to read, and the name under which ledger and messages show it: the same on every machine."""

    path: Path
    shown: str


def open_file(file: SourceFile) -> BinaryIO:
    """Open a file for reading bytes, unpacked where its name ends in `.gz`."""
    return gzip.open(file.path, "rb") if file.path.suffix == ".gz" else file.path.open("rb")  # type: ignore[return-value]


def _read_jsonl(file: SourceFile) -> Iterator[RawRow]:
    with open_file(file) as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(_BOM)
            if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                yield _skip_long_line(stream, number, line)
            else:
                body = line.rstrip(b"\r\n")
                yield RawRow(number, _digest(body), _parse_line(body, is_cut=not line.endswith(b"\n")))


def _skip_long_line(stream: BinaryIO, number: int, start: bytes) -> RawRow:
    """Pass over a line without ever holding it."""
    digest, length = hashlib.sha256(start), len(start)
    while part := stream.readline(MAX_LINE_BYTES):
        digest.update(part)
        length += len(part)
        if part.endswith(b"\n"):
            break
    return RawRow(number, digest.hexdigest(), Broken("line_too_long", f"{length} bytes, at most {MAX_LINE_BYTES}"))


def _parse_line(body: bytes, *, is_cut: bool) -> dict[str, Any] | Broken:
    if not body.strip():
        return Broken("blank_line", "")
    try:
        row = parse_row(body.decode())
    except UnicodeDecodeError as error:
        return Broken("invalid_utf8", f"byte {error.start + 1}")
    if is_cut and isinstance(row, Broken) and row.rule == "json_syntax":
        return Broken("json_syntax", f"{row.value}; file ends mid-line")
    return row


def _read_json(file: SourceFile) -> Iterator[RawRow]:
    """A JSON array; a file that starts with an object is JSON lines under another name."""
    with open_file(file) as stream:
        raw = stream.read().removeprefix(_BOM)
    if raw.lstrip()[:1] == b"{":
        yield from _read_jsonl(file)
        return
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SourceInvalid(f"{file.shown}:{line}: invalid_utf8: expected UTF-8; save it as UTF-8") from None
    line, counted = 1, 0
    for element, start, row in parse_elements(text):
        line += text.count("\n", counted, start)
        counted = start
        yield RawRow(line, _digest(element.encode()), row)


def _csv_reader(delimiter: str) -> Callable[[SourceFile], Iterator[RawRow]]:
    return lambda file: _read_csv(file, delimiter)


def _read_csv(file: SourceFile, delimiter: str) -> Iterator[RawRow]:
    """Rows below a header line; every physical line that a quoting error swallows is a row of its own."""
    pending: list[str] = []
    with open_file(file) as stream:
        reader = csv.reader(_csv_lines(stream, pending), delimiter=delimiter, strict=True)
        header = _csv_header(reader, file)
        first = reader.line_num + 1
        while True:
            pending.clear()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                for offset, line in enumerate(pending):
                    yield RawRow(first + offset, _digest(_bytes(line)), Broken("csv_syntax", str(error)))
            else:
                yield RawRow(first, _digest(_bytes("".join(pending).rstrip("\r\n"))), _csv_row(header, cells))
            first = reader.line_num + 1


def _csv_lines(stream: BinaryIO, pending: list[str]) -> Iterator[str]:
    for line in stream:
        text = line.removeprefix(_BOM).decode("utf-8", "surrogateescape")
        pending.append(text)
        yield text


def _csv_header(reader: Any, file: SourceFile) -> list[str]:
    try:
        header = next(reader)
    except csv.Error as error:
        raise SourceInvalid(f"{file.shown}:1: the header is no CSV: {error}; export it again") from None
    if len(set(header)) < len(header) or not all(name.strip() for name in header):
        raise SourceInvalid(f"{file.shown}:1: expected a header of distinct column names, found {len(header)} cells")
    return [str(name) for name in header]


def _csv_row(header: list[str], cells: list[str]) -> dict[str, Any] | Broken:
    if not cells:
        return Broken("blank_line", "")
    if len(cells) != len(header):
        return Broken("column_count", f"found {len(cells)} cells, expected {len(header)}")
    if not all(cell.isascii() or _is_utf8(cell) for cell in cells):
        return Broken("invalid_utf8", "")
    return dict(zip(header, cells, strict=True))


def _read_parquet(file: SourceFile) -> Iterator[RawRow]:
    for number, row in enumerate(read_foreign_rows(file.path), start=1):
        canonical = json.dumps(row, sort_keys=True, ensure_ascii=True, default=str)
        yield RawRow(number, _digest(canonical.encode()), row)


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


READERS: dict[str, Callable[[SourceFile], Iterator[RawRow]]] = {
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl,
    ".json": _read_json,
    ".json.gz": _read_json,
    ".csv": _csv_reader(","),
    ".csv.gz": _csv_reader(","),
    ".tsv": _csv_reader("\t"),
    ".tsv.gz": _csv_reader("\t"),
    ".parquet": _read_parquet,
}
