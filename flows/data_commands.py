"""What `tunegate data` does: shows sources before a run, and rows and their fates after it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.commands import ended_run
from flows.data_diff import DataDiff, FateMove, compare
from flows.git import git, repository_root
from flows.outputs import Outputs, newest_outputs, run_outputs
from flows.row_story import RowNotFound, RowStory, find_row, search_rows, tell
from flows.rules import meaning
from flows.tables import wide_console
from flows.wording import cut, file_size
from tasks.errors import EXIT_INPUT, SourceInvalid
from tasks.files import dump_json
from tasks.params import load_sections
from tasks.params_data import IngestParams, Source
from tasks.paths import PARAMS, SOURCES
from tasks.records import Message

if TYPE_CHECKING:
    from tasks.preview import Preview

ROLE_STYLES = {"system": "dim", "user": "bold cyan", "assistant": "bold green", "tool": "bold magenta"}
FATE_STYLES = {"kept": "green", "changed": "cyan", "dropped": "yellow"}
SHOWN_CHARS = 1200
SHOWN_MOVES = 30
MOST_FOUND = 20


class SourceParams(BaseModel):
    """What the parameters say of the sources; the other sections may be wrong."""

    sources: list[Source]
    ingest: IngestParams


def show_command(start: Path, wanted: str | None, rows: int, params_file: Path | None) -> int:
    """Show one source, one path, or all sources of the parameters; returns 2 when a run would refuse one of them."""
    from tasks.preview import preview_path, preview_source, reason_to_refuse  # noqa: PLC0415  readers take a while

    root, console = repository_root(start), Console(soft_wrap=True)
    params = load_sections(SourceParams, params_file or root / PARAMS)
    sources = {source.name: source for source in params.sources}
    place = None if wanted is None else (start / wanted).resolve()
    shown: list[Source | Path] = [source for source in params.sources if wanted in {None, source.name}]
    if not shown and place is not None and place.exists():
        shown = [place.relative_to(root) if place.is_relative_to(root) else place]
    if not shown:
        raise SourceInvalid(f"{wanted!r} is neither a source ({', '.join(sources)}) nor a file or folder here")
    code = 0
    with chdir(root):  # as the stages run
        for item in shown:
            if isinstance(item, Source):
                preview = preview_source(item, rows)
                print_preview(console, preview, item)
            else:
                preview = preview_path(item, rows)
                print_preview(console, preview, None)
                if _is_unknown_to_git(root, item):
                    console.print(Text(f"git does not know it, and a run takes what git tracks: `git add {item}`\n"))
            if reason := reason_to_refuse(preview, params.ingest.max_broken_share):
                console.print(Text(f"a run would refuse it: {reason}\n", style="red"))
                code = EXIT_INPUT
    return code


def _is_unknown_to_git(root: Path, path: Path) -> bool:
    """Whether a source without a digest has a file that a run, which has a worktree of its own, would not see."""
    return path.is_relative_to(SOURCES) and bool(git(root, "ls-files", "--others", "--", f":(literal){path}"))


def print_preview(console: Console, preview: "Preview", source: Source | None) -> None:
    """A source's files, layout, first rows and broken rows; for a path without a source, the entry to paste."""
    role = f", role {source.role}, weight {source.weight:g}" if source is not None else ""
    console.print(Text(f"{preview.name}{role}", style="bold"))
    for line in _facts(preview):
        console.print(Text(f"  {line}"))
    for line in _trouble(preview):
        console.print(Text(f"  {line}", style="yellow"))
    for example in preview.examples:
        console.print(Text(f"\n  {example.file}:{example.line}", style="dim"))
        print_turns(console, example.messages)
        if example.tools:
            console.print(Text(f"    tools: {cut(example.tools, SHOWN_CHARS)}", style="dim"))
    if preview.proposal:
        console.print(Text("\nput this below `sources:` in params.yaml to use it:\n", style="bold"))
        print(preview.proposal)
    console.print()


