"""What a source is, without running the line: its files, its layout, its first rows as conversations, what is broken.

Reads the first rows with the readers and layouts of the stage `ingest` and writes nothing.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.digests import digest_file
from tasks.errors import SourceInvalid
from tasks.ingest import LocatedRow, read_row, with_ids
from tasks.layouts import PREFERENCES, build_parser, layout_of, recognise, shown_columns
from tasks.params_data import NamedLayout, Source
from tasks.paths import SOURCES
from tasks.raw_rows import SourceFile
from tasks.records import Example, Record
from tasks.source_files import find_files, read_rows
from tasks.strict_json import Broken
from tasks.templates import template_proposal

ROWS_LOOKED_AT = 300
SHOWN_FILES = 20
SHOWN_COLUMNS = 50


class PreviewFile(Record):
    """A file of a source and its size in bytes, packed as it lies there."""

    name: str
    size_bytes: int


class BrokenPreview(Record):
    """A row that is no example: where it stands and which rule it broke."""

    file: str
    line: int
    rule: str
    value: str


class Preview(Record):
    """The first `rows_read` rows of a source.

    `layout` is None when none is recognised, and `problem` then says what ingest would say. `fits` counts rows by the
    layout that their columns have, `dpo`, `kto` and `none` included. `examples` are the first good rows. `sha256` is
    that of a single file. `proposal` is a `sources:` entry to paste, for a path that no parameter names.
    """

    name: str
    files: tuple[PreviewFile, ...]
    files_left_out: int
    layout: str | None
    is_recognised: bool
    problem: str | None
    columns: tuple[str, ...]
    rows_read: int
    fits: dict[str, int]
    broken_by_rule: dict[str, int]
    broken: tuple[BrokenPreview, ...]
    unread_columns: tuple[str, ...]
    examples: tuple[Example, ...]
    sha256: str | None
    proposal: str | None = None


def preview_source(source: Source, rows: int) -> Preview:
    """Look at the first rows of a source that parameters name, and keep `rows` of them.

    Raises:
        SourceInvalid: no file is there, or other bytes than the pinned ones.
        Unavailable: the Hub cannot be reached.
    """
    return _preview(source, find_files(source), rows)


def preview_path(path: Path, rows: int) -> Preview:
    """Look at the first rows of a file or folder that no parameter names; proposes the entry that would name it.

    Raises:
        SourceInvalid: nothing is there that a source can be made of.
    """
    is_inside = path.is_relative_to(SOURCES)
    if not path.exists():
        raise SourceInvalid(f"{path}: no such file or folder")
    if path.is_dir() and not is_inside:
        raise SourceInvalid(f"{path}: a folder outside of {SOURCES} cannot be pinned; name one file, or move it there")
    source = Source(
        name=_name(path),
        role="train",
        path=(path if is_inside else path.absolute()).as_posix(),
        sha256=None if is_inside else digest_file(path),
        repo_id=None,
        revision=None,
        weight=1.0,
        layout=NamedLayout(kind="auto", system="", tools="native"),
    )
    files = find_files(source)
    proposal = _proposal(source, _readable(_first(files)))
    return _preview(source, files, rows).model_copy(update={"proposal": proposal})


def _preview(source: Source, files: Sequence[SourceFile], rows: int) -> Preview:
    first = _first(files)
    readable = _readable(first)
    kind, problem = _kind(source, readable)
    unread: set[str] = set()
    results = _results(source, first, kind, unread)
    broken = [result for result in results if isinstance(result, BrokenPreview)]
    return Preview(
        name=source.name,
        files=tuple(PreviewFile(name=f.shown, size_bytes=f.path.stat().st_size) for f in files[:SHOWN_FILES]),
        files_left_out=max(0, len(files) - SHOWN_FILES),
        layout=kind,
        is_recognised=source.layout.kind == "auto" and kind is not None,
        problem=problem,
        columns=tuple(shown_columns({name for row in readable for name in row}, most=SHOWN_COLUMNS)),
        rows_read=len(first),
        fits=dict(Counter(layout_of(row) or "none" for row in readable)),
        broken_by_rule=dict(Counter(row.rule for row in broken)),
        broken=tuple(broken[:rows]),
        unread_columns=tuple(shown_columns(unread)),
        examples=tuple(itertools.islice((row for row in results if isinstance(row, Example)), rows)),
        sha256=digest_file(files[0].path) if len(files) == 1 else None,
    )


def _first(files: Sequence[SourceFile]) -> list[LocatedRow]:
    """The first rows, from each of many files some, so that a file of another kind is seen."""
    each = max(1, ROWS_LOOKED_AT // len(files))
    rows = ((file, row) for file in files for row in itertools.islice(read_rows(file), each))
    return list(itertools.islice(rows, ROWS_LOOKED_AT))


def _readable(first: Sequence[LocatedRow]) -> list[dict[str, Any]]:
    return [raw.row for _, raw in first if not isinstance(raw.row, Broken)]


def _kind(source: Source, readable: Sequence[dict[str, Any]]) -> tuple[str | None, str | None]:
    """The layout, or what ingest would say instead."""
    if source.layout.kind != "auto":
        return source.layout.kind, None
    if not readable:
        return None, "no row can be read"
    try:
        return recognise(readable, source.path), None
    except SourceInvalid as error:
        return None, str(error)


def _results(
    source: Source, first: Sequence[LocatedRow], kind: str | None, unread: set[str]
) -> list[Example | BrokenPreview]:
    """Each row as ingest would take it; without a layout only those that cannot be read."""
    parse = build_parser(source.layout, kind) if kind else None
    results: list[Example | BrokenPreview] = []
    for located, row_id in with_ids(source, first):
        if parse is None and not isinstance(located[1].row, Broken):
            continue
        result = read_row(source, located, row_id, parse, unread)
        if isinstance(result, Example):
            results.append(result)
        else:
            entry, _ = result
            results.append(BrokenPreview(file=entry.file, line=entry.line, rule=entry.rule, value=entry.value))
    return results


def _name(path: Path) -> str:
    """A name for a source, from that of its file."""
    stem = path.name.split(".")[0].lower()
    return re.sub(r"[^a-z0-9_-]+", "_", stem).strip("_-")[:64] or "source"


def _proposal(source: Source, readable: Sequence[dict[str, Any]]) -> str | None:
    """The entry of a source that ingest would take, or take with the template that is written here."""
    kind, _ = _kind(source, readable)
    is_preference = any(layout_of(row) in PREFERENCES for row in readable)
    template = None if kind or is_preference else template_proposal(readable)
    if kind is None and template is None:
        return None
    layout = template or 'layout:\n  kind: auto\n  system: ""\n  tools: native'
    lines = [
        f"- name: {source.name}",
        "  role: train",
        f"  path: {json.dumps(source.path, ensure_ascii=False)}",
        f"  sha256: {source.sha256 or 'null'}",
        "  repo_id: null",
        "  revision: null",
        "  weight: 1.0",
        *(f"  {line}" for line in layout.splitlines()),
    ]
    return "\n".join(lines) + "\n"
