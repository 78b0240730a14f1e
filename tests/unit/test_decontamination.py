import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.decontamination import ItemIndex
from tasks.near_duplicates import jaccard, ngrams, normalised, words
from tasks.records import BenchmarkItem

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def item(number: int, text: str, part: str = "question", benchmark: str = "bench") -> BenchmarkItem:
    return BenchmarkItem.model_validate({"benchmark": benchmark, "item": number, "part": part, "text": text})


ITEMS = [
    item(0, LONG),
    item(1, "Paris is in France"),
    item(2, "Yes, sure."),
    item(3, "How do I open a jar that has been stuck for weeks"),
    item(3, "turn it upside down and knock on its bottom with a spoon three times then open it", "target"),
    item(4, "Which colour is the sky"),
    item(4, "blue as the sea", "choice"),
    item(5, "dresser"),
    item(5, "replace the drawer with a pin", "target"),
]
INDEX = ItemIndex(ITEMS, 13, 0.7)


def found(text: str, index: ItemIndex = INDEX) -> list[str]:
    return [f"{':'.join(map(str, index.places[match.place]))} {match.reason}" for match in index.matches([text])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ahem ONE, two three four five six seven eight nine ten eleven twelve: thirteen!", ["bench:0 ngram 13"]),
        ("ahem one two three four five six seven eight nine ten eleven twelve", ["bench:0 similar 0.77"]),
        ("one two three four five six seven eight nine", []),
        ("we know: paris is in France, surely", ["bench:1 whole 4"]),
        ("paris is not in france", []),
        ("yes sure", ["bench:2 whole 2"]),
        ("oh yes sure thing", []),
        ("How do I open a jar that has been stuck for months", ["bench:3 similar 0.82"]),
        ("Knock on its bottom with a spoon three times, then open it and look", []),
        ("Now turn it upside down and knock on its bottom with a spoon three times", ["bench:3 ngram 13"]),
        ("a dress as blue as the sea", []),
        ("dresser", ["bench:5 whole 1"]),
        ("Question: dresser\nAnswer: replace the drawer with a pin", []),
        ("the dresser: replace the drawer with a pin", ["bench:5 whole 7"]),
        ("", []),
    ],
)
def test_a_text_holds_an_item_by_words_in_a_row_whole_or_by_likeness(text: str, expected: list[str]) -> None:
    assert found(text) == expected


def test_every_item_that_a_text_holds_is_found_and_each_once() -> None:
    index = ItemIndex([item(7, LONG), item(8, f"and {LONG}"), item(0, LONG, benchmark="other")], 13, 0.7)
    assert found(LONG, index) == ["bench:7 ngram 13", "bench:8 ngram 13", "other:0 ngram 13"]


def test_words_of_two_texts_make_no_ngram() -> None:
    head, tail = LONG[: LONG.index("eight")], LONG[LONG.index("eight") :]
    assert INDEX.matches([head, tail]) == []


def test_matches_name_the_text_that_holds_the_item() -> None:
    assert [match.text for match in INDEX.matches(["nothing", "yes sure", "", LONG])] == [1, 3]


def test_an_item_is_found_in_every_text_that_is_like_it() -> None:
    near = "How do I open a jar that has been stuck for months"
    assert [(match.text, match.reason) for match in INDEX.matches([near, "no", near])] == [
        (0, "similar 0.82"),
        (2, "similar 0.82"),
    ]


def test_no_items_match_nothing() -> None:
    assert ItemIndex([], 13, 0.7).matches(["", "a text"]) == []


def test_no_texts_match_nothing() -> None:
    assert INDEX.matches([]) == []
    assert INDEX.matches(["", "..."]) == []


TEXT = st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join)


def holds(text: str, question: str, ngram_words: int, min_jaccard: float) -> bool:
    """The rule for questions in plain Python, as slow as it likes."""
    have, wanted = words(normalised(text)), words(normalised(question))
    if len(wanted) < 4:
        return bool(wanted) and have == wanted
    size = min(ngram_words, len(wanted))
    grams = {tuple(wanted[at : at + size]) for at in range(len(wanted) - size + 1)}
    if any(tuple(have[at : at + size]) in grams for at in range(len(have) - size + 1)):
        return True
    return len(have) > 2 and jaccard(ngrams(text, 3), ngrams(question, 3)) >= min_jaccard - 1e-9


@given(
    st.lists(TEXT, max_size=5),
    st.lists(TEXT, max_size=6),
    st.integers(1, 8),
    st.sampled_from([0.2, 0.5, 0.7, 0.9, 1.0]),
)
def test_what_is_found_is_what_the_rule_says(
    questions: list[str], texts: list[str], ngram_words: int, min_jaccard: float
) -> None:
    index = ItemIndex([item(number, text) for number, text in enumerate(questions)], ngram_words, min_jaccard)
    matches = {(match.text, index.places[match.place][1]) for match in index.matches(texts)}
    assert matches == {
        (place, number)
        for place, text in enumerate(texts)
        for number, question in enumerate(questions)
        if holds(text, question, ngram_words, min_jaccard)
    }
