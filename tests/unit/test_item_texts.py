from collections.abc import Sequence

import pytest

from tasks.item_texts import Rendered, own_texts, strings_of

COLOURS = ("red", "green", "blue", "white", "black")


def rendered(fields: dict[str, str], prompt: str, target: str = "", choices: Sequence[str] = ()) -> Rendered:
    return Rendered(fields=fields, prompt=prompt, target=target, choices=tuple(choices))


def texts(items: Sequence[Rendered], part: str = "question") -> list[list[str]]:
    found: list[list[str]] = [[] for _ in items]
    for item in own_texts("bench", items):
        if item.part == part:
            found[item.item].append(item.text)
    return found


def test_the_fields_that_stand_in_the_prompt_are_the_question_and_its_wrapper_is_not() -> None:
    items = [
        rendered(
            {"id": f"q{n}", "question": f"What is {n} plus {n}?", "hint": f"unused {n}"},
            f"The following is a question.\nQuestion: What is {n} plus {n}?\nAnswer:",
        )
        for n in range(3)
    ]
    assert texts(items) == [["What is 0 plus 0?"], ["What is 1 plus 1?"], ["What is 2 plus 2?"]]


def test_a_category_that_items_share_is_no_text_of_theirs() -> None:
    items = [
        rendered(
            {"impact": f"as bad as {COLOURS[n % 5]} ever was", "text": f"{n} of my devices are broken"},
            f"{n} of my devices are broken\nImpact: as bad as {COLOURS[n % 5]} ever was",
        )
        for n in range(20)
    ]
    assert texts(items) == [[f"{n} of my devices are broken"] for n in range(20)]


def test_a_passage_serves_many_questions_and_is_a_text_of_each() -> None:
    passages = [f"{colour} {'long ' * 20}passage {colour}" for colour in COLOURS]
    items = [
        rendered(
            {"question": f"Question {n} of them?", "passage": passages[n % 5]},
            f"{passages[n % 5]}\nQuestion {n} of them?",
        )
        for n in range(40)
    ]
    assert texts(items)[7] == [passages[2], "Question 7 of them?"]


def test_an_instruction_that_all_items_share_is_no_text_of_theirs() -> None:
    instruction = "answer the question below in as few words as you can and do not explain anything"
    items = [rendered({"instruction": instruction, "text": f"Name {n}"}, f"{instruction}\nName {n}") for n in range(3)]
    assert texts(items) == [["Name 0"], ["Name 1"], ["Name 2"]]


def asked(count: int, text: str) -> list[list[str]]:
    items = [text.format(colour=COLOURS[n % 5], n=n) for n in range(count)]
    return texts([rendered({"instruction": item}, item) for item in items])


def test_words_that_nearly_all_items_begin_or_end_with_are_cut_off() -> None:
    text = (
        "Please choose the correct answer to this question: is {colour} thing {n} good? Answer format: answer1/answer2"
    )
    assert asked(30, text)[7] == ["blue thing 7"]
    assert asked(19, text)[7] == [text.format(colour="blue", n=7)]


def test_a_short_item_is_looked_for_with_its_shared_words_and_without() -> None:
    assert asked(30, "Say: is {colour} thing {n} good?")[7] == ["Say: is blue thing 7 good?"]
    assert asked(30, "Say: {colour} has {n} of them")[7] == ["Say: blue has 7 of them"]
    assert asked(30, "Say {colour} has {n} of {colour}")[7] == ["Say blue has 7 of blue", "blue has 7 of blue"]


def test_an_item_that_begins_another_way_keeps_its_words() -> None:
    items = [f"Please choose the correct answer to this question: has {n} a {COLOURS[n % 5]}" for n in range(29)]
    found = texts([rendered({"query": text}, text) for text in [*items, "Has the question a name, please?"]])
    assert (found[0], found[29]) == (["0 a red"], ["Has the question a name, please?"])


def test_a_prompt_that_holds_no_field_is_the_question_itself() -> None:
    items = [
        rendered({"sentence": f"So _ has {n}", "one": f"Ann{n}"}, f"So Ann{n} has {n}\nSo Bert has {n}")
        for n in range(2)
    ]
    assert texts(items) == [["So Ann0 has 0\nSo Bert has 0"], ["So Ann1 has 1\nSo Bert has 1"]]


def test_an_option_beside_a_longer_field_is_no_question() -> None:
    items = [
        rendered({"option": f"Ann{n}", "text": f"So Ann{n} has {n} of them"}, f"So Ann{n} has {n} of them\nWho?")
        for n in range(2)
    ]
    assert texts(items) == [["So Ann0 has 0 of them"], ["So Ann1 has 1 of them"]]


def test_a_question_of_a_word_is_one_where_it_is_all_that_is_asked() -> None:
    items = [rendered({"goal": f"dresser{n}"}, f"Question: dresser{n}\nAnswer:") for n in range(25)]
    assert texts(items)[3] == ["dresser3"]


def test_a_single_item_has_its_texts_too() -> None:
    item = rendered({"question": "Why?"}, "Question: Why?", "Because it is so", ["Because it is so", " "])
    assert [(found.item, found.part, found.text) for found in own_texts("bench", [item])] == [
        (0, "question", "Why?"),
        (0, "target", "Because it is so"),
        (0, "choice", "Because it is so"),
    ]


@pytest.mark.parametrize(("count", "expected"), [(5, ["the answer is red"]), (20, [])])
def test_targets_that_few_differ_in_are_labels(count: int, expected: list[str]) -> None:
    items = [rendered({"q": f"q {n}"}, f"q {n}", f"the answer is {COLOURS[n % 5]}") for n in range(count)]
    assert texts(items, "target")[0] == expected


def test_strings_of_a_document_are_found_at_any_depth_but_not_in_lists() -> None:
    document = {"a": "one", "b": {"c": "two", "d": 3}, "choices": ["three", {"text": "four"}], "e": None}
    assert list(strings_of(document)) == [("a", "one"), ("b.c", "two")]
