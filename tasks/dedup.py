"""Stage `dedup`: data/clean/examples.parquet -> data/dedup/{examples,clusters,pairs,ledger}.parquet, summary.json.

Rows are compared by their user turns, never by system prompts that they share. Exact duplicates go first; near ones are
found by MinHash LSH in Daft (data frames: native here, Ray with one setting) and verified by exact Jaccard similarity.
Of a cluster the longest prompt stays, among those the smallest id. What stays never depends on the order of rows.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import daft
from daft import col

from tasks import paths
from tasks.entry import run_stage
from tasks.files import write_json
from tasks.near_duplicates import groups, jaccard, ngrams, normalised, roots, verified_pairs, words
from tasks.params import DedupParams, load_params
from tasks.records import ClusterMember, DataSummary, Example, LedgerEntry, Pair
from tasks.summaries import ledger_entry, print_summary, summarise
from tasks.tables import read_examples, write_clusters, write_examples, write_ledger, write_pairs

BUCKET_WINDOW = 64
"""A row is paired with this many next rows of its LSH bucket: template text may put every row into one bucket."""
ALARM_SHARE = 0.01
ALARM_ROWS = 10


@dataclass(frozen=True)
class Deduplicated:
    """What stays, in input order; the cluster of every input row; verified pairs; an entry for every dropped row."""

    kept: tuple[Example, ...]
    clusters: tuple[ClusterMember, ...]
    pairs: tuple[Pair, ...]
    entries: tuple[LedgerEntry, ...]


def main() -> None:
    """Drop exact and near duplicates."""
    examples = read_examples(paths.CLEAN / paths.EXAMPLES)
    found = dedup(examples, load_params().dedup)
    summary = build_summary(found, len(examples))
    write_examples(paths.DEDUP / paths.EXAMPLES, found.kept)
    write_clusters(paths.DEDUP / paths.CLUSTERS, found.clusters)
    write_pairs(paths.DEDUP / paths.PAIRS, found.pairs)
    write_ledger(paths.DEDUP / paths.LEDGER, found.entries)
    write_json(paths.DEDUP / paths.SUMMARY, summary)
    print_summary(summary)


def dedup(examples: Sequence[Example], params: DedupParams) -> Deduplicated:
    """Drop duplicates; the same rows in another order give the same rows, clusters and pairs."""
    by_id = {example.id: example for example in examples}
    keys = {name: normalised(example.prompt) for name, example in by_id.items()}
    exact = groups(keys, keys.__getitem__)
    conflicting = [members for members in exact.values() if len({by_id[name].completion for name in members}) > 1]
    unique = {
        best(members, by_id): members for members in exact.values() if len({by_id[n].completion for n in members}) == 1
    }
    pairs = near_pairs({name: keys[name] for name in unique}, by_id, params)
    links = [(pair.left, pair.right) for pair in pairs]
    links += [(members[0], member) for members in exact.values() for member in members[1:]]
    cluster_of = roots(by_id, links)
    near = groups(unique, cluster_of.__getitem__)
    entries = [
        *(
            ledger_entry(by_id[n], "dedup", "dropped", "conflicting_answers", f"{len(m)} rows")
            for m in conflicting
            for n in m
        ),
        *_exact_entries(unique, by_id),
        *_near_entries(near.values(), by_id, keys, params.ngram_words),
    ]
    dropped = {entry.id for entry in entries}
    return Deduplicated(
        tuple(example for example in examples if example.id not in dropped),
        tuple(ClusterMember(id=name, cluster=cluster_of[name]) for name in sorted(by_id)),
        tuple(pairs),
        tuple(sorted(entries, key=lambda entry: entry.id)),
    )


def best(members: Iterable[str], by_id: Mapping[str, Example]) -> str:
    """The row of a cluster that stays: the longest prompt, among those the smallest id."""
    return min(members, key=lambda name: (-len(by_id[name].prompt), name))


def near_pairs(texts: Mapping[str, str], by_id: Mapping[str, Example], params: DedupParams) -> list[Pair]:
    """Verified pairs, looked for among the rows that stay until none are left: so a second run finds nothing."""
    pairs: list[Pair] = []
    waiting = dict(texts)
    while found := verified_pairs(candidate_pairs(waiting, params), waiting, params.ngram_words, params.min_jaccard):
        pairs += found
        cluster_of = roots(waiting, [(pair.left, pair.right) for pair in found])
        staying = {best(members, by_id) for members in groups(waiting, cluster_of.__getitem__).values()}
        waiting = {name: text for name, text in waiting.items() if name in staying}
    return sorted(pairs, key=lambda pair: (pair.left, pair.right))


def candidate_pairs(texts: Mapping[str, str], params: DedupParams) -> set[tuple[str, str]]:
    """Pairs of ids whose MinHash signatures agree in at least one band (Broder 1997; Leskovec et al., ch. 3)."""
    if len(texts) < 2:
        return set()
    rows_per_band = params.num_hashes // params.bands
    names = sorted(texts)
    frame = daft.from_pydict({"id": names, "text": [" ".join(words(texts[name])) for name in names]})
    minhash = col("text").minhash(num_hashes=params.num_hashes, ngram_size=params.ngram_words, seed=params.seed)
    bands = frame.select("id", minhash.chunk(rows_per_band).alias("band")).explode("band")
    buckets = bands.with_column("bucket", col("band").hash()).groupby("bucket").agg(col("id").list_agg().alias("ids"))
    shared = buckets.where(col("ids").list_count() > 1).select("ids").to_pydict()["ids"]
    return {pair for bucket in {tuple(sorted(set(ids))) for ids in shared} for pair in _window_pairs(bucket)}


def build_summary(found: Deduplicated, rows_in: int) -> DataSummary:
    """The counts, with an alarm when one cluster is so large that shared template text is the likelier reason."""
    (largest, size), *_ = Counter(member.cluster for member in found.clusters).most_common(1) or [("", 0)]
    alarm = (
        f"alarm: cluster {largest} has {size} of {rows_in} rows; "
        "text that rows share (a template, an option list) makes rows look alike: move it to the system turn"
    )
    notes = (alarm,) if size > max(ALARM_ROWS, ALARM_SHARE * rows_in) else ()
    kept = Counter(example.source for example in found.kept)
    return summarise("dedup", rows_in, found.entries, kept=kept, notes=notes)


def _window_pairs(bucket: Sequence[str]) -> Iterable[tuple[str, str]]:
    for index, left in enumerate(bucket):
        for right in itertools.islice(bucket, index + 1, index + 1 + BUCKET_WINDOW):
            yield left, right


def _exact_entries(unique: Mapping[str, Sequence[str]], by_id: Mapping[str, Example]) -> list[LedgerEntry]:
    return [
        ledger_entry(by_id[name], "dedup", "dropped", "exact_duplicate", kept)
        for kept, members in unique.items()
        for name in members
        if name != kept
    ]


def _near_entries(
    clusters: Iterable[Sequence[str]], by_id: Mapping[str, Example], keys: Mapping[str, str], size: int
) -> list[LedgerEntry]:
    entries = []
    for members in clusters:
        kept = best(members, by_id)
        for name in members:
            if name != kept:
                similarity = jaccard(ngrams(keys[name], size), ngrams(keys[kept], size))
                value = f"{kept} similarity {similarity:.3f}"
                entries.append(ledger_entry(by_id[name], "dedup", "dropped", "near_duplicate", value))
    return entries


if __name__ == "__main__":
    run_stage(main)
