import pytest

from tasks.near_duplicates import jaccard, ngrams, normalised, roots, words


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Where is my parcel?", "where  is my PARCEL"),
        ("Hello, you!", "hello you"),
        ("a well-known bug", "a well known bug"),
        ("“It’s broken”", '"It\'s broken"'),
    ],
)
def test_case_space_and_punctuation_are_folded(left: str, right: str) -> None:
    assert normalised(left) == normalised(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("2 + 2", "2 - 2"), ("2-2", "2*2"), ("is a < b", "is a > b"), ("1.5", "15"), ("की", "कि"), ("???", "!!!")],
)
def test_signs_that_carry_meaning_stay(left: str, right: str) -> None:
    assert normalised(left) != normalised(right)


def test_a_script_without_spaces_has_a_word_for_every_sign() -> None:
    assert words("你好 world") == ["你", "好", "world"]


def test_ngrams_are_the_word_windows() -> None:
    assert ngrams("a b c d", 3) == {("a", "b", "c"), ("b", "c", "d")}


def test_a_short_text_is_one_ngram() -> None:
    assert ngrams("a b", 3) == {("a", "b")}


def test_jaccard_is_the_shared_part_of_the_union() -> None:
    assert jaccard(ngrams("a b c d", 3), ngrams("a b c e", 3)) == pytest.approx(1 / 3)


def test_links_join_names_under_the_smallest() -> None:
    assert roots("abcde", [("d", "b"), ("e", "d")]) == {"a": "a", "b": "b", "c": "c", "d": "b", "e": "b"}
