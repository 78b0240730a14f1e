"""Stage `dedup`: data/clean/examples.parquet -> data/dedup/.

Writes examples, clusters, pairs, conflicts and ledger.parquet, and summary.json. Rows are compared by their user turns,
without system prompts and text that they share (`dedup_keys`). Exact duplicates go first; near ones are found by
MinHash LSH (`lsh`) and verified by exact Jaccard similarity (`duplicates`). Of a cluster the longest prompt stays,
among those the smallest id. What stays never depends on the order of rows.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks import paths
from tasks.dedup_keys import Integers, Keys, Shared, read_keys
from tasks.duplicates import Duplicates, Link, find_duplicates
from tasks.entry import run_stage
from tasks.files import write_json
from tasks.near_duplicates import ngrams
from tasks.params import load_params
from tasks.params_data import DedupParams
from tasks.records import ClusterMember, Conflict, DataSummary, Example, LedgerEntry, Pair
from tasks.summaries import print_summary
from tasks.tables import SCHEMAS, count_groups, read_group_table, writing

ALARM_ROWS = 10
"""No cluster of so few rows raises an alarm, nor does the removal of so few."""
COMPARED_MEMBERS = 20
QUOTED_CHARS = 100
NAMED_CONFLICTS = 3


def main() -> None:
    """Drop exact and near duplicates."""
    params = load_params()
    source = paths.CLEAN / paths.EXAMPLES
    keys, shared = read_keys(source, params.dedup, params.engine)
    found = find_duplicates(keys, params.dedup, params.engine)
    write_kept(source, paths.DEDUP / paths.EXAMPLES, found.fates)
    write_columns(paths.DEDUP / paths.CLUSTERS, cluster_table(keys, found.cluster), ClusterMember)
    write_columns(paths.DEDUP / paths.PAIRS, pair_table(keys, found.pairs), Pair)
    write_columns(paths.DEDUP / paths.CONFLICTS, conflict_table(keys, found.conflicts), Conflict)
    write_columns(paths.DEDUP / paths.LEDGER, ledger_table(keys, found.fates), LedgerEntry)
    summary = build_summary(keys, shared, found, params.dedup)
    write_json(paths.DEDUP / paths.SUMMARY, summary)
    print_summary(summary)


def write_kept(source: Path, target: Path, dropped: Mapping[int, object]) -> None:
    """Copy the rows that were not dropped, row group by row group."""
    start = 0
    with writing(target, Example) as writer:
        for group in range(count_groups(source, Example)):
            table = read_group_table(source, group)
            stays = [row not in dropped for row in range(start, start + table.num_rows)]
            writer.write_table(table.filter(pa.array(stays)))
            start += table.num_rows


def write_columns(path: Path, table: Any, kind: type[Any]) -> None:
    """Write a table whose columns are those of `kind`."""
    with writing(path, kind) as writer:
        writer.write_table(table.cast(SCHEMAS[kind]))


def cluster_table(keys: Keys, cluster: Integers) -> Any:
    """Every row, by id, with its cluster and the row of it that comes first in the input."""
    anchor = np.full(len(keys), len(keys), np.int64)
    np.minimum.at(anchor, cluster, np.arange(len(keys)))
    rows = np.argsort(keys.rank)
    ids = keys.table["id"].combine_chunks()
    columns = (rows, cluster[rows], anchor[cluster[rows]])
    return pa.table([ids.take(pa.array(column)) for column in columns], names=SCHEMAS[ClusterMember].names)


def pair_table(keys: Keys, links: list[Link]) -> Any:
    """Verified pairs of near duplicates."""
    ids = keys.table["id"].combine_chunks()
    left, right = (pa.array([link[side] for link in links], pa.int64()) for side in (0, 1))
    similarity = pa.array([link[2] for link in links], pa.float64())
    return pa.table([ids.take(left), ids.take(right), similarity], names=SCHEMAS[Pair].names)


def conflict_table(keys: Keys, links: list[Link]) -> Any:
    """Rows that ask the same and have different short answers."""
    answers = (keys.answer.take(pa.array([link[side] for link in links], pa.int64())) for side in (0, 1))
    columns = [*pair_table(keys, links).columns, *answers]
    return pa.table(columns, names=SCHEMAS[Conflict].names)


def ledger_table(keys: Keys, fates: Mapping[int, tuple[str, str]]) -> Any:
    """An entry for every dropped row, by id."""
    rows = sorted(fates, key=keys.rank.__getitem__)
    places = keys.table.select(["id", "source", "file", "line"]).take(pa.array(rows, pa.int64()))
    texts = [
        ["dedup"] * len(rows),
        ["dropped"] * len(rows),
        [fates[row][0] for row in rows],
        [fates[row][1] for row in rows],
    ]
    columns = [*places.columns, *(pa.array(text, pa.string()) for text in texts)]
    return pa.table(columns, names=SCHEMAS[LedgerEntry].names)


def build_summary(keys: Keys, shared: Mapping[str, Shared], found: Duplicates, params: DedupParams) -> DataSummary:
    """The counts; notes on text that was left out, on labels that look wrong, and alarms."""
    dropped = np.zeros(len(keys), bool)
    dropped[list(found.fates)] = True
    sources = keys.table["source"].filter(pa.array(~dropped)).to_pylist()
    notes = (*template_notes(shared), *conflict_notes(keys, found.conflicts), *alarms(keys, found, params))
    return DataSummary(
        stage="dedup",
        rows_in=len(keys),
        rows_out=len(sources),
        dropped=dict(Counter(rule for rule, _ in found.fates.values())),
        changed={},
        kept=dict(Counter(sources)),
        notes=notes,
    )


def template_notes(shared: Mapping[str, Shared]) -> list[str]:
    """What was left out of the comparison because rows of a source share it."""
    notes = []
    for source, grams in shared.items():
        gram = max(grams, key=lambda gram: (grams[gram], gram))
        notes.append(f"{source}: text that many rows share, such as {_quoted(' '.join(gram))}, is not compared")
    return notes


def conflict_notes(keys: Keys, conflicts: list[Link]) -> list[str]:
    """How many rows ask the same and have different short answers, with three examples."""
    if not conflicts:
        return []
    rows = [row for left, right, _ in conflicts for row in (left, right)]
    sources = Counter(keys.table["source"].take(pa.array(sorted(set(rows)))).to_pylist())
    named = [keys.ids([left, right]) for left, right, _ in conflicts[:NAMED_CONFLICTS]]
    many = "" if len(conflicts) == 1 else "s"
    note = (
        f"label noise: {len(conflicts):,} pair{many} of like prompts with different short answers "
        f"({', '.join(f'{source} {count:,} rows' for source, count in sorted(sources.items()))}), "
        f"such as {', '.join(f'{left} / {right}' for left, right in named)}; "
        "`tunegate data why` tells of each"
    )
    return [note]


def alarms(keys: Keys, found: Duplicates, params: DedupParams) -> list[str]:
    """A cluster, or a removal, so large that shared template text is the likelier reason; with the text shared."""
    if not len(keys):
        return []
    sizes = np.bincount(found.cluster, minlength=len(keys))
    largest = min(np.flatnonzero(sizes == sizes.max()).tolist(), key=keys.rank.__getitem__)
    size, removed = int(sizes[largest]), len(found.fates)
    shared = _quoted(_shared_text(keys, np.flatnonzero(found.cluster == largest), params.ngram_words))
    notes = []
    if size > max(ALARM_ROWS, params.max_cluster_share * len(keys)):
        notes.append(
            f"alarm: cluster {keys.ids([largest])[0]} has {size} of {len(keys)} rows, which share {shared}; "
            "text that rows share (a template, an option list) makes rows look alike: move it to the system turn"
        )
    if removed > max(ALARM_ROWS, params.max_removed_share * len(keys)):
        notes.append(
            f"alarm: {removed / len(keys):.1%} of the rows were removed, over {params.max_removed_share:.1%}; "
            f"the largest cluster shares {shared}"
        )
    return notes


def _shared_text(keys: Keys, rows: Integers, size: int) -> str:
    """The words of a cluster's first row that stand in n-grams of the next few as well; all of them if none do."""
    texts = [
        keys.texts(row)[-1]
        for row in sorted(rows.tolist(), key=keys.rank.__getitem__)[:COMPARED_MEMBERS]
        if keys.key[row].is_valid
    ]
    common = frozenset.intersection(*(ngrams(text, size) for text in texts)) if texts else frozenset()
    words = {word for gram in common for word in gram}
    first = texts[0] if texts else ""
    return " ".join(word for word in first.split() if word in words) or first


def _quoted(text: str) -> str:
    return repr(text if len(text) <= QUOTED_CHARS else text[: QUOTED_CHARS - 1] + "…")


if __name__ == "__main__":
    run_stage(main)
