"""lm-eval's results as they really look, and as they look when something is missing."""

import math
from typing import Any

import pytest

from tasks.errors import EvidenceMissing
from tasks.evaluate_parsing import parse_samples, parse_scores
from tasks.records import Sample

CHOICES = [("Which planet is red?", " Venus"), ("Which planet is red?", " Mars")]


def results(*samples: dict[str, Any], metric: str = "acc", figure: object = None) -> dict[str, Any]:
    """What lm-eval returns, with the means of the items as its own figures, or `figure`."""
    aggregated: dict[str, object] = {}
    for name in {sample["filter"] for sample in samples}:
        values = [sample[metric] for sample in samples if sample["filter"] == name]
        is_plain = all(isinstance(value, float) for value in values)
        aggregated[f"{metric},{name}"] = sum(values) / len(values) if is_plain and figure is None else figure
    return {
        "samples": {"planets": list(samples)},
        "higher_is_better": {"planets": {metric: True}},
        "results": {"planets": aggregated},
    }


def samples_of(found: dict[str, Any]) -> list[Sample]:
    return parse_samples("planets", found, parse_scores("planets", found), {"How many?": "limit"})


def rolled(item: int, likelihood: float, weight: int, metric: str) -> dict[str, Any]:
    """An item of a perplexity as lm-eval logs it."""
    return {
        "doc_id": item, "doc": {}, "target": "text", "arguments": [("text",)], "filtered_resps": [likelihood],
        "filter": "none", "metrics": [metric], metric: (likelihood, weight),
    }  # fmt: skip


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
    wrong, right = samples_of(results(chosen(1, (-1.0, -2.0), 0.0), chosen(0, (-2.0, -1.0), 1.0)))[::-1]
    assert (wrong.target, wrong.answer) == (" Mars", " Venus")
    assert (right.item, right.target, right.answer) == (0, " Mars", " Mars")


def test_of_several_filters_an_item_is_shown_once_and_every_one_is_scored() -> None:
    drawn = results(chosen(0, (-2.0, -1.0), 0.0, "strict"), chosen(0, (-2.0, -1.0), 1.0, "flexible"))
    assert [sample.metrics for sample in samples_of(drawn)] == [{"acc": 1.0}]
    assert [(score.filter_name, score.value) for score in parse_scores("planets", drawn)] == [
        ("flexible", 1.0), ("strict", 0.0),
    ]  # fmt: skip


def test_a_generated_answer_is_itself_a_number_too() -> None:
    sample = {
        "doc_id": 0, "doc": {}, "target": "0", "arguments": [("How many?", {"until": []})], "filtered_resps": ["7"],
        "filter": "none", "metrics": ["acc"], "acc": 0.0,
    }  # fmt: skip
    (parsed,) = samples_of(results(sample))
    assert (parsed.target, parsed.answer) == ("0", "7")


@pytest.mark.parametrize(("prompt", "ending"), [("How many?", "limit"), ("How much?", "unknown")])
def test_how_a_generated_answer_ended_is_kept_where_the_engine_tells(prompt: str, ending: str) -> None:
    sample = {
        "doc_id": 0, "doc": {}, "target": "0", "arguments": [(prompt, {"until": []})], "filtered_resps": ["7"],
        "filter": "none", "metrics": ["acc"], "acc": 0.0,
    }  # fmt: skip
    (parsed,) = samples_of(results(sample))
    assert parsed.ending == ending


def test_an_answer_that_was_chosen_or_only_scored_has_no_ending() -> None:
    (chosen_one,) = samples_of(results(chosen(0, (-1.0, -2.0), 0.0)))
    (scored,) = samples_of(results(rolled(0, -4.0, 4, "acc"), metric="acc", figure=math.e))
    assert (chosen_one.ending, scored.ending) == (None, None)


def test_scores_are_kept_item_by_item_in_item_order() -> None:
    (score,) = parse_scores("planets", results(*(chosen(item, (0.0, 0.0), float(item > 0)) for item in (2, 0, 1))))
    assert score.value == pytest.approx(2 / 3)
    assert (score.per_sample, score.samples) == ((0.0, 1.0, 1.0), 3)
    assert score.stderr == pytest.approx(1 / 3)


