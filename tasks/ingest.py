"""Stage `ingest`: the sources of params.yaml -> data/ingest/{examples,ledger,quarantine}.parquet, summary.json.

Rows stream: of a row that is done with, eight bytes are remembered, to tell equal rows apart.
"""

import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tasks import paths
from tasks.conversations import Parser
from tasks.entry import run_stage
from tasks.errors import SourceInvalid
from tasks.files import write_json
from tasks.layouts import build_parser, recognise, shown_columns
from tasks.params import load_params
from tasks.params_data import IngestParams, Source
from tasks.raw_rows import RawRow, SourceFile
from tasks.records import DataSummary, Example, LedgerEntry, QuarantinedRow
from tasks.source_files import find_files, read_rows, unread_files
from tasks.strict_json import Broken
from tasks.summaries import Tally, print_summary
from tasks.tables import TableWriter, writing
from tasks.tool_calls import BrokenRow

ROWS_TO_RECOGNISE = 100
MOST_ROWS_TO_RECOGNISE = 300  # so many are held to find 100 that can be read
ROWS_PER_BATCH = 1024
SHOWN_PROBLEMS = 5
KEPT_CHARS = 10_000
PROGRESS_SECONDS = 2.0

LocatedRow = tuple[SourceFile, RawRow]


@dataclass
class SourceCount:
    """What one source had so far: rows, broken ones and the first of them, columns that nothing reads, broken files."""

    rows: int = 0
    broken: int = 0
    broken_files: int = 0
    first_broken: list[LedgerEntry] = field(default_factory=list)
    first_broken_files: list[str] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Outputs:
    """The three tables that ingest fills, and the counts of its ledger."""

    examples: TableWriter[Example]
    ledger: TableWriter[LedgerEntry]
    quarantine: TableWriter[QuarantinedRow]
    tally: Tally


def main() -> None:
    """Read every source into the canonical schema."""
    params = load_params()
    print_summary(ingest(params.sources, params.ingest))


def ingest(sources: Sequence[Source], params: IngestParams, folder: Path = paths.INGEST) -> DataSummary:
    """Read all sources into the tables in `folder`; what is wrong with any of them is reported at once.

    Raises:
        SourceInvalid: with the problems of every source; nothing is written.
    """
    counts: dict[str, SourceCount] = {}
    notes: list[str] = []
    problems: list[str] = []
    with ExitStack() as stack:
        outputs = Outputs(
            stack.enter_context(writing(folder / paths.EXAMPLES, Example)),
            stack.enter_context(writing(folder / paths.LEDGER, LedgerEntry)),
            stack.enter_context(writing(folder / paths.QUARANTINE, QuarantinedRow)),
            Tally(),
        )
        for source in sources:
            counts[source.name] = count = SourceCount()
            try:
                notes += ingest_source(source, params, outputs, count)
            except SourceInvalid as error:
                problems.append(f"  {source.name}: {error}")
        if problems:
            raise SourceInvalid("\n".join([f"{len(problems)} of {len(sources)} sources cannot be used:", *problems]))
    kept = {name: count.rows - count.broken for name, count in counts.items()}
    rows_in = sum(count.rows for count in counts.values())
    summary = outputs.tally.summary("ingest", rows_in, kept=kept, notes=tuple(notes))
    write_json(folder / paths.SUMMARY, summary)
    return summary


def ingest_source(source: Source, params: IngestParams, outputs: Outputs, count: SourceCount) -> list[str]:
    """Read one source into the tables; returns its notes for the summary.

    Raises:
        SourceInvalid: it is missing, of an unknown layout, has no good row, or too many broken ones.
    """
    rows = ((file, row) for file in find_files(source) for row in _with_progress(read_rows(file), file.shown))
    first = first_rows(rows)
    kind = layout_kind(source, first)
    parse = build_parser(source.layout, kind) if kind else None
    if kind:
        print(
            f"ingest: {source.name}: layout {kind}{' (recognised)' if source.layout.kind == 'auto' else ''}", flush=True
        )
    numbered = with_ids(source, itertools.chain(first, rows))
    while batch := list(itertools.islice(numbered, ROWS_PER_BATCH)):
        _note_broken_files(batch, count)
        results = [read_row(source, located, row_id, parse, count.unread) for located, row_id in batch]
        _write(results, outputs, count)
    _check_share(count, params.max_broken_share)
    return [f"{source.name}: layout {kind}", *_notes(source, count), *_unread_note(source)]


def _unread_note(source: Source) -> Iterator[str]:
    """Files that lie among the others and are not read."""
    if names := unread_files(source):
        more = "" if len(names) <= SHOWN_PROBLEMS else ", …"
        yield (
            f"alarm: {source.name}: {len(names)} files are not read, for no reader takes their names: "
            f"{', '.join(names[:SHOWN_PROBLEMS])}{more}; rename, convert or remove them"
        )


def first_rows(rows: Iterator[LocatedRow]) -> list[LocatedRow]:
    """Rows enough to recognise a layout by."""
    first: list[LocatedRow] = []
    readable = 0
    for located in itertools.islice(rows, MOST_ROWS_TO_RECOGNISE):
        first.append(located)
        readable += not isinstance(located[1].row, Broken)
        if readable == ROWS_TO_RECOGNISE:
            break
    return first


