"""lm-eval's results into our records, once: it writes "N/A" where it has no figure, and NaN passes any `<`.

A benchmark that is a group or a tag has the items of all its tasks, counted through in the order of the results.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, Literal

from tasks.errors import EvidenceMissing
from tasks.item_figures import ItemFigures, item_figures
from tasks.records import Ending, Sample, Score

Drawn = Sequence[Mapping[str, Any]]
"""What lm-eval logged of the items of one task through one filter, in item order."""


def finite(metrics: Mapping[str, object], key: str, where: str) -> float:
    """One finite number out of lm-eval's metrics; an outcome that is true or false is 1 or 0.

    Raises:
        EvidenceMissing: it is absent, "N/A" or NaN.
    """
    value = metrics.get(key)
    if not isinstance(value, Real) or not math.isfinite(value):
        raise EvidenceMissing(f"{where}: {key} is {value!r}, not a finite number")
    return float(value)


def parse_scores(benchmark: str, results: Mapping[str, Any]) -> list[Score]:
    """Every metric of one benchmark that has a figure for each item, with these in item order.

    Raises:
        EvidenceMissing: there are no samples, a figure is not finite, or no metric has a figure for each item.
    """
    _require_samples(benchmark, results)
    scores, why_not = [], []
    for filter_name in _filters(results):
        drawn = {task: _drawn(results, task, filter_name) for task in results["samples"]}
        for metric in _shared_metrics(drawn):
            found = _score(benchmark, results, drawn, metric, filter_name)
            scores += [found] if isinstance(found, Score) else []
            why_not += [] if isinstance(found, Score) else [f"{metric} ({found})"]
    if not scores:
        raise EvidenceMissing(f"{benchmark}: no metric can be compared item by item: {', '.join(why_not) or 'none'}")
    if why_not:
        print(f"evaluate: {benchmark}: not scored, as no rule could compare it: {', '.join(why_not)}", flush=True)
    return scores


def _require_samples(benchmark: str, results: Mapping[str, Any]) -> None:
    empty = [task for task, samples in results["samples"].items() if not samples]
    if empty or not results["samples"]:
        raise EvidenceMissing(f"{benchmark}: lm-eval returned no samples{' of ' if empty else ''}{', '.join(empty)}")


def _filters(results: Mapping[str, Any]) -> list[str]:
    """The filters that every task has, by name."""
    sets = [{sample["filter"] for sample in samples} for samples in results["samples"].values()]
    return sorted(set.intersection(*sets))


def _drawn(results: Mapping[str, Any], task: str, filter_name: str) -> Drawn:
    samples = [sample for sample in results["samples"][task] if sample["filter"] == filter_name]
    return sorted(samples, key=lambda sample: int(sample["doc_id"]))


def _shared_metrics(drawn: Mapping[str, Drawn]) -> list[str]:
    """The metrics that every task has, by name."""
    return sorted(set.intersection(*(set(samples[0]["metrics"]) for samples in drawn.values())))


def _score(
    benchmark: str, results: Mapping[str, Any], drawn: Mapping[str, Drawn], metric: str, filter_name: str
) -> Score | str:
    """One score over the items of all tasks, or why there is none."""
    figures = [_figures(benchmark, results["results"][task], drawn[task], metric, filter_name) for task in drawn]
    directions = {results["higher_is_better"][task].get(metric) for task in drawn}
    if not all(isinstance(found, ItemFigures) for found in figures):
        return "its figure is not made of one for each item"
    if len(directions) > 1 or None in directions:
        return "its definition does not say whether more is better"
    whole = [found for found in figures if isinstance(found, ItemFigures)]
    scales: set[Literal["mean", "log"]] = {found.scale for found in whole}
    if len(scales) > 1:
        return "its tasks are on different scales"
    (scale,), (direction,) = scales, directions
    joined = ItemFigures(tuple(part for found in whole for part in found.parts), scale)
    return Score(
        benchmark=benchmark,
        metric=metric,
        filter_name=filter_name,
        value=joined.value,
        stderr=_stderr(joined),
        samples=len(joined.parts),
        higher_is_better=bool(direction),
        per_sample=joined.parts,
        scale=scale,
    )


def _figures(
    benchmark: str, aggregated: Mapping[str, object], drawn: Drawn, metric: str, filter_name: str
) -> ItemFigures | None:
    for sample in drawn:
        if not isinstance(sample.get(metric), tuple | list):
            finite(sample, metric, f"{benchmark} item {sample['doc_id']}")
    values = [tuple(value) if isinstance(value := sample[metric], list) else value for sample in drawn]
    figure = finite(aggregated, f"{metric},{filter_name}", f"{benchmark}, all items")
    return item_figures(values, figure)


def _stderr(figures: ItemFigures) -> float | None:
    """Standard error of the mean with the n-1 estimate of the variance, as lm-eval's `mean_stderr`.

    On scale `log` by the delta method: the score times the error of its logarithm.
    """
    parts = figures.parts
    if len(parts) < 2:
        return None
    mean = sum(parts) / len(parts)
    error = math.sqrt(sum((part - mean) ** 2 for part in parts) / (len(parts) - 1) / len(parts))
    return error * figures.value if figures.scale == "log" else error


def parse_samples(
    benchmark: str, results: Mapping[str, Any], scores: Sequence[Score], endings: Mapping[str, Ending]
) -> list[Sample]:
    """What was asked and answered, item by item, for people to read; of several filters the first by name.

    Args:
        benchmark: the benchmark's name.
        results: what lm-eval returned for it.
        scores: what `parse_scores` made of them.
        endings: how the answers to prompts ended, where the engine tells.
    """
    first = min(score.filter_name for score in scores)
    shown = [score for score in scores if score.filter_name == first]
    return [
        Sample(
            benchmark=benchmark,
            item=item,
            prompt=str(sample["arguments"][0][0]),
            target=_target(sample),
            answer=_answer(sample),
            metrics={score.metric: score.per_sample[item] for score in shown},
            ending=_ending(sample, endings),
        )
        for item, sample in enumerate(_all_drawn(results, first))
    ]


def _ending(sample: Mapping[str, Any], endings: Mapping[str, Ending]) -> Ending | None:
    """How a generated answer ended; lm-eval asks for one with a prompt and the settings of the generation."""
    prompt, *rest = sample["arguments"][0]
    return endings.get(str(prompt), "unknown") if rest and isinstance(rest[0], Mapping) else None


def _all_drawn(results: Mapping[str, Any], filter_name: str) -> Iterator[Mapping[str, Any]]:
    for task in results["samples"]:
        yield from _drawn(results, task, filter_name)


def _target(sample: Mapping[str, Any]) -> str:
    """The text that is asked for; of a multiple choice lm-eval gives the place among the choices."""
    target = str(sample["target"])
    choices = sample["arguments"]
    if len(choices) < 2 or not target.isdecimal() or int(target) >= len(choices):
        return target
    return str(choices[int(target)][1])


def _answer(sample: Mapping[str, Any]) -> str:
    """The generated text, or the continuation that the model finds likeliest; of a single one how likely it is."""
    answers = sample["filtered_resps"]
    if isinstance(answers[0], str | list):  # a filter that keeps several answers gives a list of them
        return str(answers[0])
    likelihoods = [float(answer[0]) if isinstance(answer, tuple) else float(answer) for answer in answers]
    if len(likelihoods) == 1:
        return f"log-likelihood {likelihoods[0]:.4f}"
    return str(sample["arguments"][likelihoods.index(max(likelihoods))][1])
