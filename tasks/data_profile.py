"""What a data set looks like, to compare the next one with: shares of sources, completions and token lengths."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from tasks.records import DataProfile, Example

MAX_COMPLETIONS = 200
MAX_COMPLETION_CHARS = 200
MIN_ROWS_PER_COMPLETION = 20
"""Chance alone gives a population stability index of about 2 k / n for k values in n rows: at most 0.1 with this."""
OTHER = "any other answer"
"""What stands for all completions that are not among the champion's, where there are too few rows to count each."""


class CompletionCounts:
    """The completions of a data set while they are few: answers of a classifier are, free texts are not.

    Replay is left out: its free answers say nothing about the labels.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] | None = Counter()

    def add_examples(self, examples: Iterable[Example]) -> None:
        """Count the completions of some more examples."""
        for example in examples:
            if self.counts is None:
                return
            if example.role != "replay":
                self._add(example.completion, 1)

    def add(self, other: "CompletionCounts") -> None:
        """Count what others have counted."""
        if other.counts is None:
            self.counts = None
        else:
            for completion, count in other.counts.items():
                self._add(completion, count)

    def _add(self, completion: str, count: int) -> None:
        if self.counts is None:
            return
        self.counts[completion] += count
        if len(completion) > MAX_COMPLETION_CHARS or len(self.counts) > MAX_COMPLETIONS:
            self.counts = None

    def labels(self, known: Collection[str] = ()) -> Counter[str]:
        """The counts, or none when the completions are no labels: too many, too long, or too few rows of each.

        Where there are too few rows of each, `known` completions, the champion's, are still counted if there are enough
        rows for these; all others are counted as one.
        """
        counts = self.counts or Counter()
        if counts.total() >= MIN_ROWS_PER_COMPLETION * len(counts):
            return counts
        among = Counter({value: counts[value] for value in known if counts[value]})
        among[OTHER] += counts.total() - among.total()
        is_enough = counts.total() >= MIN_ROWS_PER_COMPLETION * len({*known, OTHER})
        return +among if known and is_enough else Counter()


def build_profile(
    rows: Mapping[str, int],
    sources: Mapping[str, int],
    tokens: Mapping[int, int],
    completions: CompletionCounts,
    known: Collection[str] = (),
) -> DataProfile:
    """The profile of a data set.

    Args:
        rows: rows by partition.
        sources: rows by source.
        tokens: rows by length in tokens.
        completions: the completions, counted.
        known: the completions that the champion's profile has shares of.
    """
    lengths: Counter[str] = Counter()
    for length in sorted(tokens):
        lengths[power_of_two(length)] += tokens[length]
    labels = completions.labels(known)
    columns = {"source": dict(sorted(sources.items())), "completion": labels, "tokens": lengths}
    return DataProfile(
        rows=dict(rows),
        shares={column: shares(counts) for column, counts in columns.items() if counts},
        too_few_rows=("completion",) if completions.counts and not labels else (),
    )


def power_of_two(length: int) -> str:
    """The range between powers of two that a length lies in, such as 64-127."""
    low = 1 << (length.bit_length() - 1) if length > 0 else 0
    return f"{low}-{2 * low - 1}" if low else "0"


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Counts as shares of their sum, rounded to a millionth."""
    total = sum(counts.values())
    return {value: round(count / total, 6) for value, count in counts.items()}
