"""Labels that contradict each other."""

import pytest

from tasks.label_findings import count_noise, label_findings
from tasks.records import Conflict
from tasks.verdict_records import LabelNoise
from tests.unit.test_diagnosis import PREPARED


def noise(pairs: int, rows: int, compared: int = 600) -> LabelNoise:
    return LabelNoise(pairs=pairs, rows=rows, compared=compared, example=("a", "b"))


def test_a_row_in_several_conflicts_is_counted_once() -> None:
    conflicts = [
        Conflict(left=left, right=right, similarity=1.0, left_completion="x", right_completion="y")
        for left, right in (("a", "b"), ("a", "c"))
    ]
    assert count_noise(conflicts, 10) == LabelNoise(pairs=2, rows=3, compared=10, example=("a", "b"))
    assert count_noise([], 10) == LabelNoise(pairs=0, rows=0, compared=10, example=None)


@pytest.mark.parametrize(
    ("found", "is_said"),
    [(noise(3, 6), True), (noise(3, 5), False), (noise(2, 6), False), (noise(3, 6, 601), False), (None, False)],
)
def test_conflicts_are_a_finding_from_three_pairs_and_one_row_in_a_hundred_on(
    found: LabelNoise | None, is_said: bool
) -> None:
    assert bool(list(label_findings(found, PREPARED))) == is_said


def test_conflicts_that_were_dropped_are_mended_in_the_sources_and_by_no_parameter() -> None:
    (finding,) = label_findings(noise(4, 8), PREPARED)
    assert (finding.mode, finding.changes) == ("noisy_data", ())
    assert finding.evidence == {"pairs": 4, "rows": 8, "compared": 600}
    assert finding.text == (
        "4 pairs of rows ask the same and have different answers, such as a and b (8 rows, 1.3 % of those compared): "
        "mend the labels in the sources (`tunegate data why ID` shows a row); rows without a twin are likely to be "
        "wrong as often, and no rule can see those"
    )


def test_conflicts_that_were_kept_can_be_dropped() -> None:
    (finding,) = label_findings(noise(4, 8), PREPARED.model_copy(update={"conflicting_answers": "keep"}))
    assert finding.changes == ({"dedup.conflicting_answers": "drop"},)
