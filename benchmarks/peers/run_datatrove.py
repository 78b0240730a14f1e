"""datatrove's MinHash in its four steps, one process: FOLDER/documents.parquet -> FOLDER/out/*.jsonl.gz.

Runs in an environment of its own, see benchmarks/dedup.py. Words are split at white space, as by the others; spaCy,
which datatrove takes for English otherwise, is slower.
"""

import sys

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.word_tokenizers import WordTokenizer


class PlainSplit(WordTokenizer):
    """Words between white space."""

    def word_tokenize(self, text: str) -> list[str]:
        """The words."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """Not used by MinHash."""
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Not used by MinHash."""
        return [(0, len(text))]


def main(folder: str, ngram_words: int, bands: int, rows_per_band: int, seed: int) -> None:
    """Remove near duplicates."""
    config = MinhashConfig(
        n_grams=ngram_words,
        num_buckets=bands,
        hashes_per_bucket=rows_per_band,
        seed=seed,
        hash_config=HashConfig(precision=64),
    )
    reader = ParquetReader(folder, glob_pattern="documents.parquet")
    signature = MinhashDedupSignature(f"{folder}/signatures", config=config, language=PlainSplit())
    steps = [
        ([reader, signature], 1),
        ([MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/buckets", config=config)], bands),
        ([MinhashDedupCluster(f"{folder}/buckets", f"{folder}/removed", config=config)], 1),
        ([reader, MinhashDedupFilter(f"{folder}/removed"), JsonlWriter(f"{folder}/out")], 1),
    ]
    for number, (pipeline, tasks) in enumerate(steps):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{folder}/logs/{number}").run()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
