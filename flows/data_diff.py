"""Two runs' data side by side: which rows came, went and moved, by which rule, and what in the parameters differs."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import JsonValue

from flows.outputs import Outputs
from flows.row_story import FOLDERS
from flows.row_tables import Move, changes, count_by_rule, count_final, entries_table, moves
from flows.wording import named_values
from tasks import paths
from tasks.errors import RunNotFound
from tasks.files import read_json
from tasks.records import ContaminatedItems, Record

DATA_SECTIONS = ("sources", "ingest", "clean", "dedup", "split", "validate", "base_model", "evaluate")
"""Sections of the parameters that the data stages read; the base by its tokenizer, the benchmarks by their items."""


class RuleCount(Record):
    """How many rows a rule of a stage kept, changed or dropped in each run."""

    stage: str
    fate: str
    rule: str
    a: int
    b: int


class FateMove(Record):
    """Rows whose fate differs between the runs, with some ids; "" is the fate of a row that a run does not have."""

    a: str
    b: str
    rows: int
    ids: tuple[str, ...]


class ChangeMove(Record):
    """Rows that a rule changed in one run only."""

    rule: str
    only_in: str
    rows: int
    ids: tuple[str, ...]


class ParamDifference(Record):
    """A parameter of the data stages that differs; None where a run does not have it."""

    name: str
    a: str | None
    b: str | None


class ItemCount(Record):
    """The items of a benchmark that rows were compared with in each run, and how many of them the base has seen."""

    benchmark: str
    a: int
    b: int
    seen_a: int
    seen_b: int


class DataDiff(Record):
    """What differs in the data of two runs.

    `rows_a` and `rows_b` are fates, one for each row that came in. `added` and `removed` are rows that one run's
    sources do not have; `moved` had another fate, a partition included. `notes` say what could not be compared.
    """

    a: str
    b: str
    rows_a: int
    rows_b: int
    counts: tuple[RuleCount, ...]
    added: tuple[FateMove, ...]
    removed: tuple[FateMove, ...]
    moved: tuple[FateMove, ...]
    changed: tuple[ChangeMove, ...]
    params: tuple[ParamDifference, ...]
    benchmark_items: tuple[ItemCount, ...]
    notes: tuple[str, ...]


def compare(a: Outputs, b: Outputs) -> DataDiff:
    """Compare the data of two runs.

    Raises:
        FileInvalid: a run's ledgers are gone from the cache, or damaged.
        RunNotFound: a run has no rows.
    """
    stages = _common_stages(a, b)
    before, after = _entries(a, stages), _entries(b, stages)
    found = moves(before, after)
    return DataDiff(
        a=a.name,
        b=b.name,
        rows_a=count_final(before)[0],
        rows_b=count_final(after)[0],
        counts=tuple(_counts(before, after)),
        added=tuple(_fate_moves(move for move in found if not move[0])),
        removed=tuple(_fate_moves(move for move in found if not move[1])),
        moved=tuple(_fate_moves(move for move in found if move[0] and move[1])),
        changed=tuple(
            ChangeMove(rule=rule, only_in=a.name if side == "a" else b.name, rows=rows, ids=tuple(ids))
            for rule, side, rows, ids in changes(before, after)
        ),
        params=tuple(_params(a, b)),
        benchmark_items=tuple(_items(a, b)) if "split" in stages else (),
        notes=tuple(note for outputs in (a, b) for note in _notes(outputs, stages)),
    )


def _common_stages(a: Outputs, b: Outputs) -> list[str]:
    """The data stages that ended in both runs: what only one has would make its rows look like rows that came or went.

    Raises:
        RunNotFound: there is none.
    """
    for outputs in (a, b):
        if outputs.path(paths.INGEST / paths.LEDGER) is None:
            raise RunNotFound(f"{outputs.name} has no rows to compare: its stage ingest did not end; name another run")
    return list(itertools.takewhile(lambda stage: all(_has(outputs, stage) for outputs in (a, b)), FOLDERS))


def _has(outputs: Outputs, stage: str) -> bool:
    return outputs.path(FOLDERS[stage] / paths.LEDGER) is not None


def _entries(outputs: Outputs, stages: Sequence[str]) -> Any:
    found = [outputs.path(FOLDERS[stage] / paths.LEDGER) for stage in stages]
    examples = None if len(stages) == len(FOLDERS) else outputs.path(FOLDERS[stages[-1]] / paths.EXAMPLES)
    handed_on = None if examples is None else (stages[-1], examples)
    return entries_table([path for path in found if path is not None], handed_on)


def _counts(before: Any, after: Any) -> Iterator[RuleCount]:
    one, other = count_by_rule(before), count_by_rule(after)
    order = {stage: place for place, stage in enumerate(FOLDERS)}
    for key in sorted({*one, *other}, key=lambda key: (order.get(key[0], len(order)), key)):
        yield RuleCount(stage=key[0], fate=key[1], rule=key[2], a=one.get(key, 0), b=other.get(key, 0))


def _fate_moves(found: Iterator[Move]) -> Iterator[FateMove]:
    return (FateMove(a=one, b=other, rows=rows, ids=tuple(ids)) for one, other, rows, ids in found)


def _params(a: Outputs, b: Outputs) -> Iterator[ParamDifference]:
    one, other = _values(a), _values(b)
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            yield ParamDifference(name=name, a=one.get(name), b=other.get(name))


def _values(outputs: Outputs) -> dict[str, str]:
    params: dict[str, JsonValue] = outputs.record.params if outputs.record is not None else {}
    return named_values({name: params[name] for name in DATA_SECTIONS if name in params})


def _items(a: Outputs, b: Outputs) -> Iterator[ItemCount]:
    one, other = _contaminated(a), _contaminated(b)
    counts = [items.checked for items in (one, other)]
    for benchmark in sorted({*counts[0], *counts[1]}):
        yield ItemCount(
            benchmark=benchmark,
            a=counts[0].get(benchmark, 0),
            b=counts[1].get(benchmark, 0),
            seen_a=len(one.seen_by_base.get(benchmark, ())),
            seen_b=len(other.seen_by_base.get(benchmark, ())),
        )


def _contaminated(outputs: Outputs) -> ContaminatedItems:
    path = outputs.path(paths.CONTAMINATED_ITEMS)
    return ContaminatedItems(checked={}, seen_by_base={}) if path is None else read_json(path, ContaminatedItems)


def _notes(outputs: Outputs, stages: Sequence[str]) -> Iterator[str]:
    """What a run cannot be asked about, because a stage did not end in it or it is older than the question."""
    if missing := [stage for stage in FOLDERS if not _has(outputs, stage)]:
        yield f"{outputs.name} has no ledger of {', '.join(missing)}: compared as far as {stages[-1]} only"
    elif outputs.path(paths.CONTAMINATED_ITEMS) is None:
        yield f"{outputs.name} is older than the record of the items that the base has seen"
