"""Repetition in a text, by the ratios of Gopher (Rae et al. 2021, "Scaling Language Models", table A1).

Shares of lines and paragraphs are by count. Shares of characters are by the letters of words, space not counted: of
the commonest 2-, 3- and 4-gram, and of all 5- to 10-grams that come twice, without counting any word twice.
"""

import re
from collections import Counter
from collections.abc import Sequence

from tasks.params_data import RepetitionParams

PARAGRAPHS = re.compile(r"\n\s*\n")
TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)


def repetition(text: str, params: RepetitionParams) -> str | None:
    """The first ratio of `text` that is above its bound, named with both; None for a text that is too short to tell."""
    words = text.split()
    if len(words) < params.min_words:
        return None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and (share := duplicate_share(lines)) > params.max_duplicate_line_share:
        return f"duplicate lines {share:.3f} > {params.max_duplicate_line_share}"
    paragraphs = [part.strip() for part in PARAGRAPHS.split(text) if part.strip()]
    if len(paragraphs) > 1 and (share := duplicate_share(paragraphs)) > params.max_duplicate_paragraph_share:
        return f"duplicate paragraphs {share:.3f} > {params.max_duplicate_paragraph_share}"
    return _broken_ngram_share(words, params)


def duplicate_share(parts: Sequence[str]) -> float:
    """The share of parts that are equal to one before them."""
    return 1 - len(set(parts)) / len(parts) if parts else 0.0


def top_ngram_char_share(words: Sequence[str], size: int) -> float:
    """The share of characters in the commonest n-gram of `size` words, 0 when none comes twice."""
    counts = Counter(zip(*(words[start:] for start in range(size)), strict=False))
    most = max(counts.values(), default=0)
    if most < 2:
        return 0.0
    longest = max(sum(map(len, ngram)) for ngram, count in counts.items() if count == most)
    return min(longest * most / sum(map(len, words)), 1.0)


def duplicate_ngram_char_share(words: Sequence[str], size: int) -> float:
    """The share of characters in n-grams of `size` words that came before, each word counted once."""
    seen: set[tuple[str, ...]] = set()
    repeated = 0
    counted_to = 0
    for start in range(len(words) - size + 1):
        ngram = tuple(words[start : start + size])
        if ngram in seen:
            repeated += sum(map(len, words[max(start, counted_to) : start + size]))
            counted_to = start + size
        seen.add(ngram)
    return repeated / sum(map(len, words)) if repeated else 0.0


def _broken_ngram_share(words: Sequence[str], params: RepetitionParams) -> str | None:
    for size, bound in zip(TOP_SIZES, params.max_top_ngram_char_shares, strict=True):
        if (share := top_ngram_char_share(words, size)) > bound:
            return f"top {size}-gram {share:.3f} > {bound}"
    shortest = DUPLICATE_SIZES[0]
    if not _has_duplicate(words, shortest):  # then no longer one comes twice either
        return None
    for size, bound in zip(DUPLICATE_SIZES, params.max_duplicate_ngram_char_shares, strict=True):
        if (share := duplicate_ngram_char_share(words, size)) > bound:
            return f"duplicate {size}-grams {share:.3f} > {bound}"
    return None


def _has_duplicate(words: Sequence[str], size: int) -> bool:
    count = len(words) - size + 1
    return len(set(zip(*(words[start:] for start in range(size)), strict=False))) < count