def layout_kind(source: Source, first: Sequence[LocatedRow]) -> str | None:
    """The layout that the source names, or for `auto` the one that its first readable rows have; None without any.

    Raises:
        SourceInvalid: `auto` recognises nothing that can be trained on.
    """
    if source.layout.kind != "auto":
        return source.layout.kind
    readable = [row.row for _, row in first if not isinstance(row.row, Broken)]
    return recognise(readable, source.path) if readable else None


def read_row(
    source: Source, located: LocatedRow, row_id: str, parse: Parser | None, unread: set[str]
) -> Example | tuple[LedgerEntry, QuarantinedRow]:
    """The example of a row, or why there is none; columns that its layout does not read are added to `unread`."""
    file, raw = located
    row = raw.row
    if isinstance(row, Broken):
        return _broken(source, located, row_id, row)
    if parse is None:
        return _broken(source, located, row_id, Broken("layout_unknown", "no row before it could be read"))
    try:
        conversation = parse(row)
    except BrokenRow as broken:
        return _broken(source, located, row_id, Broken(broken.rule, broken.value))
    unread |= conversation.unread
    return Example(
        id=row_id,
        source=source.name,
        role=source.role,
        file=file.shown,
        line=raw.line,
        messages=conversation.messages,
        tools=conversation.tools,
    )


def with_ids(source: Source, rows: Iterable[LocatedRow]) -> Iterator[tuple[LocatedRow, str]]:
    """Ids from the source's name, the row's bytes, and how often these bytes came before: never from the position."""
    seen: set[int] = set()
    again: Counter[int] = Counter()
    for located in rows:
        digest = located[1].digest
        key = int(digest[:16], 16)
        if key in seen:
            again[key] += 1
        seen.add(key)
        row_key = f"{source.name}\0{digest}\0{again.get(key, 0) + 1}"
        yield located, hashlib.sha256(row_key.encode()).hexdigest()[:16]


def _broken(source: Source, located: LocatedRow, row_id: str, broken: Broken) -> tuple[LedgerEntry, QuarantinedRow]:
    file, raw = located
    common = {"id": row_id, "source": source.name, "file": file.shown, "line": raw.line, "rule": broken.rule}
    common["value"] = broken.value
    text = raw.raw.decode("utf-8", "replace")[:KEPT_CHARS]
    return (
        LedgerEntry.model_validate({**common, "stage": "ingest", "fate": "dropped"}),
        QuarantinedRow.model_validate({**common, "text": text}),
    )


def _note_broken_files(batch: Sequence[tuple[LocatedRow, str]], count: SourceCount) -> None:
    for (file, raw), _ in batch:
        if raw.is_file and isinstance(raw.row, Broken):
            count.broken_files += 1
            if count.broken_files <= SHOWN_PROBLEMS:
                count.first_broken_files.append(f"{file.shown}:{raw.line}: {raw.row.rule}: {raw.row.value}")


def _notes(source: Source, count: SourceCount) -> Iterator[str]:
    if count.unread:
        yield f"{source.name}: columns not read: {', '.join(shown_columns(sorted(count.unread)))}"
    for place in count.first_broken_files:
        yield f"alarm: {source.name}: {place}; nothing after this place was read"
    if count.broken_files > SHOWN_PROBLEMS:
        yield f"alarm: {source.name}: {count.broken_files - SHOWN_PROBLEMS} more files cannot be read to their end"


def _write(
    results: Sequence[Example | tuple[LedgerEntry, QuarantinedRow]], outputs: Outputs, count: SourceCount
) -> None:
    broken = [result for result in results if isinstance(result, tuple)]
    outputs.examples.write([result for result in results if isinstance(result, Example)])
    outputs.ledger.write([entry for entry, _ in broken])
    outputs.quarantine.write([row for _, row in broken])
    outputs.tally.add(entry for entry, _ in broken)
    count.rows += len(results)
    count.broken += len(broken)
    count.first_broken += [entry for entry, _ in broken[: SHOWN_PROBLEMS - len(count.first_broken)]]


def _check_share(count: SourceCount, max_broken_share: float) -> None:
    if count.rows == count.broken:
        limit = "no good row is left"
    elif count.broken / count.rows > max_broken_share:
        limit = f"ingest.max_broken_share allows {max_broken_share:.1%}"
    else:
        return
    shown = [
        f"    {entry.file}:{entry.line}: {entry.rule}{f': {entry.value}' if entry.value else ''}"
        for entry in count.first_broken
    ]
    more = count.broken - len(shown)
    lines = [f"{count.broken} of {count.rows} rows are broken, {limit}; mend them, or the layout:", *shown]
    raise SourceInvalid("\n".join([*lines, *([f"    and {more} more"] if more else [])]))


def _with_progress(rows: Iterable[RawRow], shown: str) -> Iterator[RawRow]:
    """Pass rows on; say every two seconds how many there were and how fast."""
    started = last = time.monotonic()
    for count, row in enumerate(rows, start=1):
        yield row
        now = time.monotonic()
        if now - last >= PROGRESS_SECONDS:
            print(f"ingest: {shown}: {count:,} rows, {count / (now - started):,.0f} rows/s", flush=True)
            last = now


if __name__ == "__main__":
    run_stage(main)