def _facts(preview: "Preview") -> Iterator[str]:
    for file in preview.files:
        yield f"file:    {file.name} ({file_size(file.size_bytes)})"
    if preview.files_left_out:
        yield f"         and {preview.files_left_out:,} more files"
    if preview.sha256 is not None:
        yield f"sha256:  {preview.sha256}"
    how = "recognised" if preview.is_recognised else "as the parameters say"
    yield f"layout:  {f'{preview.layout} ({how})' if preview.layout else 'none'}"
    if set(preview.fits) - {preview.layout, "none"}:  # a template fits no layout that has a name
        fits = ", ".join(f"{name} {count:,}" for name, count in preview.fits.items())
        yield f"fits:    {fits} rows, by their columns"
    yield f"columns: {', '.join(preview.columns)}"
    broken = sum(preview.broken_by_rule.values())
    yield f"rows:    the first {preview.rows_read:,} were read, {broken:,} of them broken"


def _trouble(preview: "Preview") -> Iterator[str]:
    if preview.unread_columns:
        yield f"unread:  {', '.join(preview.unread_columns)}"
    for rule, count in preview.broken_by_rule.items():
        yield f"{count:>7,}  {_with_meaning(rule)}"
    for row in preview.broken:
        value = f": {cut(row.value, 200)}" if row.value else ""
        yield f"         {row.file}:{row.line}: {row.rule}{value}"
    if preview.problem:
        yield f"problem: {preview.problem}"


def print_turns(console: Console, messages: Iterable[Message]) -> None:
    """A conversation, turn by turn, with its roles coloured."""
    for message in messages:
        said = "\n".join(part for part in (message.content, message.tool_calls) if part)
        body = cut(said, SHOWN_CHARS).replace("\n", "\n" + " " * 15)
        role = f"    {message.role + ':':<11}"
        console.print(Text.assemble((role, ROLE_STYLES[message.role]), body))


def why_command(start: Path, row: str | None, run: str | None, text: str | None, *, as_json: bool) -> None:
    """Tell a row's story, or search for rows by a text.

    Raises:
        RowNotFound: neither a row nor a text was named, or no row has it.
    """
    if (row is None) == (text is None):
        raise RowNotFound("name a row by its id, the beginning of it, or FILE:LINE; or give --text to search, not both")
    root = repository_root(start)
    outputs = newest_outputs(root) if run is None else run_outputs(root, ended_run(root, run))
    console = Console(soft_wrap=True)
    if row is None or text is not None:
        _search(console, outputs, text or "")
        return
    story = tell(outputs, find_row(outputs, row))
    if as_json:
        print(dump_json(story), end="")
    else:
        print_story(console, story)


def _search(console: Console, outputs: Outputs, text: str) -> None:
    found = search_rows(outputs, text, MOST_FOUND + 1)
    if not found:
        raise RowNotFound(f"{outputs.name}: no row has {text!r} in it")
    console.print(Text(f"of {outputs.name}:", style="bold"))
    for match in found[:MOST_FOUND]:
        console.print(Text(f"{match['id']}  {match['file']}:{match['line']}  {_around(match['text'], text)}"))
    if len(found) > MOST_FOUND:
        console.print(f"and more; a longer text names fewer; `tunegate data why {found[0]['id']}` tells of one")


def _around(text: str, wanted: str, room: int = 40) -> str:
    at = max(text.casefold().find(wanted.casefold()), 0)
    start, end = max(at - room, 0), at + len(wanted) + room
    return ("…" if start else "") + " ".join(text[start:end].split()) + ("…" if end < len(text) else "")