@pytest.mark.parametrize("figure", ["N/A", math.nan, math.inf, None])
def test_what_is_no_finite_number_is_no_evidence(figure: object) -> None:
    with pytest.raises(EvidenceMissing, match="planets item 0: acc is"):
        parse_scores("planets", results(chosen(0, (0.0, 0.0), figure)))


@pytest.mark.parametrize(("outcome", "value"), [(True, 1.0), (False, 0.0)])
def test_an_outcome_that_is_true_or_false_is_one_or_zero(outcome: bool, value: float) -> None:
    (score,) = parse_scores("planets", results(chosen(0, (0.0, 0.0), outcome), figure=value))
    assert score.per_sample == (value,)


def test_a_benchmark_without_samples_is_no_evidence() -> None:
    with pytest.raises(EvidenceMissing, match="planets: lm-eval returned no samples"):
        parse_scores("planets", {"samples": {}, "higher_is_better": {"planets": {}}})


def test_one_task_of_a_group_without_samples_is_no_evidence() -> None:
    found = results(chosen(0, (0.0, 0.0), 1.0))
    with pytest.raises(EvidenceMissing, match="planets: lm-eval returned no samples of moons"):
        parse_scores("planets", found | {"samples": found["samples"] | {"moons": []}})


def test_a_perplexity_is_kept_in_parts_whose_mean_is_its_logarithm() -> None:
    drawn = [rolled(0, -4.0, 2, "word_perplexity"), rolled(1, -5.0, 4, "word_perplexity")]
    (score,) = parse_scores("planets", results(*drawn, metric="word_perplexity", figure=math.exp(9 / 6)))
    assert score.scale == "log"
    assert score.value == pytest.approx(math.exp(1.5))
    assert score.per_sample == pytest.approx((4 / 3, 5 / 3))
    assert samples_of(results(*drawn, metric="word_perplexity", figure=math.exp(9 / 6)))[1].metrics == {
        "word_perplexity": pytest.approx(5 / 3)
    }


def test_bits_per_byte_are_the_mean_of_their_parts() -> None:
    drawn = [rolled(0, -4.0, 2, "bits_per_byte"), rolled(1, -5.0, 4, "bits_per_byte")]
    (score,) = parse_scores("planets", results(*drawn, metric="bits_per_byte", figure=1.5 / math.log(2)))
    assert score.scale == "mean"
    assert score.value == pytest.approx(1.5 / math.log(2))


def test_a_figure_that_items_have_no_part_in_is_told_and_not_scored(capsys: pytest.CaptureFixture[str]) -> None:
    both = chosen(0, (-2.0, -1.0), 1.0) | {"metrics": ["acc", "f1"], "f1": (1, 0)}
    found = results(both)
    found["results"]["planets"]["f1,none"] = 0.25
    assert [score.metric for score in parse_scores("planets", found)] == ["acc"]
    assert "f1 (its figure is not made of one for each item)" in capsys.readouterr().out


def test_a_mean_that_is_not_the_harness_own_figure_is_not_taken_for_it() -> None:
    with pytest.raises(EvidenceMissing, match=r"no metric can be compared item by item: acc \(its figure"):
        parse_scores("planets", results(chosen(0, (0.0, 0.0), 1.0), chosen(1, (0.0, 0.0), 0.0), figure=0.75))


def test_a_metric_without_a_direction_is_not_scored() -> None:
    found = results(chosen(0, (0.0, 0.0), 1.0)) | {"higher_is_better": {"planets": {}}}
    with pytest.raises(EvidenceMissing, match=r"acc \(its definition does not say whether more is better\)"):
        parse_scores("planets", found)


def test_the_items_of_a_group_are_counted_through() -> None:
    found = results(chosen(0, (-1.0, -2.0), 0.0))
    for part in ("higher_is_better", "results"):
        found[part]["moons"] = found[part]["planets"] | ({"acc,none": 1.0} if part == "results" else {})
    found["samples"]["moons"] = [chosen(0, (-2.0, -1.0), 1.0), chosen(1, (-2.0, -1.0), 1.0)]
    (score,) = parse_scores("planets", found)
    assert score.per_sample == (0.0, 1.0, 1.0)
    assert [(sample.item, sample.answer) for sample in samples_of(found)] == [(0, " Venus"), (1, " Mars"), (2, " Mars")]
