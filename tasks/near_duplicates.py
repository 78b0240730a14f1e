"""Near duplicates on plain values: the words of a text, word n-grams, exact Jaccard similarity, clusters of pairs."""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)

_HYPHEN_AT_A_LETTER = re.compile(r"-(?:(?<=[^\W\d]-)|(?=[^\W\d]))")
"""Between digits it may be a minus."""
_SIGN_OUTSIDE_A_NUMBER = re.compile(r"[.,:](?:(?<!\d[.,:])|(?!\d))")
_DIGIT = re.compile(r"\d")
_ASCII_DIGITS = b"0123456789"
_PUNCTUATION = ";!?…'\"“”‘’«»()[]{}`_—–"
_WITHOUT_SPACES = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])")
CACHED_TEXTS = 1000

Ngrams = frozenset[tuple[str, ...]]


def _tables(signs: str) -> tuple[bytes, dict[int, str]]:
    """What turns signs into spaces, for ASCII bytes (ten times as fast) and for any text."""
    codes = {ord(sign) for sign in signs}
    return bytes(32 if code in codes else code for code in range(256)), dict.fromkeys(codes, " ")


_AROUND_NUMBERS = _tables(_PUNCTUATION)
_WITHOUT_NUMBERS = _tables(_PUNCTUATION + ".,:")


def normalised(text: str) -> str:
    """`text` in one case, with punctuation and white space folded into single spaces.

    Signs that carry meaning (arithmetic, currencies, decimal points) stay; a text of nothing but punctuation keeps it.
    """
    folded = text.casefold()
    if "-" in folded:
        folded = _HYPHEN_AT_A_LETTER.sub(" ", folded)
    tables = _WITHOUT_NUMBERS
    if _has_digit(folded):
        folded = _SIGN_OUTSIDE_A_NUMBER.sub(" ", folded)
        tables = _AROUND_NUMBERS
    of_bytes, of_text = tables
    folded = folded.encode().translate(of_bytes).decode() if folded.isascii() else folded.translate(of_text)
    return " ".join(folded.split()) or " ".join(text.split())


def _has_digit(text: str) -> bool:
    if not text.isascii():
        return _DIGIT.search(text) is not None
    raw = text.encode()
    return len(raw.translate(None, _ASCII_DIGITS)) != len(raw)


def words(text: str) -> list[str]:
    """The words of a normalised text; where a script writes no spaces, every sign is a word."""
    return (text if text.isascii() else _WITHOUT_SPACES.sub(r" \1 ", text)).split()


def spaced(text: str) -> str:
    """The words of any text, normalised, with one space between them."""
    folded = normalised(text)
    return folded if folded.isascii() else " ".join(words(folded))


def windows(parts: list[str], size: int) -> Iterator[tuple[str, ...]]:
    """Every `size` words in a row; none where there are fewer."""
    return zip(*(parts[start:] for start in range(size)), strict=False)


def ngrams(text: str, size: int) -> Ngrams:
    """The sets of `size` words in a row; a shorter text is one n-gram."""
    parts = words(text)
    return frozenset(windows(parts, size)) if len(parts) > size else frozenset((tuple(parts),))


def jaccard(left: Ngrams, right: Ngrams) -> float:
    """The share of n-grams that both have, of those that either has: 0.0 to 1.0."""
    common = len(left & right)
    union = len(left) + len(right) - common
    return common / union if union else 1.0


class Similarities:
    """Exact similarities of rows by number; what `texts_of` gives for a row is compared in turn, the least counts."""

    def __init__(self, texts_of: Callable[[int], tuple[str, ...]], size: int) -> None:
        self._texts_of = texts_of
        self._size = size
        self._grams: dict[int, tuple[Ngrams, ...]] = {}

    def __call__(self, left: int, right: int) -> float:
        """The least of the Jaccard similarities of the texts of two rows; the first text of both, the last of both."""
        ours, theirs = self._of(left), self._of(right)
        first = jaccard(ours[0], theirs[0])
        return first if len(ours) == len(theirs) == 1 else min(first, jaccard(ours[-1], theirs[-1]))

    def _of(self, row: int) -> tuple[Ngrams, ...]:
        if row not in self._grams:
            if len(self._grams) >= CACHED_TEXTS:
                self._grams.clear()
            self._grams[row] = tuple(ngrams(text, self._size) for text in self._texts_of(row))
        return self._grams[row]


class Clusters:
    """The connected components of links between numbered rows; a cluster is called by the smallest number in it."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def link(self, left: int, right: int) -> None:
        """Put two rows into one cluster."""
        low, high = sorted((self.root(left), self.root(right)))
        self._parent[high] = low

    def root(self, row: int) -> int:
        """The smallest row of the cluster of `row`."""
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def roots(self) -> list[int]:
        """`root` of every row."""
        return [self.root(row) for row in range(len(self._parent))]


def grouped(rows: Iterable[Node], group_of: Callable[[Node], Hashable]) -> list[list[Node]]:
    """Rows in groups, in the order in which they come."""
    found: dict[Hashable, list[Node]] = {}
    for row in rows:
        found.setdefault(group_of(row), []).append(row)
    return list(found.values())
