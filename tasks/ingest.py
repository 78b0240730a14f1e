"""Stage `ingest`: the sources of params.yaml -> data/ingest/{examples,ledger}.parquet, summary.json."""

import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tasks import paths
from tasks.entry import run_stage
from tasks.errors import SourceInvalid
from tasks.files import write_json
from tasks.layouts import BrokenRow, Parser, build_parser, recognise
from tasks.params import IngestParams, Source, load_params
from tasks.records import Example, LedgerEntry
from tasks.row_readers import RawRow, SourceFile
from tasks.source_files import find_files, read_rows
from tasks.strict_json import Broken
from tasks.summaries import print_summary, summarise
from tasks.tables import write_examples, write_ledger

ROWS_TO_RECOGNISE = 100
SHOWN_PROBLEMS = 5
PROGRESS_SECONDS = 2.0

LocatedRow = tuple[SourceFile, RawRow]


@dataclass(frozen=True)
class Ingested:
    """The rows of one or more sources: examples, the entries of broken rows, and notes for the summary."""

    examples: tuple[Example, ...]
    entries: tuple[LedgerEntry, ...]
    notes: tuple[str, ...]


def main() -> None:
    """Read every source into the canonical schema."""
    params = load_params()
    ingested = ingest(params.sources, params.ingest)
    summary = summarise(
        "ingest",
        len(ingested.examples) + len(ingested.entries),
        ingested.entries,
        kept=Counter(example.source for example in ingested.examples),
        notes=ingested.notes,
    )
    write_examples(paths.INGEST / paths.EXAMPLES, ingested.examples)
    write_ledger(paths.INGEST / paths.LEDGER, ingested.entries)
    write_json(paths.INGEST / paths.SUMMARY, summary)
    print_summary(summary)


def ingest(sources: Sequence[Source], params: IngestParams) -> Ingested:
    """Read all sources; what is wrong with any of them is reported at once.

    Raises:
        SourceInvalid: with the problems of every source.
    """
    parts: list[Ingested] = []
    problems: list[str] = []
    for source in sources:
        try:
            parts.append(ingest_source(source, params))
        except SourceInvalid as error:
            problems.append(f"  {source.name}: {error}")
    if problems:
        raise SourceInvalid("\n".join([f"{len(problems)} of {len(sources)} sources cannot be used:", *problems]))
    return Ingested(
        tuple(itertools.chain.from_iterable(part.examples for part in parts)),
        tuple(itertools.chain.from_iterable(part.entries for part in parts)),
        tuple(itertools.chain.from_iterable(part.notes for part in parts)),
    )


def ingest_source(source: Source, params: IngestParams) -> Ingested:
    """Read one source.

    Raises:
        SourceInvalid: it is missing, unreadable, of an unknown layout, has no good row, or too many broken ones.
    """
    rows = ((file, row) for file in find_files(source) for row in _with_progress(read_rows(file), file.shown))
    first = list(itertools.islice(rows, ROWS_TO_RECOGNISE))
    kind = layout_kind(source, first)
    print(f"ingest: {source.name}: layout {kind}{' (recognised)' if source.layout.kind == 'auto' else ''}", flush=True)
    parse = build_parser(source.layout, kind)
    results = [
        _example(source, located, row_id, parse) for located, row_id in _with_ids(source, itertools.chain(first, rows))
    ]
    examples = tuple(result for result in results if isinstance(result, Example))
    entries = tuple(result for result in results if isinstance(result, LedgerEntry))
    _check_share(entries, len(results), params.max_broken_share)
    return Ingested(examples, entries, (f"{source.name}: layout {kind}",))


def layout_kind(source: Source, first: Sequence[LocatedRow]) -> str:
    """The layout that the source names, or for `auto` the one that its first readable rows have.

    Raises:
        SourceInvalid: `auto` recognises nothing that can be trained on.
    """
    if source.layout.kind != "auto":
        return source.layout.kind
    readable = [row.row for _, row in first if not isinstance(row.row, Broken)]
    return recognise(readable, source.path)


def _with_ids(source: Source, rows: Iterable[LocatedRow]) -> Iterator[tuple[LocatedRow, str]]:
    """Ids from the source's name, the row's bytes, and how often these bytes came before: never from the position."""
    seen: Counter[str] = Counter()
    for located in rows:
        digest = located[1].digest
        seen[digest] += 1
        yield located, hashlib.sha256(f"{source.name}\0{digest}\0{seen[digest]}".encode()).hexdigest()[:16]


def _example(source: Source, located: LocatedRow, row_id: str, parse: Parser) -> Example | LedgerEntry:
    file, raw = located
    if isinstance(raw.row, Broken):
        return _entry(source, located, row_id, raw.row)
    try:
        messages = parse(raw.row)
    except BrokenRow as broken:
        return _entry(source, located, row_id, Broken(broken.rule, broken.value))
    return Example(id=row_id, source=source.name, role=source.role, file=file.shown, line=raw.line, messages=messages)


def _entry(source: Source, located: LocatedRow, row_id: str, broken: Broken) -> LedgerEntry:
    file, raw = located
    return LedgerEntry(
        id=row_id,
        source=source.name,
        file=file.shown,
        line=raw.line,
        stage="ingest",
        fate="dropped",
        rule=broken.rule,
        value=broken.value,
    )


def _check_share(entries: Sequence[LedgerEntry], rows: int, max_broken_share: float) -> None:
    if rows == len(entries):
        limit = "no good row is left"
    elif len(entries) / rows > max_broken_share:
        limit = f"ingest.max_broken_share allows {max_broken_share:.1%}"
    else:
        return
    shown = [f"    {entry.file}:{entry.line}: {entry.rule}: {entry.value}" for entry in entries[:SHOWN_PROBLEMS]]
    more = len(entries) - len(shown)
    lines = [f"{len(entries)} of {rows} rows are broken, {limit}; mend them, or the layout:", *shown]
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
