"""lm-eval's results as they really look, and as they look when something is missing."""

from typing import Any

import pytest

from tasks.errors import EvidenceMissing
from tasks.evaluate_parsing import parse_samples, parse_scores

CHOICES = [("Which planet is red?", " Venus"), ("Which planet is red?", " Mars")]


def results(*samples: dict[str, Any], metric: str = "acc") -> dict[str, Any]:
    return {"samples": {"planets": list(samples)}, "higher_is_better": {"planets": {metric: True}}}


def chosen(item: int, likelihoods: tuple[float, float], acc: object, filter_name: str = "none") -> dict[str, Any]:
    """A multiple-choice item as lm-eval logs it; its document keeps choices in a form of its own, as ARC's do."""
    return {
        "doc_id": item,
        "doc": {"choices": {"text": ["Venus", "Mars"], "label": ["A", "B"]}},
        "target": "1",
        "arguments": CHOICES,
        "filtered_resps": [(likelihood, False) for likelihood in likelihoods],
        "filter": filter_name,
        "metrics": ["acc"],
        "acc": acc,
    }


def test_target_and_answer_of_a_choice_are_the_texts_that_were_scored() -> None:
    wrong, right = parse_samples("planets", results(chosen(1, (-1.0, -2.0), 0.0), chosen(0, (-2.0, -1.0), 1.0)))[::-1]
    assert (wrong.target, wrong.answer) == (" Mars", " Venus")
    assert (right.item, right.target, right.answer) == (0, " Mars", " Mars")


def test_of_several_filters_an_item_is_shown_once_and_every_one_is_scored() -> None:
    drawn = results(chosen(0, (-2.0, -1.0), 0.0, "strict"), chosen(0, (-2.0, -1.0), 1.0, "flexible"))
    assert [sample.metrics for sample in parse_samples("planets", drawn)] == [{"acc": 1.0}]
    assert [(score.filter_name, score.value) for score in parse_scores("planets", drawn)] == [
        ("flexible", 1.0), ("strict", 0.0),
    ]  # fmt: skip


def test_a_generated_answer_is_itself_a_number_too() -> None:
    sample = {
        "doc_id": 0, "doc": {}, "target": "0", "arguments": [("How many?", {"until": []})], "filtered_resps": ["7"],
        "filter": "none", "metrics": ["acc"], "acc": 0.0,
    }  # fmt: skip
    (parsed,) = parse_samples("planets", results(sample))
    assert (parsed.target, parsed.answer) == ("0", "7")


def test_scores_are_kept_item_by_item_in_item_order() -> None:
    (score,) = parse_scores("planets", results(*(chosen(item, (0.0, 0.0), float(item > 0)) for item in (2, 0, 1))))
    assert score.value == pytest.approx(2 / 3)
    assert (score.per_sample, score.samples) == ((0.0, 1.0, 1.0), 3)
    assert score.stderr == pytest.approx(1 / 3)


@pytest.mark.parametrize("figure", ["N/A", float("nan"), None, True])
def test_what_is_no_finite_number_is_no_evidence(figure: object) -> None:
    with pytest.raises(EvidenceMissing, match="planets item 0: acc is"):
        parse_scores("planets", results(chosen(0, (0.0, 0.0), figure)))


def test_a_benchmark_without_samples_is_no_evidence() -> None:
    with pytest.raises(EvidenceMissing, match="planets: lm-eval returned no samples"):
        parse_scores("planets", {"samples": {}, "higher_is_better": {"planets": {}}})
