"""Which rows of a table hold items of benchmarks: row group by row group, over all cores or a cluster.

Not a part of the stage's own module: what a cluster's workers run must be importable under its name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.decontamination import ItemIndex
from tasks.params_data import EngineParams, SplitParams
from tasks.records import BenchmarkItem, Example
from tasks.tables import count_groups, count_rows, read_group_table
from tasks.workers import map_batches, with_progress

Place = tuple[str, int]


@dataclass(frozen=True)
class Compared:
    """What rows share with benchmarks: the first item and the reason by row, and every item that the base has seen."""

    hits: Mapping[int, tuple[Place, str]]
    seen_by_base: frozenset[Place]


@dataclass(frozen=True)
class _GroupHits:
    rows: int
    hits: dict[int, tuple[int, str]]
    seen: set[int]


def compare(path: Path, items: Iterable[BenchmarkItem], params: SplitParams, engine: EngineParams) -> Compared:
    """Compare every example of the table `path` with the items of the benchmarks, group by group, over all cores."""
    index = ItemIndex(items, params.decontaminate_ngram_words, params.decontaminate_min_jaccard)
    groups = range(count_groups(path, Example))
    results = map_batches(compare_group, groups, engine, start_comparing, (index, path.resolve()))
    hits: dict[int, tuple[Place, str]] = {}
    seen: set[Place] = set()
    first = 0
    for found in with_progress(
        results, f"compare {path.name} with the benchmarks", count_rows(path), lambda group: group.rows
    ):
        hits |= {first + row: (index.places[item], reason) for row, (item, reason) in found.hits.items()}
        seen |= {index.places[item] for item in found.seen}
        first += found.rows
    return Compared(hits, frozenset(seen))


_worker: dict[str, Any] = {}


def start_comparing(index: ItemIndex, path: Path) -> None:
    """Hand a worker the items and the table of rows."""
    _worker.update(index=index, path=path)


def compare_group(group: int) -> _GroupHits:
    """The items that the rows of one row group hold; every turn is looked at but the system's."""
    table = read_group_table(_worker["path"], group, ["role", "messages"])
    roles = table["role"].to_pylist()
    texts: list[str] = []
    row_of: list[int] = []
    for row, messages in enumerate(table["messages"].to_pylist()):
        for message in messages:
            if message["role"] != "system":
                texts += [text for text in (message["content"], message["tool_calls"]) if text]
        row_of += [row] * (len(texts) - len(row_of))
    hits: dict[int, tuple[int, str]] = {}
    seen: set[int] = set()
    for match in sorted(_worker["index"].matches(texts), key=lambda match: (match.kind, match.place)):
        row = row_of[match.text]
        hits.setdefault(row, (match.place, match.reason))
        if roles[row] == "seen_by_base":
            seen.add(match.place)
    return _GroupHits(len(roles), hits, seen)
