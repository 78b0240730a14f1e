import pytest

from tasks.evals.ticket_routing.scoring import first_object, score

ITEM = {"text": "Where is my parcel?", "queue": "shipping", "priority": "normal"}
ALL_RIGHT = {"exact_match": 1.0, "queue_acc": 1.0, "priority_acc": 1.0}
ALL_WRONG = {"exact_match": 0.0, "queue_acc": 0.0, "priority_acc": 0.0}


def test_the_answer_that_training_teaches_scores_one() -> None:
    assert score(ITEM, ['{"queue": "shipping", "priority": "normal"}']) == ALL_RIGHT


@pytest.mark.parametrize(
    "answer",
    [
        '{"priority":"normal","queue":"shipping"}',
        'Sure! Here it is: {"queue": "shipping", "priority": "normal"} Anything else?',
        '```json {"queue": "shipping", "priority": "normal"} ```',
        '{"queue": " Shipping", "priority": "NORMAL"}',
        '{"queue": "shipping", "priority": "normal", "language": "en"}',
        'In {curly} words: {"queue": "shipping", "priority": "normal"}',
    ],
)
def test_the_dress_of_an_answer_does_not_matter(answer: str) -> None:
    assert score(ITEM, [answer]) == ALL_RIGHT


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"queue": "shipping", "priority": "high"}', {"exact_match": 0.0, "queue_acc": 1.0, "priority_acc": 0.0}),
        ('{"queue": "billing", "priority": "normal"}', {"exact_match": 0.0, "queue_acc": 0.0, "priority_acc": 1.0}),
        ('{"queue": "shipping"}', {"exact_match": 0.0, "queue_acc": 1.0, "priority_acc": 0.0}),
    ],
)
def test_each_label_is_scored_alone(answer: str, expected: dict[str, float]) -> None:
    assert score(ITEM, [answer]) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "shipping, normal",
        '{"queue": "shipping", "priority": "nor',
        "{'queue': 'shipping', 'priority': 'normal'}",
        '["shipping", "normal"]',
        '{"queue": ["shipping"], "priority": null}',
        "{" * 3000,
        '{"a":' * 3000,
    ],
)
def test_an_answer_that_does_not_parse_scores_zero(answer: str) -> None:
    assert score(ITEM, [answer]) == ALL_WRONG


def test_only_the_first_object_counts() -> None:
    answer = '{"queue": "sales", "priority": "low"} {"queue": "shipping", "priority": "normal"}'
    assert score(ITEM, [answer]) == ALL_WRONG


def test_the_first_object_of_an_answer_without_one_is_empty() -> None:
    assert first_object("no braces here") == {}
