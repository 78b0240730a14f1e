"""What a source is, without running the line: its files, its layout, its first rows as conversations, what is broken.

Reads the first rows with the readers and layouts of the stage `ingest` and writes nothing.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
NEEDS_TEMPLATE = "layout not recognised; the template of the entry below makes conversations of its columns"


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
    source: Source
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
    preview = _preview(source, files, rows)
    problem = NEEDS_TEMPLATE if preview.problem and proposal else preview.problem
    return preview.model_copy(update={"proposal": proposal, "problem": problem})


def reason_to_refuse(preview: Preview, max_broken_share: float) -> str | None:
    """Why a run would refuse this source; None when it would not.

    Where too many of the first rows are broken, all are read: the first may be worse than the others.
    """
    if preview.problem and preview.proposal is None:
        return preview.problem
    rows, broken = preview.rows_read, sum(preview.broken_by_rule.values())
    if rows and broken <= max_broken_share * rows:
        return None
    rows, broken = _count(preview.source, preview.layout)
    if broken == rows:
        return "no row of it is good"
    if broken <= max_broken_share * rows:
        return None
    return f"{broken:,} of {rows:,} rows are broken, ingest.max_broken_share allows {max_broken_share:.1%}"


def _count(source: Source, kind: str | None) -> tuple[int, int]:
    """How many rows a source has, and how many of them are broken."""
    all_rows = ((file, row) for file in find_files(source) for row in read_rows(file))
    rows = broken = 0
    for result in _judged(source, all_rows, kind, set()):
        rows += 1
        broken += isinstance(result, BrokenPreview)
    return rows, broken


def _preview(source: Source, files: Sequence[SourceFile], rows: int) -> Preview:
    first = _first(files)
    readable = _readable(first)
    kind, problem = _kind(source, readable)
    unread: set[str] = set()
    results = list(_judged(source, first, kind, unread))
    broken = [result for result in results if isinstance(result, BrokenPreview)]
    return Preview(
        name=source.name,
        source=source,
        files=tuple(PreviewFile(name=f.shown, size_bytes=f.path.stat().st_size) for f in files[:SHOWN_FILES]),
        files_left_out=max(0, len(files) - SHOWN_FILES),
        layout=kind,
        is_recognised=source.layout.kind == "auto" and kind is not None,
        problem=problem,
        columns=tuple(shown_columns(dict.fromkeys(name for row in readable for name in row), most=SHOWN_COLUMNS)),
        rows_read=len(first),
        fits=dict(Counter(layout_of(row) or "none" for row in readable)),
        broken_by_rule=dict(Counter(row.rule for row in broken)),
        broken=tuple(broken[:rows]),
        unread_columns=tuple(shown_columns(sorted(unread))),
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


def _judged(
    source: Source, rows: Iterable[LocatedRow], kind: str | None, unread: set[str]
) -> Iterator[Example | BrokenPreview | None]:
    """Each row as ingest would take it; None for one that can be read and has no layout."""
    parse = build_parser(source.layout, kind) if kind else None
    for located, row_id in with_ids(source, rows):
        if parse is None and not isinstance(located[1].row, Broken):
            yield None
            continue
        result = read_row(source, located, row_id, parse, unread)
        if isinstance(result, Example):
            yield result
        else:
            entry, _ = result
            yield BrokenPreview(file=entry.file, line=entry.line, rule=entry.rule, value=entry.value)


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
    lines = [  # as deep as the entries of params.yaml
        f"- name: {source.name}",
        "  role: train",
        f"  path: {json.dumps(source.path, ensure_ascii=False)}",
        f"  sha256: {source.sha256 or 'null'}",
        "  repo_id: null",
        "  revision: null",
        "  weight: 1.0",
        *(f"  {line}" for line in layout.splitlines()),
    ]
    return "".join(f"  {line}\n" for line in lines)
