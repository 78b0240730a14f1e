"""What `tunegate audit show`, `diff`, `lineage` and `export` print and write."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.audit_export import SUMS, export_run
from flows.commands import ended_run, print_end
from flows.git import repository_root
from flows.lineage import lineage, mermaid
from flows.record import read_run
from flows.release_section import release_params
from flows.releases import find_release
from flows.run_diff import RunDiff, ScoreDifference, diff_runs
from flows.run_record import RunRecord, ScoreLine
from flows.tables import wide_console
from flows.wording import first_line, points, share
from tasks.files import dump_json, write_text

SHOWN_FILES = 20


def show_command(start: Path, wanted: str | None, *, as_json: bool) -> None:
    """One run's record, for people or as JSON."""
    root = repository_root(start)
    record = read_run(root, ended_run(root, wanted))
    if as_json:
        print(dump_json(record), end="")
        return
    console = Console(soft_wrap=True)
    print_end(record, root)
    facts = {
        "started": record.started_at,
        "finished": record.finished_at,
        "trigger": record.trigger,
        "commit": record.base_commit + (f" with changes to {', '.join(record.changed_files)}" if record.dirty else ""),
        "branch": record.branch,
        "params": record.params_digest,
        "dvc.lock": record.dvc_lock_digest,
        "hardware": ", ".join(f"{key} {value}" for key, value in record.hardware.items()),
        "packages": ", ".join(f"{key} {value}" for key, value in record.packages.items()),
    }
    if record.variant is not None:
        facts = {"variant": record.variant, **facts}
    for name, value in facts.items():
        console.print(Text(f"{name + ':':<10}{value}"))
    for title, table in (("scores", _score_table(record)), ("stages", _stage_table(record))):
        if table.row_count:
            console.print(Text(f"\n{title}", style="bold"))
            wide_console().print(table)
    for name, approval in record.approvals.items():
        console.print(
            Text(f"approval of {name}: {approval.decision} by {approval.approved_by}, digest {approval.digest}")
        )


def _score_table(record: RunRecord) -> Table:
    table = Table(box=None)
    for name in ("benchmark", "metric", "model", "value", "interval", "items"):
        table.add_column(name)
    for line in record.scores:
        interval = f"{line.low:.3f} to {line.high:.3f}" if line.low is not None and line.high is not None else ""
        table.add_row(line.benchmark, line.metric, line.model, f"{line.value:.3f}", interval, str(line.samples))
    return table


def _stage_table(record: RunRecord) -> Table:
    table = Table(box=None)
    for name in ("stage", "outcome", "seconds", "output", "digest"):
        table.add_column(name, no_wrap=name == "digest", overflow="fold")
    for stage in record.stages:
        is_told = bool(stage.message) and record.reason.endswith(stage.message)  # above the table, whole
        outputs = list(stage.output_digests.items()) or [(first_line(stage.message) if is_told else stage.message, "")]
        for index, (path, digest) in enumerate(outputs):
            first = (stage.name, stage.outcome, f"{stage.seconds:.1f}") if index == 0 else ("", "", "")
            table.add_row(*first, path, digest[:16])
    return table


def lineage_command(start: Path, wanted: str, output: Path | None, *, as_json: bool) -> None:
    """Draw the way of a release, to standard output or to a file."""
    root = repository_root(start)
    found = lineage(root, find_release(root, release_params(root).name, wanted))
    text = dump_json(found) if as_json else mermaid(found)
    if output is None:
        print(text, end="")
        return
    write_text(output, text)
    Console(soft_wrap=True).print(Text(str(output)))


def export_command(start: Path, wanted: str, output: Path | None) -> None:
    """Write a run's zip, and say by what its list of sums is known."""
    root = repository_root(start)
    record = read_run(root, ended_run(root, wanted))
    place = output or start / f"run-{record.run_id}.zip"
    digest = export_run(root, record, place)
    console = Console(soft_wrap=True)
    console.print(Text(str(place)))
    console.print(Text(f"sha256 of its {SUMS}, to be told by another way than the zip: {digest}"))


def diff_command(start: Path, run_a: str, run_b: str, *, as_json: bool) -> None:
    """Compare two runs."""
    root = repository_root(start)
    a, b = (read_run(root, ended_run(root, run)) for run in (run_a, run_b))
    found = diff_runs(root, a, b)
    if as_json:
        print(dump_json(found), end="")
    else:
        print_diff(found)


def print_diff(found: RunDiff) -> None:
    """A table for each kind of facts that differs; of the others a line."""
    console = Console(soft_wrap=True)
    console.print(Text(f"A: run {found.a}\nB: run {found.b}", style="bold"))
    for note in found.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    for section in found.sections:
        if not section.differences:
            console.print(Text(f"\n{section.name}: all {len(section.same):,} are the same"))
            continue
        same = f"; {len(section.same):,} are the same" if section.same else ""
        console.print(Text(f"\n{section.name}: {len(section.differences):,} differ{same}", style="bold"))
        _print_rows((section.name, "A", "B"), [(row.name, _short(row.a), _short(row.b)) for row in section.differences])
    if found.files:
        console.print(Text(f"\nfiles of the repository that differ: {len(found.files):,}", style="bold"))
        for name in found.files[:SHOWN_FILES]:
            console.print(Text(f"  {name}"))
        if len(found.files) > SHOWN_FILES:
            console.print(f"  and {len(found.files) - SHOWN_FILES:,} more; `--json` has all")
    if found.scores:
        console.print(Text("\nscores", style="bold"))
        heads = ("benchmark", "metric", "model", "A", "B", "B - A", "intervals")
        _print_rows(heads, [_score_row(score) for score in found.scores])


def _score_row(score: ScoreDifference) -> tuple[str, ...]:
    meet = {None: "", True: "overlap", False: "apart"}[score.intervals_meet]
    change = "" if score.change is None else "same" if score.change == 0 else points(score.change)
    return (score.benchmark, score.metric, score.model, _scored(score.a), _scored(score.b), change, meet)


def _scored(line: ScoreLine | None) -> str:
    if line is None:
        return "–"
    interval = f" ({share(line.low)} to {share(line.high)})" if line.low is not None and line.high is not None else ""
    return f"{share(line.value)}{interval}"


def _short(text: str | None) -> str:
    """A value for a table: of a digest the beginning."""
    if text is None:
        return "–"
    return text[:12] if len(text) in {40, 64} and not text.strip("0123456789abcdef") else text


def _print_rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    wide_console().print(table)
