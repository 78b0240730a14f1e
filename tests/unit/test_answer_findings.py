"""What generated answers show, counted item by item."""

import pytest

from tasks.answer_findings import answer_findings, count_faults
from tasks.records import Ending, Sample
from tasks.verdict_records import AnswerFaults
from tests.unit.evaluations import evaluation
from tests.unit.test_diagnosis import TRAINED

CANDIDATE = evaluation("candidate", 60)
BARE = evaluation("candidate", 60, chat_template_digest="")


def answered(
    answer: str, *, target: str = '{"queue": "sales"}', ending: Ending | None = "stopped", right: bool = False
) -> Sample:
    return Sample(
        benchmark="routing", item=0, prompt="p", target=target, answer=answer, metrics={"exact_match": float(right)},
        ending=ending,
    )  # fmt: skip


def faults(*samples: Sample) -> tuple[int, int, int]:
    (found,) = count_faults(samples)
    return found.at_limit, found.goes_on, found.marked


def test_a_right_answer_that_stops_has_no_fault() -> None:
    assert faults(answered('{"queue": "sales"}', right=True)) == (0, 0, 0)


def test_an_answer_at_its_greatest_length_is_counted_among_those_whose_ending_is_known() -> None:
    (found,) = count_faults([answered("a", ending="limit"), answered("b"), answered("c", ending="unknown")])
    assert (found.generated, found.known_endings, found.at_limit) == (3, 2, 1)


@pytest.mark.parametrize(
    ("answer", "target", "right", "count"),
    [
        ('{"queue": "sales"} Thank you', '{"queue": "sales"}', False, 1),
        ('{"queue": "sales"} Thank you', '{"queue": "sales"}', True, 0),
        ("42", "4", False, 0),
        ("4.", "4", False, 1),
        ("5", "4", False, 0),
        ("anything", " ", False, 0),
    ],
)
def test_a_wrong_answer_that_begins_right_and_goes_on_is_counted(
    answer: str, target: str, right: bool, count: int
) -> None:
    assert faults(answered(answer, target=target, right=right))[1] == count


@pytest.mark.parametrize(
    ("answer", "target", "count"),
    [
        ("sales<|im_end|>", "sales", 1),
        ("sales</s>", "sales", 1),
        ("sales\nuser\nand more", "sales", 1),
        ("[INST] sales", "sales", 1),
        ("user", "sales", 0),
        ("the user asks", "sales", 0),
        ("<|im_end|>", "<|im_end|>", 0),
        ("a < b | c > d", "sales", 0),
    ],
)
def test_marks_of_a_chat_template_are_counted_where_the_right_answer_has_none(
    answer: str, target: str, count: int
) -> None:
    assert faults(answered(answer, target=target))[2] == count


def test_an_answer_that_was_chosen_is_not_counted() -> None:
    assert count_faults([answered("sales<|im_end|>", ending=None)]) == ()


def counted(**changes: int) -> AnswerFaults:
    whole = {"generated": 100, "known_endings": 100, "at_limit": 0, "goes_on": 0, "marked": 0}
    return AnswerFaults.model_validate({"benchmark": "routing"} | whole | changes)


@pytest.mark.parametrize(("at_limit", "names"), [(4, []), (5, ["stop_token"])])
def test_answers_that_do_not_stop_are_a_fault_from_one_in_twenty_on(at_limit: int, names: list[str]) -> None:
    found = list(answer_findings([counted(at_limit=at_limit)], CANDIDATE, TRAINED))
    assert [finding.mode for finding in found] == names


def test_of_few_answers_two_are_no_fault_and_three_are() -> None:
    two, three = (
        list(answer_findings([counted(generated=10, known_endings=10, goes_on=count)], CANDIDATE, TRAINED))
        for count in (2, 3)
    )
    assert (two, [finding.mode for finding in three]) == ([], ["stop_token"])


def test_a_stop_token_that_was_not_learned_is_told_with_both_counts_and_more_training() -> None:
    (finding,) = answer_findings([counted(known_endings=90, at_limit=9, goes_on=20)], CANDIDATE, TRAINED)
    assert finding.sentence == (
        "answers of routing do not stop: 9 of 90 ran to their greatest length, 20 of 100 begin with the right answer "
        "and go on"
    )
    assert finding.changes == ({"train.num_train_epochs": 1},)
    assert (finding.evidence["at_limit"], finding.evidence["goes_on"]) == (9, 20)


def test_where_the_benchmark_was_measured_without_the_template_that_is_the_change() -> None:
    marked, endless = answer_findings([counted(marked=50, goes_on=50)], BARE, TRAINED)
    assert (marked.mode, endless.mode) == ("template", "stop_token")
    assert marked.changes == endless.changes == ({"evaluate.apply_chat_template": True},)


def test_marks_under_the_template_of_the_training_have_no_parameter_as_their_cure() -> None:
    (marked,) = answer_findings([counted(marked=50)], CANDIDATE, TRAINED)
    assert marked.changes == ()
    assert marked.text.startswith("50 of 100 generated answers of routing hold marks of a chat template: compare the")
