import pytest

from tasks.records import Sample
from tasks.telling_items import telling_items
from tasks.verdict_records import Outcome, RuleResult, Verdict


def samples(right: dict[int, float], benchmark: str = "routing", items: int = 6) -> list[Sample]:
    return [
        Sample(
            benchmark=benchmark, item=item, prompt=f"p{item}", target="t", answer="a",
            metrics={"exact_match": right.get(item, 0.0)},
        )
        for item in range(items)
    ]  # fmt: skip


def result(condition: str, outcome: Outcome, benchmark: str = "routing") -> RuleResult:
    return RuleResult(
        benchmark=benchmark, metric="exact_match", condition=condition, threshold=0.1, found=0.1, outcome=outcome,
        reason="", items=6,
    )  # fmt: skip


def verdict(*results: RuleResult) -> Verdict:
    return Verdict(
        verdict="refused", adapter_digest="a", confidence=0.95, results=results, comparisons={}, failures=(),
        diagnosis=(),
    )  # fmt: skip


BASE, CANDIDATE = samples({0: 1.0, 1: 1.0, 2: 0.5}), samples({1: 1.0, 3: 1.0, 4: 0.5})


@pytest.mark.parametrize(
    ("condition", "outcome", "expected"),
    [
        ("max_loss_from_base", "refused", [0, 2]),
        ("min_gain_over_base", "inconclusive", [0, 2, 5, 4]),
        ("min_value", "refused", [0, 2, 5, 4]),
        ("min_value", "passed", [0, 3, 2, 4]),
    ],
)
def test_the_items_are_those_that_the_question_is_about(condition: str, outcome: Outcome, expected: list[int]) -> None:
    found = telling_items(verdict(result(condition, outcome)), BASE, CANDIDATE)
    assert [item.candidate.item for item in found] == expected


def test_rules_that_do_not_hold_come_first_and_take_turns() -> None:
    base = BASE + samples({0: 1.0}, "other")
    candidate = CANDIDATE + samples({}, "other")
    asked = verdict(
        result("min_value", "passed"), result("max_loss_from_base", "refused"),
        result("max_loss_from_base", "refused", "other"), result("max_loss_from_champion", "refused", "other"),
    )  # fmt: skip
    found = telling_items(asked, base, candidate)
    assert [(item.candidate.benchmark, item.candidate.item) for item in found] == [
        ("routing", 0), ("other", 0), ("routing", 2),
    ]  # fmt: skip
    assert found[0].what == "lost: the candidate does worse than the base"


def test_no_more_items_than_asked_for_and_none_without_samples() -> None:
    asked = verdict(result("min_value", "refused"))
    assert len(telling_items(asked, BASE, CANDIDATE, most=2)) == 2
    assert telling_items(asked, [], CANDIDATE) == []
