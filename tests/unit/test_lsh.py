import numpy as np
import pyarrow as pa
import pytest

from tasks.lsh import Signatures, candidate_pairs, has_crowded_bucket, signatures
from tasks.params_data import DedupParams, EngineParams
from tests.unit.rows import DEDUP

ENGINE = EngineParams(runner="native", ray_address=None, workers=1)
LAMP = "my order of the blue garden lamp came with a broken switch and no manual in the box at all"
OFFICE = "please change the address of the invoice for my company to the new office in the old town"


def signed(*texts: str, params: DedupParams = DEDUP) -> Signatures:
    tables = [pa.table({"row": [row], "text": [text]}) for row, text in enumerate(texts)]
    return signatures([tables] if tables else [], len(texts), params, ENGINE)


def handmade(*buckets: list[int]) -> Signatures:
    """Signatures that agree everywhere, with the given bucket of every row in every band."""
    bands = np.array(buckets, np.uint64) << np.uint64(40)
    return Signatures(bands, np.zeros((bands.shape[1], 16), np.uint8))


def pairs(found: Signatures, min_jaccard: float = 0.7) -> list[tuple[int, int]]:
    return [(left, right) for left, right in candidate_pairs(found, min_jaccard).tolist()]


def test_near_duplicates_are_candidates_and_others_are_not() -> None:
    assert pairs(signed(LAMP, OFFICE, LAMP + " today")) == [(0, 2)]


def test_no_texts_have_no_candidates() -> None:
    assert pairs(signed()) == []


def test_the_share_of_equal_hashes_is_near_the_similarity() -> None:
    found = signed(LAMP, LAMP + " today", params=DEDUP.model_copy(update={"num_hashes": 1024}))
    assert np.mean(found.lanes[0] == found.lanes[1]) == pytest.approx(18 / 19, abs=0.03)


def test_portions_and_tables_give_the_same_signatures() -> None:
    texts = [LAMP, OFFICE, LAMP + " today"]
    portions = [[pa.table({"row": [row], "text": [text]})] for row, text in enumerate(texts)]
    one, other = signed(*texts), signatures(portions, 3, DEDUP, ENGINE)
    assert np.array_equal(one.bands, other.bands)
    assert np.array_equal(one.lanes, other.lanes)


def test_rows_of_one_bucket_are_pairs_once_whatever_the_number_of_bands() -> None:
    assert pairs(handmade([7, 8, 7, 7], [7, 8, 7, 9])) == [(0, 2), (0, 3), (2, 3)]


def test_bucket_zero_is_a_bucket() -> None:
    assert pairs(handmade([0, 0, 3])) == [(0, 1)]


def test_a_pair_whose_signatures_disagree_is_no_candidate() -> None:
    found = handmade([7, 7, 7])
    found.lanes[2, :14] = 1
    assert pairs(found) == [(0, 1)]


def test_a_crowded_bucket_does_not_explode() -> None:
    found = handmade([7] * 1000, list(range(1000)))
    assert len(pairs(found)) == 999 + 998
    assert has_crowded_bucket(found)
    assert not has_crowded_bucket(handmade([7] * 17))


def test_in_a_crowded_bucket_rows_that_share_two_more_crowded_ones_are_found() -> None:
    rows = np.arange(1020)
    by_thirty = rows // 30
    by_thirty[960] = by_thirty[0]
    found = handmade([7] * 1020, (rows % 30).tolist(), by_thirty.tolist())
    assert (0, 960) in pairs(found)
