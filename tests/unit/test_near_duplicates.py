import pytest

from tasks import near_duplicates
from tasks.near_duplicates import Clusters, Similarities, grouped, jaccard, ngrams, normalised, spaced, words


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Where is my parcel?", "where  is my PARCEL"),
        ("Hello, you!", "hello you"),
        ("a well-known bug", "a well known bug"),
        ("“It’s broken”", '"It\'s broken"'),
        ("at 2.30, or 3.", "at 2.30 or 3"),
        ("Größe: A-B, 5,5", "größe a b 5,5"),
    ],
)
def test_case_space_and_punctuation_are_folded(left: str, right: str) -> None:
    assert normalised(left) == normalised(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("2 + 2", "2 - 2"),
        ("2:30", "2 30"),
        ("1,5 a.b", "15 a b"),
        ("2-2", "2*2"),
        ("is a < b", "is a > b"),
        ("1.5", "15"),
        ("की", "कि"),
        ("???", "!!!"),
    ],
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


def test_spaced_text_is_its_words_with_one_space_between_them() -> None:
    assert spaced("  你好,  World! ") == "你 好 world"


def test_of_two_texts_of_a_row_the_lesser_similarity_counts() -> None:
    texts = {0: ("a b c d", "t u a b c d"), 1: ("a b c d",), 2: ("a b c d", "x y z a b c d")}
    similarity = Similarities(texts.__getitem__, 3)
    assert similarity(0, 1) == pytest.approx(2 / 4)
    assert similarity(0, 2) == pytest.approx(2 / 7)
    assert similarity(1, 1) == 1.0


def test_similarities_stay_right_when_their_cache_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "CACHED_TEXTS", 1)
    similarity = Similarities(lambda row: (f"a b {row}",), 3)
    assert [similarity(1, 2), similarity(1, 1)] == [0.0, 1.0]


def test_links_join_rows_under_the_smallest() -> None:
    clusters = Clusters(5)
    clusters.link(3, 1)
    clusters.link(4, 3)
    assert clusters.roots() == [0, 1, 2, 1, 1]


def test_groups_come_in_the_order_of_their_first_rows() -> None:
    assert grouped([5, 2, 3, 4], lambda row: row % 2) == [[5, 3], [2, 4]]
