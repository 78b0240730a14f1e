"""Stage `split`: data/dedup/{examples,clusters}.parquet, data/benchmark_items/items.parquet -> data/split/.

Writes train, validation and test.parquet, ledger.parquet, contaminated_items.json and summary.json. A cluster lies in
one partition, by the hash of the row of it that came first, so that rows that are added later move no others. Rows that
hold an item of the gate's benchmarks leave train and validation; weights say how often a row is seen; replay fills a
share of train. Rows stream by row group: once to be compared with the items, once to be written.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks import paths
from tasks.contaminated_rows import Compared, compare
from tasks.entry import run_stage
from tasks.errors import FileInvalid
from tasks.files import write_json
from tasks.params import load_params
from tasks.partitions import (
    COMPARED_ONLY,
    DUPLICATE_OF_TEST,
    FATES,
    IN_BENCHMARK,
    NOT_SAMPLED,
    TEST,
    TRAIN,
    VALIDATION,
    Decision,
    Rows,
    decide,
)
from tasks.records import BenchmarkItem, ClusterMember, ContaminatedItems, DataSummary, Example, LedgerEntry, Partition
from tasks.summaries import print_summary
from tasks.tables import LEDGER_SCHEMA, count_groups, read_group_table, read_records, read_table, writing

PARTITIONS: tuple[Partition, ...] = get_args(Partition)
FILES = {
    "train": paths.TRAIN_EXAMPLES,
    "validation": paths.VALIDATION_EXAMPLES,
    "test": paths.TEST_EXAMPLES,
}
ALARM_SHARE = 0.01
ALARM_ROWS = 10
"""One item in more rows than both is hardly an item: a phrase that everybody says, or a template's text."""


def main() -> None:
    """Write the partitions."""
    params = load_params()
    items = list(read_records(paths.BENCHMARK_ITEMS / paths.ITEMS, BenchmarkItem))
    rows = read_rows()
    weights = {source.name: source.weight for source in params.sources}
    if unknown := sorted(set(rows.sources) - set(weights)):
        raise FileInvalid(
            f"{paths.DEDUP / paths.EXAMPLES}: rows of {', '.join(unknown)}, "
            "which params.yaml sources does not name; run `dvc repro dedup`"
        )
    compared = compare(paths.DEDUP / paths.EXAMPLES, items, params.split, params.engine)
    contaminated = np.zeros(len(rows.ids), bool)
    contaminated[list(compared.hits)] = True
    decision = decide(rows, contaminated, weights, params.split)
    write_partitions(rows, decision, compared, weights)
    write_json(paths.CONTAMINATED_ITEMS, contaminated_items(items, compared))
    summary = build_summary(rows, decision, compared, params.split.replay_share)
    write_json(paths.SPLIT / paths.SUMMARY, summary)
    print_summary(summary)


def read_rows() -> Rows:
    """The columns of the examples that decide, each row with its cluster.

    Raises:
        FileInvalid: an example has no cluster.
    """
    examples = read_table(paths.DEDUP / paths.EXAMPLES, Example, ["id", "source", "role"])
    members = read_table(paths.DEDUP / paths.CLUSTERS, ClusterMember)
    at = pc.index_in(examples["id"], value_set=members["id"].combine_chunks())
    if at.null_count:
        lost = examples["id"].filter(at.is_null())[0].as_py()
        raise FileInvalid(f"{paths.DEDUP / paths.CLUSTERS}: no cluster for example {lost}; run `dvc repro dedup`")
    return Rows(
        ids=examples["id"].to_pylist(),
        sources=_shared(examples["source"]),
        roles=_shared(examples["role"]),
        clusters=members["cluster"].take(at).to_pylist(),
        anchors=members["anchor"].take(at).to_pylist(),
    )


def _shared(column: Any) -> list[str]:
    """A column of few values as Python strings, each value once in memory."""
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    return [values[index] for index in encoded.indices.to_pylist()]


def write_partitions(rows: Rows, decision: Decision, compared: Compared, weights: Mapping[str, float]) -> None:
    """Write the partitions and the ledger, group by group."""
    path = paths.DEDUP / paths.EXAMPLES
    values = _values(rows, decision, compared, weights)
    with ExitStack() as stack:
        ledger = stack.enter_context(writing(paths.SPLIT / paths.LEDGER, LedgerEntry))
        writers = [stack.enter_context(writing(FILES[partition], Example)) for partition in PARTITIONS]
        first = 0
        for group in range(count_groups(path, Example)):
            table = read_group_table(path, group)
            here = slice(first, first + table.num_rows)
            fates, repeats = decision.fates[here], decision.repeats[here]
            place = table.schema.get_field_index("repeat")
            table = table.set_column(place, table.schema.field(place), pa.array(repeats))
            for code, writer in enumerate(writers):
                writer.write_table(table.filter(pa.array(fates == code)))
            ledger.write_table(_entries(table, fates, [next(values) for _ in range(table.num_rows)]))
            first += table.num_rows


def _entries(table: Any, fates: "np.ndarray[Any, np.dtype[np.uint8]]", values: list[str]) -> Any:
    kept = pa.array(["kept" if fate <= TEST else "dropped" for fate in fates.tolist()])
    columns = {
        **{name: table[name] for name in ("id", "source", "file", "line")},
        "stage": pa.array(["split"] * table.num_rows, pa.string()),
        "fate": kept.cast(pa.string()),
        "rule": pa.array([FATES[fate] for fate in fates.tolist()], pa.string()),
        "value": pa.array(values, pa.string()),
    }
    return pa.table(columns, schema=LEDGER_SCHEMA)


