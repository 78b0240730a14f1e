"""Stage `split`: data/dedup/{examples,clusters}.parquet, the benchmarks' items -> data/split/.

Writes train, validation and test.parquet, ledger.parquet and summary.json. A cluster lies in one partition by the
hash of its id, so rows that are added later move no others. Rows that share text with an item of the gate's benchmarks
leave train and validation; replay examples fill a share of train.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from tasks import paths
from tasks.decontamination import BenchmarkText, Contamination, read_benchmark_texts
from tasks.entry import run_stage
from tasks.errors import FileInvalid
from tasks.files import write_json
from tasks.params import EvaluateParams, SplitParams, load_params
from tasks.records import Example, LedgerEntry, Partition
from tasks.summaries import ledger_entry, print_summary, summarise
from tasks.tables import read_clusters, read_examples, write_examples, write_ledger

PARTITIONS: tuple[Partition, ...] = get_args(Partition)
FILES = {
    "train": paths.TRAIN_EXAMPLES,
    "validation": paths.VALIDATION_EXAMPLES,
    "test": paths.TEST_EXAMPLES,
}


@dataclass(frozen=True)
class Split:
    """The partitions, each in input order, and one entry for every row: where it was kept, or why it was dropped."""

    partitions: Mapping[Partition, tuple[Example, ...]]
    entries: tuple[LedgerEntry, ...]


def main() -> None:
    """Write the partitions."""
    params = load_params()
    examples = read_examples(paths.DEDUP / paths.EXAMPLES)
    clusters = read_clusters(paths.DEDUP / paths.CLUSTERS)
    texts, notes = benchmark_texts(params.evaluate)
    found = split(examples, clusters, texts, params.split)
    kept: dict[str, int] = {partition: len(rows) for partition, rows in found.partitions.items()}
    notes += replay_note(found.partitions["train"], params.split.replay_share)
    summary = summarise("split", len(examples), found.entries, kept=kept, notes=notes)
    for partition, rows in found.partitions.items():
        write_examples(FILES[partition], rows)
    write_ledger(paths.SPLIT / paths.LEDGER, found.entries)
    write_json(paths.SPLIT / paths.SUMMARY, summary)
    print_summary(summary)


def benchmark_texts(params: EvaluateParams) -> tuple[list[BenchmarkText], tuple[str, ...]]:
    """The texts of every benchmark that ships its items, and a note for each that does not."""
    texts: list[BenchmarkText] = []
    notes: list[str] = []
    for benchmark in params.benchmarks:
        found = read_benchmark_texts(paths.EVALS, benchmark.name)
        texts += found
        if not found:
            notes.append(f"benchmark {benchmark.name}: no items under {paths.EVALS}, train was not compared with it")
    return texts, tuple(notes)


def split(
    examples: Sequence[Example], clusters: Mapping[str, str], texts: Sequence[BenchmarkText], params: SplitParams
) -> Split:
    """Partition the examples.

    Raises:
        FileInvalid: an example has no cluster.
    """
    fates = {example.id: partition_of(example, clusters, params) for example in examples}
    index = Contamination(texts, params.decontaminate_ngram_words)
    places = {example.id: index.place_of(example) for example in examples if fates[example.id] != "test"}
    clean = [example for example in examples if not places.get(example.id)]
    replay = replay_ids(clean, sum(e.role == "train" and fates[e.id] == "train" for e in clean), params)
    rows: dict[Partition, list[Example]] = {partition: [] for partition in PARTITIONS}
    entries: list[LedgerEntry] = []
    for example in examples:
        if place := places.get(example.id):
            entries.append(ledger_entry(example, "split", "dropped", "in_benchmark", place))
        elif example.role == "replay" and example.id not in replay:
            entries.append(ledger_entry(example, "split", "dropped", "replay_not_needed", f"{len(replay)} taken"))
        else:
            rows[fates[example.id]].append(example)
            entries.append(ledger_entry(example, "split", "kept", fates[example.id], clusters[example.id]))
    return Split({partition: tuple(found) for partition, found in rows.items()}, tuple(entries))


def partition_of(example: Example, clusters: Mapping[str, str], params: SplitParams) -> Partition:
    """The partition that the hash of (seed, cluster) falls into; replay examples belong to train.

    Raises:
        FileInvalid: the example has no cluster.
    """
    if example.id not in clusters:
        raise FileInvalid(f"{paths.DEDUP / paths.CLUSTERS}: no cluster for example {example.id}; run `dvc repro dedup`")
    if example.role == "replay":
        return "train"
    point = unit_hash(params.seed, clusters[example.id])
    if point < params.test_share:
        return "test"
    return "validation" if point < params.test_share + params.validation_share else "train"


def replay_ids(examples: Sequence[Example], train_rows: int, params: SplitParams) -> frozenset[str]:
    """The replay examples, in hash order, that make `replay_share` of a train partition with `train_rows` others."""
    names = [example.id for example in examples if example.role == "replay"]
    names.sort(key=lambda name: (unit_hash(params.seed, f"replay:{name}"), name))
    if params.replay_share == 1:
        return frozenset(names)
    return frozenset(names[: math.floor(train_rows * params.replay_share / (1 - params.replay_share) + 1e-9)])


def replay_note(train: Sequence[Example], replay_share: float) -> tuple[str, ...]:
    """A note when there were too few replay examples for the share that was asked for."""
    found = sum(example.role == "replay" for example in train)
    if not train or found + 1 >= replay_share * len(train):
        return ()
    return (f"replay: {found / len(train):.1%} of train, {replay_share:.1%} asked for: add replay examples",)


def unit_hash(seed: int, name: str) -> float:
    """A number in [0, 1) that depends on seed and name only."""
    return int(hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()[:13], 16) / 16**13


if __name__ == "__main__":
    run_stage(main)
