"""Items of the benchmarks whose answer turned right or wrong from one model to the candidate."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.records import Sample

RIGHT = 0.5
"""An item is right from this value of its metric on."""


@dataclass(frozen=True)
class Flip:
    """One benchmark item that the other model and the candidate answered differently in the eyes of the metric."""

    item: int
    prompt: str
    target: str
    other_answer: str
    candidate_answer: str


@dataclass(frozen=True)
class Flips:
    """How the candidate changed the right and wrong answers of `other` on one benchmark, by one metric."""

    other: Literal["base", "champion"]
    benchmark: str
    metric: str
    both_right: int
    both_wrong: int
    gained: tuple[Flip, ...]
    lost: tuple[Flip, ...]


def flips(
    name: Literal["base", "champion"], other: Sequence[Sample], candidate: Sequence[Sample], metrics: Mapping[str, str]
) -> Iterator[Flips]:
    """Pair the items of two models by benchmark and number, and sort them by who was right.

    Args:
        name: who the other model is.
        other: its samples; one whose question or target is another than the candidate's is no pair.
        candidate: samples of the candidate.
        metrics: the metric to judge each benchmark by.
    """
    answers = {(sample.benchmark, sample.item): sample for sample in candidate}
    for benchmark, metric in metrics.items():
        pairs = [
            (sample, ours)
            for sample in other
            if sample.benchmark == benchmark
            and (ours := answers.get((benchmark, sample.item))) is not None
            and (sample.prompt, sample.target) == (ours.prompt, ours.target)
            and metric in sample.metrics
            and metric in ours.metrics
        ]
        if pairs:
            yield _sorted_pairs(name, benchmark, metric, pairs)


def _sorted_pairs(
    name: Literal["base", "champion"], benchmark: str, metric: str, pairs: Sequence[tuple[Sample, Sample]]
) -> Flips:
    kinds: dict[tuple[bool, bool], list[Flip]] = {(a, b): [] for a in (False, True) for b in (False, True)}
    for other, ours in pairs:
        flip = Flip(other.item, other.prompt, other.target, other.answer, ours.answer)
        kinds[other.metrics[metric] >= RIGHT, ours.metrics[metric] >= RIGHT].append(flip)
    return Flips(
        other=name,
        benchmark=benchmark,
        metric=metric,
        both_right=len(kinds[True, True]),
        both_wrong=len(kinds[False, False]),
        gained=tuple(kinds[False, True]),
        lost=tuple(kinds[True, False]),
    )