def _values(rows: Rows, decision: Decision, compared: Compared, weights: Mapping[str, float]) -> Iterator[str]:
    """The ledger's value for every row: its cluster when it is kept, else what made its rule drop it."""
    test_rows = {cluster: name for name, cluster, role in zip(rows.ids, rows.clusters, rows.roles, strict=True)
                 if role == "test"}  # fmt: skip
    held_out = {
        rows.clusters[row]: int(decision.fates[row])
        for row in np.flatnonzero((decision.fates == TEST) | (decision.fates == VALIDATION)).tolist()
    }
    taken = sum(role == "replay" and fate == TRAIN for role, fate in zip(rows.roles, decision.fates, strict=True))
    for row, fate in enumerate(decision.fates.tolist()):
        if fate <= TEST:
            yield rows.clusters[row]
        elif fate == COMPARED_ONLY:
            yield _hit_in_words(compared, row) or "holds no item of a benchmark"
        elif fate == DUPLICATE_OF_TEST:
            yield test_rows[rows.clusters[row]]
        elif fate == IN_BENCHMARK:
            yield _hit_in_words(compared, row)
        elif fate == NOT_SAMPLED:
            yield f"weight {weights[rows.sources[row]]:g}"
        else:
            beside = held_out.get(rows.clusters[row])
            yield f"{taken} taken" if beside is None else f"a duplicate is in {FATES[beside]}"


def _hit_in_words(compared: Compared, row: int) -> str:
    if row not in compared.hits:
        return ""
    (benchmark, item), reason = compared.hits[row]
    return f"{benchmark}:{item} {reason}"


def contaminated_items(items: list[BenchmarkItem], compared: Compared) -> ContaminatedItems:
    """The items of each benchmark that the base has seen, of how many that were compared."""
    seen: dict[str, list[int]] = {}
    for benchmark, item in sorted(compared.seen_by_base):
        seen.setdefault(benchmark, []).append(item)
    return ContaminatedItems(
        checked=dict(sorted(Counter(name for name, _ in {(item.benchmark, item.item) for item in items}).items())),
        seen_by_base={benchmark: tuple(found) for benchmark, found in seen.items()},
    )


def build_summary(rows: Rows, decision: Decision, compared: Compared, replay_share: float) -> DataSummary:
    """The counts by rule and partition, what an epoch is made of, and what was found in benchmarks."""
    counts = {name: int((decision.fates == code).sum()) for code, name in enumerate(FATES)}
    kept = {partition: counts[partition] for partition in PARTITIONS}
    return DataSummary(
        stage="split",
        rows_in=len(rows.ids),
        rows_out=sum(kept.values()),
        dropped={name: count for name, count in counts.items() if name not in kept and count},
        changed={},
        kept=kept,
        notes=(
            *_alarms(decision, compared),
            *_benchmark_notes(decision, compared),
            *_mix_note(rows, decision),
            *_replay_note(rows, decision, replay_share),
        ),
    )


def _alarms(decision: Decision, compared: Compared) -> Iterator[str]:
    found = Counter(place for row, (place, _) in compared.hits.items() if decision.fates[row] == IN_BENCHMARK)
    bound = max(ALARM_ROWS, ALARM_SHARE * len(decision.fates))
    for (benchmark, item), count in sorted(found.items()):
        if count > bound:
            yield (
                f"alarm: item {item} of {benchmark} was found in {count} rows: is it a phrase that everybody says? "
                f"`{paths.BENCHMARK_ITEMS / paths.ITEMS}` holds its text"
            )


def _benchmark_notes(decision: Decision, compared: Compared) -> Iterator[str]:
    dropped = [place for row, (place, _) in compared.hits.items() if decision.fates[row] == IN_BENCHMARK]
    items = Counter(benchmark for benchmark, _ in set(dropped))
    for benchmark, count in sorted(Counter(benchmark for benchmark, _ in dropped).items()):
        yield f"benchmark {benchmark}: {count} rows held {items[benchmark]} of its items and were dropped"
    for benchmark, count in sorted(Counter(benchmark for benchmark, _ in compared.seen_by_base).items()):
        yield f"benchmark {benchmark}: the base has seen {count} of its items; the gate scores without them too"


def _mix_note(rows: Rows, decision: Decision) -> Iterator[str]:
    shown: Counter[str] = Counter()
    for row in np.flatnonzero(decision.fates == TRAIN).tolist():
        shown[rows.sources[row]] += int(decision.repeats[row])
    if len(shown) > 1:
        parts = ", ".join(f"{source} {count / shown.total():.1%}" for source, count in sorted(shown.items()))
        yield f"mix: an epoch shows {shown.total():,} rows: {parts}"


def _replay_note(rows: Rows, decision: Decision, replay_share: float) -> Iterator[str]:
    shown = decision.shown_in_epoch
    found = sum(rows.roles[row] == "replay" for row in np.flatnonzero(decision.fates == TRAIN).tolist())
    if shown and found + 1 < replay_share * shown:
        yield f"replay: {found / shown:.1%} of train, {replay_share:.1%} asked for: add replay examples"


if __name__ == "__main__":
    run_stage(main)
