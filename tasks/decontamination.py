"""Decontamination: which texts hold an item of a benchmark, so that the gate never measures what was trained.

Words become 64-bit hashes and so do n-grams (a polynomial over the words), in numpy, for a whole batch of texts at
once. Near duplicates of items are found by an exact index in MinHash's place: of an item's n-grams the rarest few,
enough that no text as similar as asked for can miss them all (prefix filtering, Chaudhuri et al. 2006), and then the
Jaccard similarity itself. Nothing is estimated, so recall is 1; two unlike n-grams share a hash with odds of 1e-13 for
a million items and a million rows.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.near_duplicates import normalised, words
from tasks.records import BenchmarkItem

MIN_CONTAINED_WORDS = 4
"""A shorter item ("Yes.") lies in too many texts by chance: it has to be the whole text."""
SIMILAR_NGRAM_WORDS = 3
"""Similarity is the Jaccard index of word 3-grams, as between near duplicates."""
KINDS: tuple[Literal["ngram", "whole", "similar"], ...] = ("ngram", "whole", "similar")

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
_BASE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, order=True)
class Match:
    """A text that holds an item, `place` of `ItemIndex.places`; `figure` is in words, or a Jaccard similarity."""

    text: int
    kind: int
    place: int
    figure: float

    @property
    def reason(self) -> str:
        """The kind and the figure: `ngram 13`, `whole 6`, `similar 0.81`."""
        return f"{KINDS[self.kind]} {self.figure:.{2 if KINDS[self.kind] == 'similar' else 0}f}"


class HashedTexts:
    """Texts as the hashes of their words, one after the other; `starts` has a place more than there are texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        split = [words(normalised(text)) for text in texts]
        self.sizes: Integers = np.fromiter(map(len, split), np.int64, len(split))
        self.starts: Integers = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.sizes)])
        hashes = _WordHashes()
        self.words: Hashes = np.fromiter(
            map(hashes.__getitem__, chain.from_iterable(split)), np.uint64, int(self.starts[-1])
        )
        self.text_of: Integers = np.repeat(np.arange(len(split)), self.sizes)

    def ngrams(self, sizes: Sequence[int]) -> Iterator[tuple[int, Integers, Hashes]]:
        """For each of the ascending `sizes` the positions where an n-gram lies within one text, and its hashes."""
        found, length = self.words, 1
        left = self.starts[self.text_of + 1] - np.arange(len(self.words))
        for size in sizes:
            while length < size:
                found = found[:-1] * _BASE + self.words[length:] if len(found) else found
                length += 1
            positions = np.flatnonzero(left >= size)
            yield size, positions, found[positions] if len(positions) else found[:0]


