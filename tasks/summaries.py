"""The counts of a data stage: made from its ledger entries, printed in a few plain lines."""

from collections import Counter
from collections.abc import Iterable, Mapping

from tasks.records import DataSummary, Example, LedgerEntry


class Tally:
    """Ledger entries on their way through a stage, counted by rule; none of them is held."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()

    def add(self, entries: Iterable[LedgerEntry]) -> None:
        """Count some more."""
        for entry in entries:
            if entry.fate == "dropped":
                self.dropped[entry.rule] += 1
            elif entry.fate == "changed":
                self.changed[entry.rule] += 1

    def summary(self, stage: str, rows_in: int, *, kept: Mapping[str, int], notes: tuple[str, ...] = ()) -> DataSummary:
        """The counts so far; `kept` is by source or partition, and its sum is the number of rows out."""
        return DataSummary(
            stage=stage,
            rows_in=rows_in,
            rows_out=sum(kept.values()),
            dropped=dict(self.dropped),
            changed=dict(self.changed),
            kept=dict(kept),
            notes=notes,
        )


def summarise(
    stage: str,
    rows_in: int,
    entries: Iterable[LedgerEntry],
    *,
    kept: Mapping[str, int],
    notes: tuple[str, ...] = (),
) -> DataSummary:
    """Count the entries by rule; `kept` is by source or partition, and its sum is the number of rows out."""
    tally = Tally()
    tally.add(entries)
    return tally.summary(stage, rows_in, kept=kept, notes=notes)


def print_summary(summary: DataSummary) -> None:
    """Print rows in, what was changed and dropped by which rule, rows out, and the notes."""
    print(f"{summary.stage}: {summary.rows_in:,} rows in")
    for verb, counts in (("changed", summary.changed), ("dropped", summary.dropped)):
        for rule, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            print(f"  {verb} {count:>7,}  {rule}")
    kept = ", ".join(f"{name} {count:,}" for name, count in summary.kept.items())
    print(f"{summary.stage}: {summary.rows_out:,} rows out ({kept})")
    for note in summary.notes:
        print(f"  note: {note}")


def ledger_entry(example: Example, stage: str, fate: str, rule: str, value: str) -> LedgerEntry:
    """What a stage did to an example."""
    return LedgerEntry.model_validate(
        {
            "id": example.id,
            "source": example.source,
            "file": example.file,
            "line": example.line,
            "stage": stage,
            "fate": fate,
            "rule": rule,
            "value": value,
        }
    )
