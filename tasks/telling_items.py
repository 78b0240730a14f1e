"""The items of the benchmarks that tell most about a verdict: what a person should look at first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from tasks.records import Sample
from tasks.verdict_records import RuleResult, Verdict

Key = tuple[str, int]
GAINS = {"min_value", "min_gain_over_base", "gain_over_champion"}


@dataclass(frozen=True)
class TellingItem:
    """One item, what both models answered, and what that is for the rule."""

    candidate: Sample
    base: Sample
    metric: str
    what: str

    @property
    def change(self) -> float:
        """Candidate minus base, in the metric."""
        return self.candidate.metrics[self.metric] - self.base.metrics[self.metric]


def telling_items(
    verdict: Verdict, base: Sequence[Sample], candidate: Sequence[Sample], most: int = 10
) -> list[TellingItem]:
    """The most telling items, of every rule in turn; of one that does not hold first.

    Where a loss is in question these are the items that were lost, where a gain is those that are still wrong; of rules
    that hold the items that were gained and lost. The largest changes come first, then the order of the benchmark.
    """
    answers: dict[Key, Sample] = {(sample.benchmark, sample.item): sample for sample in base}
    pairs = [(answers[key], sample) for sample in candidate if (key := (sample.benchmark, sample.item)) in answers]
    judged = [result for result in verdict.results if result.items is not None]
    asked = [result for result in judged if not result.passed] or judged
    columns = [list(_of_rule(result, pairs)) for result in _once(asked)]
    found: dict[Key, TellingItem] = {}
    for item in chain.from_iterable(zip_longest(*columns)):
        if item is not None:
            found.setdefault((item.candidate.benchmark, item.candidate.item), item)
    return list(found.values())[:most]


def _once(results: Sequence[RuleResult]) -> Iterator[RuleResult]:
    """A result for each benchmark, metric and kind of question."""
    seen: Mapping[tuple[str, str, bool], RuleResult] = {
        (result.benchmark, result.metric, result.condition in GAINS): result for result in reversed(results)
    }
    yield from reversed(list(seen.values()))


def _of_rule(result: RuleResult, pairs: Sequence[tuple[Sample, Sample]]) -> Iterator[TellingItem]:
    own = [
        (base, candidate)
        for base, candidate in pairs
        if candidate.benchmark == result.benchmark
        and result.metric in candidate.metrics
        and result.metric in base.metrics
    ]
    metric = result.metric
    items = [TellingItem(candidate, base, metric, _what(base, candidate, metric)) for base, candidate in own]
    if result.passed:
        yield from sorted((item for item in items if item.change), key=lambda item: -abs(item.change))
    elif result.condition in GAINS:
        best = max((item.candidate.metrics[metric] for item in items), default=0.0)
        wrong = [item for item in items if item.candidate.metrics[metric] < best]
        yield from sorted(wrong, key=lambda item: (item.candidate.metrics[metric], item.change))
    else:
        yield from sorted((item for item in items if item.change < 0), key=lambda item: item.change)


def _what(base: Sample, candidate: Sample, metric: str) -> str:
    was, now = base.metrics[metric], candidate.metrics[metric]
    if now > was:
        return "gained: the candidate does better than the base"
    if now < was:
        return "lost: the candidate does worse than the base"
    return "unchanged: the candidate does as the base does"
