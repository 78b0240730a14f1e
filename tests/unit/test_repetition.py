import pytest

from tasks.params_data import RepetitionParams
from tasks.repetition import duplicate_ngram_char_share, duplicate_share, repetition, top_ngram_char_share

GOPHER = RepetitionParams(
    min_words=4,
    max_duplicate_line_share=0.3,
    max_duplicate_paragraph_share=0.3,
    max_top_ngram_char_shares=[0.2, 0.18, 0.16],
    max_duplicate_ngram_char_shares=[0.15, 0.14, 0.13, 0.12, 0.11, 0.1],
)


def test_the_share_of_parts_that_came_before() -> None:
    assert duplicate_share(["a", "b", "a", "a"]) == 0.5


def test_the_commonest_ngram_is_counted_in_characters() -> None:
    words = ["aa", "bb", "c", "aa", "bb", "dddd"]  # `aa bb` twice: 8 of 13
    assert top_ngram_char_share(words, 2) == pytest.approx(8 / 13)


def test_an_ngram_that_comes_once_counts_nothing() -> None:
    assert top_ngram_char_share(["a", "b", "c"], 2) == 0.0


def test_a_word_in_two_repeated_ngrams_is_counted_once() -> None:
    words = [*"abcdefabcdef"]  # the second half, 6 of 12, holds two repeated 5-grams
    assert duplicate_ngram_char_share(words, 5) == 0.5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("one two three", None),  # below min_words
        ("one two three four five six", None),
        ("ab cd\nab cd\nab cd\nef gh", "duplicate lines 0.500 > 0.3"),
        ("a b\nc d\n\na b\nc e\n\na b\nc d", "duplicate lines 0.500 > 0.3"),
        ("x y x y x y", "top 2-gram 1.000 > 0.2"),
    ],
)
def test_the_first_broken_bound_is_named_with_its_value(text: str, value: str | None) -> None:
    assert repetition(text, GOPHER) == value
