"""lm-eval's results into our records, once: it writes "N/A" where it has no figure, and NaN passes any `<`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.errors import EvidenceMissing
from tasks.records import Sample, Score


def finite(metrics: Mapping[str, object], key: str, where: str) -> float:
    """One finite number out of lm-eval's metrics.

    Raises:
        EvidenceMissing: it is absent, "N/A" or NaN.
    """
    value = metrics.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise EvidenceMissing(f"{where}: {key} is {value!r}, not a finite number")
    return float(value)


def parse_scores(benchmark: str, results: Mapping[str, Any]) -> list[Score]:
    """Every metric of one benchmark, with its value for each item in item order.

    Raises:
        EvidenceMissing: there are no samples, or a metric has no finite value.
    """
    samples = sorted(results["samples"].get(benchmark, ()), key=lambda sample: int(sample["doc_id"]))
    if not samples:
        raise EvidenceMissing(f"{benchmark}: lm-eval returned no samples")
    directions = results["higher_is_better"][benchmark]
    scores = []
    for filter_name in sorted({sample["filter"] for sample in samples}):
        drawn = [sample for sample in samples if sample["filter"] == filter_name]
        for metric in sorted(drawn[0]["metrics"]):
            values = [finite(sample, metric, f"{benchmark} item {sample['doc_id']}") for sample in drawn]
            value = sum(values) / len(values)
            scores.append(
                Score(
                    benchmark=benchmark,
                    metric=metric,
                    filter_name=filter_name,
                    value=value,
                    stderr=_stderr(values, value),
                    samples=len(values),
                    higher_is_better=bool(directions[metric]),
                    per_sample=tuple(values),
                )
            )
    return scores


def _stderr(values: Sequence[float], mean: float) -> float | None:
    """Standard error of the mean with the n-1 estimate of the variance, as lm-eval's `mean_stderr`."""
    if len(values) < 2:
        return None
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))


def parse_samples(benchmark: str, results: Mapping[str, Any]) -> list[Sample]:
    """What was asked and answered, item by item, for people to read; of several filters the first by name."""
    drawn = results["samples"][benchmark]
    first = min(sample["filter"] for sample in drawn)
    return [
        Sample(
            benchmark=benchmark,
            item=int(sample["doc_id"]),
            prompt=str(sample["arguments"][0][0]),
            target=_target(sample),
            answer=_answer(sample),
            metrics={metric: finite(sample, metric, benchmark) for metric in sorted(sample["metrics"])},
        )
        for sample in sorted(drawn, key=lambda sample: int(sample["doc_id"]))
        if sample["filter"] == first
    ]


def _target(sample: Mapping[str, Any]) -> str:
    """The text that is asked for; of a multiple choice lm-eval gives the place among the choices."""
    target = str(sample["target"])
    if _is_generated(sample) or not target.isdecimal() or int(target) >= len(sample["arguments"]):
        return target
    return str(sample["arguments"][int(target)][1])


def _answer(sample: Mapping[str, Any]) -> str:
    """The generated text, or the continuation that the model finds likeliest."""
    answers = sample["filtered_resps"]
    if _is_generated(sample):
        return str(answers[0])
    likelihoods = [float(answer[0]) for answer in answers]
    return str(sample["arguments"][likelihoods.index(max(likelihoods))][1])


def _is_generated(sample: Mapping[str, Any]) -> bool:
    return isinstance(sample["filtered_resps"][0], str)
