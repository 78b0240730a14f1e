"""Cleaning of row groups in the workers' processes.

What cleans (recognisers, a tokenizer) takes seconds to import: the workers do it, and not this module.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.params_data import CleanParams, EngineParams
from tasks.records import Example, LedgerEntry, QuarantinedRow
from tasks.summaries import Tally
from tasks.tables import count_groups, count_rows, read_group, to_table
from tasks.workers import map_batches, with_progress

if TYPE_CHECKING:
    from tasks.clean_tools import CleaningTools

IMPORTED = ("tasks.clean_batch",)
_tools: "list[CleaningTools]" = []
"""What this worker cleans with: built once by `_start`, since building takes seconds."""


@dataclass(frozen=True)
class CleanedGroup:
    """A cleaned row group on its way back from a worker: three pyarrow tables, which travel cheaply, and the counts."""

    rows: int
    examples: Any
    ledger: Any
    quarantine: Any
    tally: Tally
    kept: Counter[str]


def clean_groups(source: Path, tokenizer: Path, params: CleanParams, engine: EngineParams) -> Iterator[CleanedGroup]:
    """Clean the table `source`, row group by row group, in order.

    Raises:
        FileInvalid: `source` or `tokenizer` cannot be read.
    """
    groups = range(count_groups(source, Example))
    arguments = (params, tokenizer.absolute())
    cleaned = map_batches(partial(_clean_group, source.absolute()), groups, engine, _start, arguments, IMPORTED)
    return with_progress(cleaned, "clean", count_rows(source), lambda group: group.rows)


def _start(params: CleanParams, tokenizer: Path) -> None:
    from tasks.clean_tools import build_tools  # noqa: PLC0415  as the module says

    _tools[:] = [build_tools(params, tokenizer)]


def _clean_group(source: Path, group: int) -> CleanedGroup:
    from tasks.clean_batch import clean_batch  # noqa: PLC0415  as the module says

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
