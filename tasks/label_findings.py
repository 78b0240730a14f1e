"""What data and answers show of the labels: that they contradict each other, that they stand for one another."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tasks.finding_changes import PreparedWith
from tasks.findings import Changes, Finding
from tasks.records import Conflict, Sample
from tasks.verdict_records import LabelNoise, SwappedLabels

LEAST_SHARE, LEAST_PAIRS = 0.01, 3
"""Fewer rows than this, of those that were compared, are the odd slip that every source has."""

LEAST_ITEMS, LEAST_SWAPPED = 5, 2
"""A label with fewer items says nothing; one label alone may be learned for another, two and more were given so."""

LEAST_SWAPPED_SHARE = 0.125
"""Of the labels. A weak adapter mixes up some too: of the default's 32 it was 3 where the adapter was weakened or
trained on other rows, 8 and 17 where labels had been exchanged on purpose (benchmarks/truth.py)."""

Answers = Mapping[str, Counter[str]]
"""The answers to the items of each label, counted."""


def count_noise(conflicts: Iterable[Conflict], compared: int) -> LabelNoise:
    """The conflicts in numbers.

    Args:
        conflicts: of `dedup`, in their order.
        compared: how many rows `dedup` compared.
    """
    pairs = [(conflict.left, conflict.right) for conflict in conflicts]
    rows = {row for pair in pairs for row in pair}
    return LabelNoise(pairs=len(pairs), rows=len(rows), compared=compared, example=pairs[0] if pairs else None)


def label_findings(noise: LabelNoise | None, prepared: PreparedWith | None) -> Iterator[Finding]:
    """That rows which ask the same have different answers, where it is more than the odd slip."""
    if noise is None or noise.pairs < LEAST_PAIRS or noise.rows < LEAST_SHARE * noise.compared:
        return
    share = noise.rows / noise.compared if noise.compared else 1.0
    stay = prepared is not None and prepared.conflicting_answers == "keep"
    example = "" if noise.example is None else f", such as {' and '.join(noise.example)}"
    changes: list[Changes] = [{"dedup.conflicting_answers": "drop"}] if stay else []
    yield Finding(
        mode="noisy_data",
        evidence={"pairs": noise.pairs, "rows": noise.rows, "compared": noise.compared},
        sentence=f"{noise.pairs:,} pairs of rows ask the same and have different answers{example} ({noise.rows:,} "
        f"rows, {100 * share:.1f} % of those compared)",
        mitigation=f"mend the labels in the sources (`tunegate data why ID` shows a row); {_of_others(stay=stay)}",
        changes=tuple(changes),
    )


def _of_others(*, stay: bool) -> str:
    if stay:
        return "dedup.conflicting_answers drop leaves such rows out of the training"
    return "rows without a twin are likely to be wrong as often, and no rule can see those"


def count_swaps(samples: Sequence[Sample]) -> tuple[SwappedLabels, ...]:
    """The labels of each benchmark that the candidate answers with another label.

    A label is swapped when most of its items get one other label, whose own items mostly do not get it. A label that is
    given too often, as the commonest one may be, is right on its own items and so swaps none.
    """
    return tuple(
        found
        for name in dict.fromkeys(sample.benchmark for sample in samples)
        if (found := _swaps(name, [sample for sample in samples if sample.benchmark == name])) is not None
    )


def _swaps(benchmark: str, samples: Sequence[Sample]) -> SwappedLabels | None:
    """None of a benchmark whose right answers are no labels: hardly one is that of several items."""
    answers: dict[str, Counter[str]] = {}
    for sample in samples:
        answers.setdefault(sample.target.strip(), Counter())[sample.answer.strip()] += 1
    labels = {label: given for label, given in answers.items() if given.total() >= LEAST_ITEMS}
    swapped = {label: given for label in labels if (given := _given_instead(label, labels)) is not None}
    if len(labels) < LEAST_SWAPPED:
        return None
    return SwappedLabels(
        benchmark=benchmark,
        labels=len(labels),
        swapped=len(swapped),
        items=sum(labels[label].total() for label in swapped),
        example=next(iter(swapped.items()), None),
    )


def _given_instead(label: str, labels: Answers) -> str | None:
    (answer, times), *_ = labels[label].most_common(1)
    is_other = answer != label and answer in labels and 2 * times > labels[label].total()
    return answer if is_other and 2 * labels[answer][answer] < labels[answer].total() else None


def swap_findings(found: Sequence[SwappedLabels]) -> Iterator[Finding]:
    """That labels stand for one another, of each benchmark where several do, and no small part of all."""
    for one in found:
        if one.swapped < max(LEAST_SWAPPED, LEAST_SWAPPED_SHARE * one.labels) or one.example is None:
            continue
        label, answer = one.example
        yield Finding(
            mode="noisy_data",
            evidence={"benchmark": one.benchmark, "labels": one.labels, "swapped": one.swapped, "items": one.items},
            sentence=f"{one.swapped} of {one.labels} labels of {one.benchmark} are answered with another one, whose "
            f"own items are not: most items of {label!r} with {answer!r}",
            mitigation="the labels of the training rows look swapped; hold them against the benchmark's in the sources",
        )
