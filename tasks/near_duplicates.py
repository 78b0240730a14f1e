"""Near duplicates on plain values: the key of a prompt, word n-grams, exact Jaccard similarity, clusters of pairs."""

import re
from collections.abc import Callable, Iterable, Mapping

from tasks.records import Pair

_PUNCTUATION = re.compile(
    r"(?<!\d)[.,:]|[.,:](?!\d)"  # not inside a number
    r"|[;!?…'\"“”‘’«»()\[\]{}`_—–]"
    r"|(?<=[^\W\d])-|-(?=[^\W\d])"  # at a letter: between digits it may be a minus
)
_WITHOUT_SPACES = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])")

Ngrams = frozenset[tuple[str, ...]]


def normalised(text: str) -> str:
    """`text` in one case, with punctuation and white space folded into single spaces.

    Signs that carry meaning (arithmetic, currencies, decimal points) stay; a text of nothing but punctuation keeps it.
    """
    folded = " ".join(_PUNCTUATION.sub(" ", text.casefold()).split())
    return folded or " ".join(text.split())


def words(text: str) -> list[str]:
    """The words of a normalised text; where a script writes no spaces, every sign is a word."""
    return _WITHOUT_SPACES.sub(r" \1 ", text).split()


def ngrams(text: str, size: int) -> Ngrams:
    """The sets of `size` words in a row; a shorter text is one n-gram."""
    parts = tuple(words(text))
    return frozenset(parts[start : start + size] for start in range(max(1, len(parts) - size + 1)))


def jaccard(left: Ngrams, right: Ngrams) -> float:
    """The share of n-grams that both have, of those that either has: 0.0 to 1.0."""
    union = len(left | right)
    return len(left & right) / union if union else 1.0


def verified_pairs(
    candidates: Iterable[tuple[str, str]], texts: Mapping[str, str], size: int, min_jaccard: float
) -> list[Pair]:
    """The candidate pairs of ids whose texts really are that similar, sorted, each once."""
    grams: dict[str, Ngrams] = {}
    pairs = []
    for left, right in sorted({(min(pair), max(pair)) for pair in candidates}):
        for name in (left, right):
            if name not in grams:
                grams[name] = ngrams(texts[name], size)
        similarity = jaccard(grams[left], grams[right])
        if similarity >= min_jaccard:
            pairs.append(Pair(left=left, right=right, similarity=similarity))
    return pairs


def roots(names: Iterable[str], links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """For every name the smallest name that links reach from it: the connected components."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for left, right in links:
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    return {name: root(name) for name in parent}


def groups(names: Iterable[str], group_of: Callable[[str], str]) -> dict[str, list[str]]:
    """Names by group, both sorted."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        found.setdefault(group_of(name), []).append(name)
    return dict(sorted(found.items()))
