"""What `tunegate audit list` prints; it imports little, since a thousand runs are to be listed in a second."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows.git import repository_root
from flows.run_branches import read_runs
from flows.run_filter import RunFilter
from flows.run_record import RunRecord
from flows.tables import STYLES
from flows.wording import headline
from flows.workspace import running_id

COLUMNS = ("run", "variant", "status", "commit", "scores", "release", "reason")


def list_command(start: Path, wanted: RunFilter, *, as_json: bool) -> None:
    """A line for each run that is asked for."""
    root = repository_root(start)
    runs, running = read_runs(root), running_id(root)
    found = [record for record in runs if wanted.accepts(record)]
    if as_json:
        print(json.dumps([listed(record, running) for record in found], indent=2, ensure_ascii=False))
    elif not runs:
        Console().print("no run is on record yet; `tunegate run` makes one")
    elif not found:
        Console().print(f"none of the {len(runs):,} runs on record is like that")
    else:
        _print_runs(found, running)


def listed(record: RunRecord, running: str | None) -> dict[str, object]:
    """What a list says of a run, for machines."""
    return {
        "run_id": record.run_id,
        "status": "running" if record.run_id == running else record.status,
        "variant": record.variant,
        "verdict": record.verdict.verdict if record.verdict else None,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "base_commit": record.base_commit,
        "dirty": record.dirty,
        "scores": [line.model_dump(mode="json") for line in record.scores],
        "release": record.release.tag if record.release else None,
        "reason": record.reason,
    }


def _print_runs(runs: Sequence[RunRecord], running: str | None) -> None:
    """A line for each run, cut to the width of a terminal; rich's tables take half a second for a thousand rows."""
    console = Console()
    rows = [COLUMNS, *(_row(record, running) for record in runs)]
    if not any(record.variant for record in runs):
        rows = [(row[0], *row[2:]) for row in rows]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    shown, status = Text(), rows[0].index("status")
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()
        start = len(shown) + sum(widths[:status]) + 2 * status
        shown.append(line[: console.width] if console.is_terminal else line)
        shown.append("\n")
        word = row[status]
        shown.stylize(STYLES.get(word, "bold" if word == "status" else ""), start, start + len(word))
    console.print(shown, end="", soft_wrap=True)


def _row(record: RunRecord, running: str | None) -> tuple[str, ...]:
    is_running = record.run_id == running
    commit = record.base_commit[:7] + ("+" if record.dirty else "")
    release = record.release.tag if record.release else ""
    reason = "" if is_running or record.status == "passed" else " ".join(headline(record.reason).split())
    status = "running" if is_running else record.status
    scores = ", ".join(f"{line.benchmark} {line.value:.3f}" for line in record.judged_scores)
    return (record.run_id, record.variant or "", status, commit, scores, release, reason)
