"""The way of the rows through the data stages, as bars: how many came in, which rule dropped them, where they went."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.records import DataSummary

MAX_DROPS = 18
_ORDER = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class FlowBar:
    """One bar of the ledger's picture: rows from `start` to `end`, of one kind."""

    label: str
    start: int
    end: int
    kind: Literal["total", "drop", "kept"]


def ledger_bars(summaries: Sequence[DataSummary]) -> list[FlowBar]:
    """The way of the rows as bars: all rows in, each rule's drop (largest first, small ones joined), each partition."""
    if not summaries:
        return []
    bars = [FlowBar("rows in", 0, summaries[0].rows_in, "total")]
    left = summaries[0].rows_in
    for summary, drops in zip(summaries, _shortened(summaries), strict=True):
        for rule, count in drops:
            bars.append(FlowBar(f"{summary.stage} · {rule}", left - count, left, "drop"))
            left -= count
    start = 0
    for name, count in sorted(summaries[-1].kept.items(), key=lambda pair: (_ORDER.get(pair[0], 9), pair[0])):
        bars.append(FlowBar(name, start, start + count, "kept"))
        start += count
    return bars


def _shortened(summaries: Sequence[DataSummary]) -> list[list[tuple[str, int]]]:
    everything = sorted((count for summary in summaries for count in summary.dropped.values() if count), reverse=True)
    least = everything[MAX_DROPS - 1] if len(everything) > MAX_DROPS else 1
    shortened = []
    for summary in summaries:
        drops = sorted(summary.dropped.items(), key=lambda pair: (-pair[1], pair[0]))
        small = [count for _rule, count in drops if 0 < count < least]
        rest = [(f"{len(small)} smaller rules", sum(small))] if small else []
        shortened.append([(rule, count) for rule, count in drops if count >= least] + rest)
    return shortened
