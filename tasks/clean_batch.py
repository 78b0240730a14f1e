"""Cleaning of a batch of rows: the changes, then the drop rules; the entry point for stages, checks and workers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.clean_changes import apply_changes
from tasks.clean_rules import Reason, judge
from tasks.clean_tools import CleaningTools, build_tools
from tasks.params import CleanParams
from tasks.records import Example, LedgerEntry, QuarantinedRow
from tasks.summaries import Tally, ledger_entry
from tasks.tables import read_group, to_table

__all__ = ["Cleaned", "CleanedGroup", "CleaningTools", "build_tools", "clean_batch", "clean_group", "start"]

_tools: list[CleaningTools] = []
"""What this worker cleans with: built once by `start`, since building takes seconds."""


@dataclass(frozen=True)
class Cleaned:
    """The rows that stay, an entry for every change and every drop, and the dropped rows as they were."""

    kept: list[Example]
    entries: list[LedgerEntry]
    quarantined: list[QuarantinedRow]


@dataclass(frozen=True)
class CleanedGroup:
    """A cleaned row group on its way back from a worker: three pyarrow tables, which travel cheaply, and the counts."""

    rows: int
    examples: Any
    ledger: Any
    quarantine: Any
    tally: Tally
    kept: Counter[str]


def start(params: CleanParams, tokenizer: Path) -> None:
    """Build what a worker cleans with."""
    _tools[:] = [build_tools(params, tokenizer)]


def clean_group(source: Path, group: int) -> CleanedGroup:
    """Clean one row group of the table `source` with what `start` built.

    Raises:
        FileInvalid: the group cannot be read.
    """
    examples = read_group(source, group, Example)
    cleaned = clean_batch(examples, _tools[0])
    tally = Tally()
    tally.add(cleaned.entries)
    return CleanedGroup(
        rows=len(examples),
        examples=to_table(cleaned.kept, Example),
        ledger=to_table(cleaned.entries, LedgerEntry),
        quarantine=to_table(cleaned.quarantined, QuarantinedRow),
        tally=tally,
        kept=Counter(example.source for example in cleaned.kept),
    )


def clean_batch(examples: Sequence[Example], tools: CleaningTools) -> Cleaned:
    """Change every row where a rule says so, then drop those that break one."""
    cleaned = Cleaned([], [], [])
    changed = [apply_changes(example, tools) for example in examples]
    judged = judge([after for after, _ in changed], tools)
    for example, (after, changes), found in zip(examples, changed, judged, strict=True):
        cleaned.entries.extend(changes)
        if not isinstance(found, Reason):
            cleaned.kept.append(after.model_copy(update={"tokens": found}))
            continue
        entry = ledger_entry(example, "clean", "dropped", *found)
        cleaned.entries.append(entry)
        cleaned.quarantined.append(_quarantined(example, entry))
    return cleaned


def _quarantined(example: Example, entry: LedgerEntry) -> QuarantinedRow:
    return QuarantinedRow(
        id=entry.id,
        source=entry.source,
        file=entry.file,
        line=entry.line,
        rule=entry.rule,
        value=entry.value,
        text=example.model_dump_json(include={"messages", "tools"}),
    )
