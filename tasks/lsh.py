"""MinHash LSH: signatures by Daft, on this machine or on a Ray cluster; candidate pairs from its bands.

Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3. Rows are numbers from 0; what comes out
depends on the texts and on their order only, never on the engine. Daft makes the signatures, which is nearly all of the
work. Buckets are found by sorting 8-byte integers here: Daft's own grouping of the same bands took 25 times the CPU.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import daft
import numpy as np
import numpy.typing as npt
from daft import col

from tasks.params_data import DedupParams, EngineParams
from tasks.verification import distinct

Rows = npt.NDArray[np.int64]
Pairs = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

SHIFT = np.uint64(32)
LOW = np.uint64(0xFFFFFFFF)
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)

BUCKET_WINDOW = 16
"""In a bucket of up to one row more, every pair is a candidate."""
CROWDED_WINDOW = 2
"""In a larger bucket a row is paired with this many next rows, those first that share the next bands' buckets too."""
PAIRS_AT_ONCE = 2_000_000
COMPARED_AT_ONCE = 1 << 16
DEVIATIONS = 3
"""A candidate goes unverified when its signatures agree this many standard deviations less than they should."""


@dataclass(frozen=True)
class Signatures:
    """What is kept of n signatures: a hash for every band (bands x n), the low byte of every hash (n x hashes)."""

    bands: Hashes
    lanes: npt.NDArray[np.uint8]

    def of(self, rows: Rows) -> "Signatures":
        """The signatures of some of the rows."""
        return Signatures(self.bands[:, rows], self.lanes[rows])


_running: list[str] = []


def use_engine(runner: Literal["native", "ray"], ray_address: str | None, threads: int) -> None:
    """Say where Daft runs and on how many threads, which it takes once in a process, the first time for good.

    Untold, it imports Ray to look for a cluster.
    """
    if _running == [runner]:
        return
    if runner == "native":
        daft.set_runner_native(threads or None)
    else:
        daft.set_runner_ray(ray_address, noop_if_initialized=True)
    _running.append(runner)


def signatures(portions: Iterable[list[Any]], count: int, params: DedupParams, engine: EngineParams) -> Signatures:
    """The signatures of `count` texts: words with one space between them.

    Args:
        portions: pyarrow.Tables with the columns `row` (from 0) and `text`; those of one portion are worked on at the
            same time, on a cluster by as many workers, and only one portion is in memory.
        count: how many texts there are in all.
        params: the numbers of hashes and of bands, the length of an n-gram, the seed.
        engine: where Daft runs.
    """
    use_engine(engine.runner, engine.ray_address, engine.workers)
    minhash = col("text").minhash(num_hashes=params.num_hashes, ngram_size=params.ngram_words, seed=params.seed)
    bands = np.zeros((params.bands, count), np.uint64)
    lanes = np.zeros((count, params.num_hashes), np.uint8)
    for tables in portions:
        for batch in daft.from_arrow(tables).select("row", minhash.alias("signature")).to_arrow_iter():
            rows = batch.column("row").to_numpy()
            hashes = batch.column("signature").flatten().to_numpy().reshape(-1, params.num_hashes)
            bands[:, rows] = _band_hashes(hashes, params.bands)
            lanes[rows] = hashes.astype(np.uint8)
    return Signatures(bands, lanes)


def candidate_pairs(found: Signatures, min_jaccard: float) -> Pairs:
    """Pairs (left < right, sorted) that share a bucket of at least one band and whose signatures agree enough.

    In a crowded bucket these are not all pairs: `has_crowded_bucket` says when to look again among the rows that stay.
    """
    waiting: list[Hashes] = []
    checked: list[Hashes] = []
    for band in range(len(found.bands)):
        waiting.append(distinct(_pairs_of_band(found.bands, band)))
        if sum(map(len, waiting)) > PAIRS_AT_ONCE:
            checked, waiting = [_agreeing([*checked, *waiting], found.lanes, min_jaccard)], []
    packed = _agreeing([*checked, *waiting], found.lanes, min_jaccard)
    return np.stack([packed >> SHIFT, packed & LOW], axis=1).astype(np.int64)


def has_crowded_bucket(found: Signatures) -> bool:
    """Whether some bucket has so many rows that not every pair of it is a candidate."""
    return any(
        len(rows) and int(np.bincount(buckets).max()) > BUCKET_WINDOW + 1
        for rows, buckets in map(_shared_buckets, found.bands)
    )


def _band_hashes(hashes: npt.NDArray[np.uint32], bands: int) -> Hashes:
    """One hash for the rows of every band, bands x n (multiply and fold, as in FxHash)."""
    width = hashes.shape[1] // bands
    found = np.zeros((bands, len(hashes)), np.uint64)
    for place in range(width):
        found = (found ^ hashes[:, place::width].T) * MULTIPLIER
        found ^= found >> np.uint64(29)
    return found


def _pairs_of_band(bands: Hashes, band: int) -> Hashes:
    """Pairs of rows that share a bucket, each packed into one number."""
    rows, buckets = _shared_buckets(bands[band])
    if not len(rows):
        return rows
    starts = np.flatnonzero(np.diff(buckets, prepend=-1))
    sizes = np.diff(starts, append=len(rows))
    crowded = np.repeat(sizes > BUCKET_WINDOW + 1, sizes)
    if crowded.any():
        next_two = ((bands[(band + step) % len(bands)][rows] * crowded) for step in (2, 1))
        rows = rows[np.lexsort((rows, *next_two, buckets))]
    pairs = []
    for step in range(1, min(BUCKET_WINDOW, int(sizes.max()) - 1) + 1):
        left, right = rows[:-step], rows[step:]
        together = buckets[:-step] == buckets[step:]
        if step > CROWDED_WINDOW:
            together &= ~crowded[:-step]
        left, right = left[together], right[together]
        pairs.append(np.minimum(left, right) << SHIFT | np.maximum(left, right))
    return np.concatenate(pairs)


def _shared_buckets(hashes: Hashes) -> tuple[Hashes, Rows]:
    """The rows that are not alone in their bucket, bucket by bucket, and the number of the bucket of each."""
    if len(hashes) < 2:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    bits = np.uint64(len(hashes).bit_length())
    keys = hashes >> bits << bits | np.arange(len(hashes), dtype=np.uint64)
    keys.sort()
    buckets = keys >> bits
    same = buckets[1:] == buckets[:-1]
    shared = np.append(same, False) | np.append(False, same)
    rows = keys[shared] & ((np.uint64(1) << bits) - np.uint64(1))
    return rows, np.cumsum(np.diff(buckets[shared], prepend=np.uint64(0)) != 0)


def _agreeing(packed: list[Hashes], lanes: npt.NDArray[np.uint8], min_jaccard: float) -> Hashes:
    """The pairs, each once, whose signatures agree in so many places that they may be `min_jaccard` alike."""
    pairs = distinct(np.concatenate(packed)) if packed else np.zeros(0, np.uint64)
    width = lanes.shape[1]
    enough = width * (min_jaccard - DEVIATIONS * (min_jaccard * (1 - min_jaccard) / width) ** 0.5)
    kept = []
    for some in (pairs[start : start + COMPARED_AT_ONCE] for start in range(0, len(pairs), COMPARED_AT_ONCE)):
        agreeing = (lanes[some >> SHIFT] == lanes[some & LOW]).sum(axis=1)
        kept.append(some[agreeing >= enough])
    return np.concatenate(kept) if kept else pairs