def print_story(console: Console, story: RowStory) -> None:
    """A row's way, its cluster, its text, and its fate in one sentence."""
    console.print(Text(f"row {story.id} of {story.of}", style="bold"))
    console.print(Text(f"  source:  {story.source}"))
    console.print(Text(f"  place:   {story.file}:{story.line}"))
    for entry in story.entries:
        value = f": {cut(entry.value, 300)}" if entry.value else ""
        line = f"{entry.fate} by {_with_meaning(entry.rule)}{value}"
        if entry.fate == "kept":
            line = f"kept in {entry.rule}"
        console.print(Text.assemble(f"  {entry.stage + ':':<9}", (line, FATE_STYLES[entry.fate])))
    if story.cluster is not None:
        others = f"{story.cluster_rows:,} rows alike" if story.cluster_rows > 1 else "no other row is like it"
        console.print(Text(f"  cluster: {story.cluster} ({others})"))
    if story.nearest_kept is not None:
        known = story.nearest_kept.similarity
        alike = "in the same cluster" if known is None else f"similarity {known:.3f}"
        near = story.nearest_kept
        console.print(Text(f"  nearest: {near.id} at {near.file}:{near.line}, which is kept ({alike})"))
        console.print(Text(f"           {_in_one_line(near.prompt)}", style="dim"))
    for other in story.contradictions:
        console.print(Text(f"  differs: {other.id} at {other.file}:{other.line}, which asks the same"))
        console.print(Text(f"           and answers {_in_one_line(other.answer)}", style="dim"))
    console.print()
    if story.text:
        console.print(Text("set aside:", style="bold"))
        console.print(Text("    " + cut(story.text, SHOWN_CHARS)))
    elif story.messages:
        console.print(Text(f"as it left {story.stage}:", style="bold"))
        print_turns(console, story.messages)
    console.print(Text(f"\n{story.sentence}", style="bold"))


def _in_one_line(text: str) -> str:
    return cut(" ".join(text.split()), 300)


def _with_meaning(rule: str) -> str:
    told = meaning(rule)
    return f"{rule} ({told})" if told else rule


def diff_command(start: Path, run_a: str, run_b: str, *, as_json: bool) -> None:
    """Compare the data of two runs."""
    root = repository_root(start)
    outputs = [run_outputs(root, ended_run(root, run)) for run in (run_a, run_b)]
    found = compare(*outputs)
    if as_json:
        print(dump_json(found), end="")
    else:
        print_diff(Console(soft_wrap=True), found)


def print_diff(console: Console, found: DataDiff) -> None:
    """What differs, from the rows that came in to the parameters that may be why."""
    console.print(Text(f"A: {found.a}, {found.rows_a:,} rows\nB: {found.b}, {found.rows_b:,} rows", style="bold"))
    for note in found.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    counts = [count for count in found.counts if count.a != count.b]
    if counts:
        rows = [(c.stage, c.fate, c.rule, f"{c.a:,}", f"{c.b:,}", f"{c.b - c.a:+,}") for c in counts]
        _print_table("counts that differ", ("stage", "fate", "rule", "A", "B", "B - A"), rows)
    _print_moves("rows that only B has", found.added)
    _print_moves("rows that only A has", found.removed)
    _print_moves("rows whose fate differs", found.moved)
    changed = [(c.rule, c.only_in, f"{c.rows:,}", " ".join(c.ids)) for c in found.changed]
    _print_table("rows that a rule changed in one run only", ("rule", "only in", "rows", "ids"), changed)
    params = [(p.name, "–" if p.a is None else p.a, "–" if p.b is None else p.b) for p in found.params]
    _print_table("parameters that differ", ("parameter", "A", "B"), params)
    items = [
        (i.benchmark, f"{i.a:,}", f"{i.b:,}", f"{i.seen_a:,}", f"{i.seen_b:,}")
        for i in found.benchmark_items
        if (i.a, i.seen_a) != (i.b, i.seen_b)
    ]
    _print_table("benchmark items that differ", ("benchmark", "A", "B", "seen by base in A", "in B"), items)
    if not (counts or found.added or found.removed or found.moved or found.changed):
        console.print("every row has the same fate in both" + (", as far as compared" if found.notes else ""))


def _print_moves(title: str, found: Sequence[FateMove]) -> None:
    rows = [
        (f"{move.a or 'not there'} → {move.b or 'not there'}", f"{move.rows:,}", " ".join(move.ids))
        for move in found[:SHOWN_MOVES]
    ]
    if len(found) > SHOWN_MOVES:
        rows.append((f"and {len(found) - SHOWN_MOVES} more pairs of fates", "", "`--json` has all"))
    _print_table(f"{title}: {sum(move.rows for move in found):,}", ("fate in A → in B", "rows", "ids"), rows)


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", box=None)
    for name in columns:
        table.add_column(name, overflow="fold", justify="right" if name in {"A", "B", "B - A", "rows"} else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    wide_console().print(table)
