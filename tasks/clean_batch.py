"""Cleaning of a batch of rows: the changes, then the drop rules; the entry point for checks and workers."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.clean_changes import apply_changes
from tasks.clean_rules import Reason, judge
from tasks.clean_tools import CleaningTools, build_tools
from tasks.records import Example, LedgerEntry, QuarantinedRow
from tasks.summaries import ledger_entry

__all__ = ["Cleaned", "CleaningTools", "build_tools", "clean_batch"]


@dataclass(frozen=True)
class Cleaned:
    """The rows that stay, an entry for every change and every drop, and the dropped rows as they were."""

    kept: list[Example]
    entries: list[LedgerEntry]
    quarantined: list[QuarantinedRow]


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
