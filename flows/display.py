"""What a person sees of a run: one tidy table in a terminal, plain lines in a pipe."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

SIGNS = {"executed": "done", "restored": "restored", "unchanged": "unchanged", "refused": "refused"}
STYLES = {"executed": "green", "restored": "cyan", "unchanged": "dim", "refused": "yellow", "failed": "red"}


class Display(Protocol):
    """Where a run reports to."""

    def started(self, stage: str) -> None:
        """A stage begins."""

    def line(self, stage: str, text: str) -> None:
        """A stage said something."""

    def ended(self, stage: str, outcome: str, seconds: float) -> None:
        """A stage ended."""

    def note(self, text: str) -> None:
        """The run said something."""


class PlainDisplay:
    """Every event as a line of its own, for pipes and logs."""

    def started(self, stage: str) -> None:
        """Print that a stage begins."""
        self.note(f"[{stage}] started")

    def line(self, stage: str, text: str) -> None:
        """Print a stage's line with its name in front."""
        self.note(f"[{stage}] {text}")

    def ended(self, stage: str, outcome: str, seconds: float) -> None:
        """Print how a stage ended."""
        self.note(f"[{stage}] {SIGNS.get(outcome, outcome)} in {seconds:.1f} s")

    def note(self, text: str) -> None:
        """Print a line at once."""
        print(text, flush=True)


@dataclass
class _Row:
    stage: str
    began: float = field(default_factory=time.monotonic)
    outcome: str = ""
    seconds: float = 0.0
    last: str = ""


class LiveDisplay:
    """A table that is redrawn in place: stage, outcome, seconds, the last line."""

    def __init__(self, console: Console) -> None:
        self.rows: dict[str, _Row] = {}
        self.live = Live(console=console, refresh_per_second=4, get_renderable=self._table)

    def started(self, stage: str) -> None:
        """Add a row."""
        self.rows[stage] = _Row(stage)

    def line(self, stage: str, text: str) -> None:
        """Show the last line of a stage."""
        if stage in self.rows:
            self.rows[stage].last = text

    def ended(self, stage: str, outcome: str, seconds: float) -> None:
        """Settle a row."""
        if stage in self.rows:
            self.rows[stage].outcome, self.rows[stage].seconds = outcome, seconds

    def note(self, text: str) -> None:
        """Print a line above the table."""
        self.live.console.print(Text(text))

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, show_header=False, expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim", ratio=1)  # gives way alone
        for row in self.rows.values():
            seconds = row.seconds if row.outcome else time.monotonic() - row.began
            state = (
                Text(SIGNS.get(row.outcome, row.outcome), style=STYLES.get(row.outcome, "red"))
                if row.outcome
                else Spinner("dots", text="running")
            )
            table.add_row(row.stage, state, f"{seconds:.0f} s", Text(row.last))
        return Group(table)


_current: list[Display] = [PlainDisplay()]


def current() -> Display:
    """The display of the run in progress."""
    return _current[-1]


@contextmanager
def shown() -> Iterator[Display]:
    """Use the display that fits standard output."""
    if not sys.stdout.isatty():
        with _using(PlainDisplay()) as plain:
            yield plain
        return
    tidy = LiveDisplay(Console())
    with tidy.live, _using(tidy):
        yield tidy


@contextmanager
def _using(display: Display) -> Iterator[Display]:
    _current.append(display)
    try:
        yield display
    finally:
        _current.pop()
