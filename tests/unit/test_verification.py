import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import verification
from tasks.near_duplicates import jaccard, ngrams
from tasks.verification import jaccards

TEXTS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=12).map(" ".join)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8), st.integers(1, 10))
def test_many_at_once_are_as_one_by_one(pairs: list[tuple[str, str]], size: int) -> None:
    texts = [text for pair in pairs for text in pair]
    places = np.arange(len(texts)).reshape(-1, 2)
    expected = [jaccard(ngrams(left, size), ngrams(right, size)) for left, right in pairs]
    assert jaccards(pa.array(texts, pa.large_string()), places, size).tolist() == expected


def test_numbers_stay_small_whatever_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "MAX_NUMBER", 100)
    texts = pa.array(["a b c d e f g h", "a b c d e f g i"], pa.large_string())
    assert jaccards(texts, np.array([[0, 1], [1, 1]]), 3).tolist() == [5 / 7, 1.0]


def test_long_ngrams_of_many_words_do_not_run_over() -> None:
    words = [f"w{number}" for number in range(255)]
    texts = pa.array([" ".join(words), " ".join(["w0", *words[2:11]]), " ".join(words[1:11])], pa.large_string())
    assert jaccards(texts, np.array([[1, 2], [2, 2]]), 10).tolist() == [0.0, 1.0]


def test_no_pairs_have_no_similarities() -> None:
    assert jaccards(pa.array(["a"], pa.large_string()), np.zeros((0, 2), np.int64), 3).tolist() == []
