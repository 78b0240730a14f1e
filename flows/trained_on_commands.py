"""What `tunegate audit trained-on` prints."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.git import repository_root
from flows.rules import meaning
from flows.tables import wide_console
from flows.trained_on import Sighting, TrainedOn, trained_on
from tasks.errors import EXIT_INCONCLUSIVE
from tasks.files import dump_json

TRAINED_STYLE = "bold yellow"


def trained_on_command(start: Path, asked: str, *, is_text: bool, fetch: bool, as_json: bool) -> int:
    """Say which runs and releases saw a row; returns 0, or 4 where some runs could not be asked."""
    root = repository_root(start)
    found = trained_on(root, asked, is_text=is_text, fetch=fetch)
    if as_json:
        print(dump_json(found), end="")
    else:
        print_trained_on(found)
    return EXIT_INCONCLUSIVE if found.unread else 0


def print_trained_on(found: TrainedOn) -> None:
    """A line for each row and run, then who trained on it, then who could not be asked."""
    console = Console(soft_wrap=True)
    if found.sightings:
        table = Table(box=None)
        for name in ("row", "run", "started", "status", "fate", "release"):
            table.add_column(name, overflow="fold")
        for sighting in found.sightings:
            style = TRAINED_STYLE if sighting.trained else ""
            started = sighting.started_at[:10]
            cells = (
                sighting.row_id,
                sighting.run_id,
                started,
                sighting.status,
                _fate(sighting),
                sighting.release or "",
            )
            table.add_row(*(Text(cell) for cell in cells), style=style)
        wide_console().print(table)
        console.print()
    for line in _summary(found):
        console.print(Text(line))


def _fate(sighting: Sighting) -> str:
    if sighting.fate != "kept":
        told = meaning(sighting.rule)
        return f"dropped by {sighting.stage}: {sighting.rule}{f' ({told})' if told else ''}"
    if sighting.rule != "train":
        return f"held out in {sighting.rule}"
    return "trained on" if sighting.trained else "in train, but no training came to its end"


def _summary(found: TrainedOn) -> Iterator[str]:
    asked = f"{found.runs_asked:,} run{'' if found.runs_asked == 1 else 's'}"
    if not found.sightings:
        yield f"none of the {asked} that were asked has a row with {found.asked!r}"
    elif not found.trained_runs:
        yield f"none of the {asked} that were asked trained on it"
    else:
        yield f"{len(found.trained_runs):,} of {asked} that were asked trained on it: {', '.join(found.trained_runs)}"
    if found.releases:
        yield f"releases that were trained on it: {', '.join(found.releases)}"
    elif found.trained_runs:
        yield "none of these runs is released"
    if found.without_rows:
        yield f"{len(found.without_rows):,} more ended before their rows had a fate, and trained on none"
    for unread in found.unread:
        yield f"NOT ASKED: run {unread.run_id}: {unread.reason}"
    if found.unread:
        yield "the answer is not whole; `--fetch` gets what a DVC remote has"