class _WordHashes(dict[str, int]):
    """The hash of a word, the same on every machine; made once for all places of a batch."""

    def __missing__(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[word] = found = int.from_bytes(digest, "little")
        return found


class Lookup:
    """Who has a hash: sorted pairs of hash and owner behind a bit table that answers most questions with no."""

    def __init__(self, hashes: Hashes, owners: Integers) -> None:
        order = np.lexsort((owners, hashes))
        hashes, owners = hashes[order], owners[order]
        first = np.ones(len(hashes), bool)
        first[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
        self._hashes, self._owners = hashes[first], owners[first]
        bits = min(26, max(10, (16 * len(hashes)).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, bool)
        self._table[self._hashes >> self._shift] = True

    def find(self, hashes: Hashes) -> tuple[Integers, Integers]:
        """The places in `hashes` that somebody has, each with its owner, once for every owner."""
        maybe = np.flatnonzero(self._table[hashes >> self._shift])
        low = np.searchsorted(self._hashes, hashes[maybe], "left")
        counts = np.searchsorted(self._hashes, hashes[maybe], "right") - low
        return np.repeat(maybe, counts), self._owners[ranges(low, counts)]


def ranges(starts: Integers, counts: Integers) -> Integers:
    """The integers `start, start + 1, …` for every start, `count` of them each, one after the other."""
    before = np.cumsum(counts) - counts
    found: Integers = np.repeat(starts - before, counts) + np.arange(int(counts.sum()))
    return found


@dataclass(frozen=True)
class _Similar:
    """The n-grams of the texts that others are compared with, and for every text its place."""

    lookup: Lookup
    grams: Hashes
    starts: Integers
    counts: Integers
    places: Integers


class ItemIndex:
    """The items of benchmarks, to be found in texts.

    A question is found by any `ngram_words` words in a row, a shorter one whole, one below four words only as the
    whole text, and by its similarity. A target or a choice stands in many texts that have nothing to do with its item,
    so that it is found by `ngram_words` words in a row only, and by question and target in a row.
    """

    def __init__(self, items: Iterable[BenchmarkItem], ngram_words: int, min_jaccard: float) -> None:
        texts: list[str] = []
        owners: list[int] = []
        questions: list[bool] = []
        places: dict[tuple[str, int], int] = {}
        for benchmark, item, is_question, text in _own_texts(items):
            texts.append(text)
            owners.append(places.setdefault((benchmark, item), len(places)))
            questions.append(is_question)
        self.places = tuple(places)
        self._min_jaccard = min_jaccard
        hashed = HashedTexts(texts)
        of_text, is_question_text = np.array(owners, np.int64), np.array(questions, bool)
        contained = np.minimum(hashed.sizes, ngram_words)
        contained[~is_question_text & (hashed.sizes < ngram_words)] = 0
        contained[hashed.sizes < MIN_CONTAINED_WORDS] = 0
        alone = np.where(is_question_text & (hashed.sizes < MIN_CONTAINED_WORDS), hashed.sizes, 0)
        self._ngram_words = ngram_words
        self._contained = _lookups(hashed, contained, of_text)
        self._alone = _lookups(hashed, alone, of_text)
        self._similar = _similar(hashed, (is_question_text | (contained == ngram_words)), of_text, min_jaccard)

    def matches(self, texts: Sequence[str]) -> list[Match]:
        """Every item that each text holds, sorted by text, then by kind and item."""
        if not self.places or not texts:
            return []
        hashed = HashedTexts(texts)
        found = [*self._exact(hashed), *self._near(hashed)]
        best: dict[tuple[int, int], Match] = {}
        for match in sorted(found):
            best.setdefault((match.text, match.place), match)
        return sorted(best.values())

    def _exact(self, hashed: HashedTexts) -> Iterator[Match]:
        for size, positions, hashes in hashed.ngrams(sorted({*self._contained, *self._alone})):
            if size in self._contained:
                at, owners = self._contained[size].find(hashes)
                kind = 0 if size == self._ngram_words else 1
                yield from _as_matches(hashed.text_of[positions[at]], kind, owners, size)
            if size in self._alone:
                whole = hashed.sizes[hashed.text_of[positions]] == size
                at, owners = self._alone[size].find(hashes[whole])
                yield from _as_matches(hashed.text_of[positions[whole][at]], 1, owners, size)

    def _near(self, hashed: HashedTexts) -> Iterator[Match]:
        similar = self._similar
        ((_, positions, hashes),) = hashed.ngrams([SIMILAR_NGRAM_WORDS])
        text_of = hashed.text_of[positions]
        at, candidates = similar.lookup.find(hashes)
        if not len(at):
            return
        pairs = np.unique(np.stack([text_of[at], candidates], axis=1), axis=0)
        keys, first = np.unique(_keyed(hashes, text_of), return_index=True)
        theirs = np.bincount(text_of[first], minlength=len(hashed.sizes))[pairs[:, 0]]
        ours = similar.counts[pairs[:, 1]]
        near = np.minimum(theirs, ours) >= self._min_jaccard * np.maximum(theirs, ours) - 1e-9
        pairs, theirs, ours = pairs[near], theirs[near], ours[near]
        if not len(pairs):
            return
        grams = similar.grams[ranges(similar.starts[pairs[:, 1]], ours)]
        wanted = _keyed(grams, np.repeat(pairs[:, 0], ours))
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        shared = np.add.reduceat((keys[place] == wanted).astype(np.int64), np.cumsum(ours) - ours)
        jaccard = shared / (theirs + ours - shared)
        for index in np.flatnonzero(jaccard >= self._min_jaccard - 1e-9):
            text, candidate = pairs[index]
            yield Match(int(text), 2, int(similar.places[candidate]), float(jaccard[index]))


def _own_texts(items: Iterable[BenchmarkItem]) -> Iterator[tuple[str, int, bool, str]]:
    """Benchmark, item, whether the text counts as a question, text: the parts, and question and target in a row."""
    asked: tuple[str, int, str] | None = None
    for item in items:
        yield item.benchmark, item.item, item.part == "question", item.text
        if item.part == "question":
            asked = (item.benchmark, item.item, item.text)
        elif item.part == "target" and asked is not None and asked[:2] == (item.benchmark, item.item):
            is_short = len(words(normalised(asked[2]))) < MIN_CONTAINED_WORDS
            yield item.benchmark, item.item, is_short, f"{asked[2]} {item.text}"


def _lookups(hashed: HashedTexts, sizes: Integers, owners: Integers) -> Mapping[int, Lookup]:
    """For every size the n-grams of the texts that are to be looked for by n-grams of that size; 0 is none."""
    found = {}
    for size, positions, hashes in hashed.ngrams(sorted({int(size) for size in sizes} - {0})):
        wanted = sizes[hashed.text_of[positions]] == size
        found[size] = Lookup(hashes[wanted], owners[hashed.text_of[positions[wanted]]])
    return found


def _similar(hashed: HashedTexts, wanted: npt.NDArray[np.bool_], owners: Integers, min_jaccard: float) -> _Similar:
    """The n-grams of the wanted texts, and of each its rarest as far as a similar text must have one of them."""
    ((_, positions, hashes),) = hashed.ngrams([SIMILAR_NGRAM_WORDS])
    text_of = hashed.text_of[positions]
    chosen = (wanted & (hashed.sizes >= MIN_CONTAINED_WORDS))[text_of]
    grams, texts = hashes[chosen], text_of[chosen]
    order = np.lexsort((grams, texts))
    grams, texts = grams[order], texts[order]
    first = np.ones(len(grams), bool)
    first[1:] = (grams[1:] != grams[:-1]) | (texts[1:] != texts[:-1])
    grams, texts = grams[first], texts[first]
    unique, inverse, seen = np.unique(grams, return_inverse=True, return_counts=True)
    order = np.lexsort((unique[inverse], seen[inverse], texts))
    grams, texts = grams[order], texts[order]
    names, starts, counts = np.unique(texts, return_index=True, return_counts=True)
    kept = counts - np.ceil(min_jaccard * counts - 1e-9).astype(np.int64) + 1
    kept = np.minimum(kept, counts)
    rare = ranges(starts, kept)
    lookup = Lookup(grams[rare], np.repeat(np.arange(len(names)), kept))
    return _Similar(lookup, grams, starts, counts, owners[names])


def _keyed(hashes: Hashes, texts: Integers) -> Hashes:
    """A hash of (n-gram, text): the same n-gram in two texts differs."""
    mixed = (texts.astype(np.uint64) + np.uint64(1)) * np.uint64(0xD1B54A32D192ED03)
    mixed ^= mixed >> np.uint64(32)
    found: Hashes = hashes ^ (mixed * np.uint64(0xAEF17502108EF2D9))
    return found


def _as_matches(texts: Integers, kind: int, owners: Integers, size: int) -> Iterator[Match]:
    return (Match(int(text), kind, int(owner), float(size)) for text, owner in set(zip(texts, owners, strict=True)))
