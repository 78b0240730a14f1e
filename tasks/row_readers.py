"""Rows of one file, strictly read: JSON lines, JSON arrays, CSV, TSV, Parquet; never a file as a whole."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.compressed import opened
from tasks.csv_rows import read_csv, skip_long_line
from tasks.errors import SourceInvalid
from tasks.json_arrays import read_elements
from tasks.raw_rows import (
    BOM,
    KEPT_BYTES,
    MAX_COLUMNS,
    MAX_ROW_BYTES,
    FileBroken,
    RawRow,
    checked_width,
    raw_row,
    too_long,
)
from tasks.strict_json import Broken, parse_row
from tasks.tables import read_foreign_rows

Reader = Callable[[Path], Iterator[RawRow]]
MOST_BLANK_LINES = 1_000  # held until the next row; of more of them in a row each is one


def but_last_blanks(rows: Iterator[RawRow]) -> Iterator[RawRow]:
    """Pass rows on, but not the blank lines that end a file: editors and exports leave them, and nobody means a row.

    A blank line before another row is a broken row, and so is each of a file that has nothing else.
    """
    held: list[RawRow] = []
    is_alone = True
    try:
        for row in rows:
            is_blank = isinstance(row.row, Broken) and row.row.rule == "blank_line"
            if is_blank and len(held) < MOST_BLANK_LINES:
                held.append(replace(row, raw=row.raw[:KEPT_BYTES]))
                continue
            yield from held
            held, is_alone = [], False
            yield row
    except FileBroken:
        yield from held
        raise
    if is_alone:
        yield from held


def _read_jsonl(path: Path) -> Iterator[RawRow]:
    yield from but_last_blanks(_read_lines(path))


def _read_lines(path: Path) -> Iterator[RawRow]:
    with opened(path) as stream:
        number = 0
        while line := _readline(stream.readline, number):
            number += 1
            if number == 1:
                line = line.removeprefix(BOM)
            if len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
                yield skip_long_line(stream, number, line)
            else:
                body = line.rstrip(b"\r\n")
                yield raw_row(number, body, _parse_line(body, is_cut=not line.endswith(b"\n")))


def _readline(readline: Callable[[int], bytes], number: int) -> bytes:
    """The line after line `number`; trouble with the archive is trouble there."""
    try:
        return readline(MAX_ROW_BYTES + 1)
    except FileBroken as broken:
        raise FileBroken(broken.rule, broken.value, number + 1) from None


def _parse_line(body: bytes, *, is_cut: bool = False) -> dict[str, Any] | Broken:
    if not body.strip():
        return Broken("blank_line", "")
    if b"\0" in body:
        return Broken("nul_byte", f"byte {body.index(0) + 1}")
    try:
        row = checked_width(parse_row(body.decode()))
    except UnicodeDecodeError as error:
        return Broken("invalid_utf8", f"byte {error.start + 1}")
    if is_cut and isinstance(row, Broken) and row.rule == "json_syntax":
        return Broken("json_syntax", f"{row.value}; file ends mid-line")
    return row


def _read_json(path: Path) -> Iterator[RawRow]:
    """A JSON array, where a row's place is its number; a file that starts with an object is JSON lines."""
    with opened(path) as stream:
        start = stream.read1(4096).removeprefix(BOM).lstrip()
    if start.startswith(b"{"):
        yield from _read_jsonl(path)
        return
    with opened(path) as stream:
        number = 0
        try:
            for number, element in enumerate(read_elements(stream), start=1):
                is_long = element.size > MAX_ROW_BYTES
                row = too_long(element.size) if is_long else _parse_element(element.raw)
                yield RawRow(number, element.digest, row, element.raw)
        except FileBroken as broken:
            where = f" (line {broken.line})" if broken.line else ""
            raise FileBroken(broken.rule, f"{broken.value}{where}", number + 1) from None


def _parse_element(raw: bytes) -> dict[str, Any] | Broken:
    return _parse_line(raw) if raw else Broken("json_syntax", "nothing between two commas")


def _csv_reader(delimiter: str) -> Reader:
    def read(path: Path) -> Iterator[RawRow]:
        with opened(path) as stream:
            line = 0
            try:
                for row in but_last_blanks(read_csv(stream, delimiter)):
                    line = row.line
                    yield row
            except FileBroken as broken:
                raise FileBroken(broken.rule, broken.value, broken.line or line + 1) from None

    return read


def _read_parquet(path: Path) -> Iterator[RawRow]:
    number = 0
    try:
        for row in read_foreign_rows(path, MAX_COLUMNS):
            number += 1
            yield _parquet_row(number, row)
    except SourceInvalid as error:
        raise FileBroken("parquet_torn", str(error).removeprefix(f"{path}: "), number + 1) from None


def _parquet_row(number: int, row: dict[str, Any] | Exception) -> RawRow:
    if isinstance(row, UnicodeDecodeError):
        return raw_row(number, b"", Broken("invalid_utf8", "a text of this row"))
    if isinstance(row, Exception):
        return raw_row(number, b"", Broken("wrong_type", f"a value of this row: {type(row).__name__}"))
    canonical = json.dumps(row, sort_keys=True, default=str).encode()
    return raw_row(number, canonical, too_long(len(canonical)) if len(canonical) > MAX_ROW_BYTES else row)


_TEXT_READERS: dict[str, Reader] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _csv_reader(","),
    ".tsv": _csv_reader("\t"),
}
READERS: dict[str, Reader] = {
    **{f"{suffix}{packing}": reader for suffix, reader in _TEXT_READERS.items() for packing in ("", ".gz", ".zst")},
    ".parquet": _read_parquet,
}
