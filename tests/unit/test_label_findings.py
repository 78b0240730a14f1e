"""Labels that contradict each other."""

import pytest

from tasks.label_findings import count_noise, count_swaps, label_findings, swap_findings
from tasks.records import Conflict, Sample
from tasks.verdict_records import LabelNoise, SwappedLabels
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


def answers(**given: str) -> list[Sample]:
    """For each label (`sales="sssbb"`) one item a letter, answered with the label that begins so."""
    named = {label[0]: label for label in given}
    pairs = [(label, named.get(letter, "nothing")) for label, letters in given.items() for letter in letters]
    return [
        Sample(benchmark="routing", item=item, prompt="p", target=target, answer=answer, metrics={"acc": 0.0})
        for item, (target, answer) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("given", "swapped"),
    [
        ({"sales": "bbbss", "billing": "sssbb"}, 2),
        ({"sales": "sssss", "billing": "bbbbb"}, 0),
        ({"sales": "bbbss", "billing": "bbbss"}, 0),  # the commonest label is given too often
        ({"sales": "bbbss", "billing": "xxxbb"}, 1),
        ({"sales": "bbsss", "billing": "xxxbb"}, 0),
        ({"sales": "xxxss", "billing": "xxxbb"}, 0),
        ({"sales": "bbbbbss", "billing": "rrrrrbb", "repair": "sssssrr"}, 3),
    ],
)
def test_a_label_is_swapped_when_its_items_get_another_whose_own_items_do_not(
    given: dict[str, str], swapped: int
) -> None:
    (found,) = count_swaps(answers(**given))
    assert (found.labels, found.swapped) == (len(given), swapped)


def test_labels_of_few_items_and_answers_that_are_none_say_nothing() -> None:
    assert count_swaps(answers(sales="bbbb", billing="ssss")) == ()
    assert count_swaps(answers(sales="sssss", billing="s", repair="s")) == ()


@pytest.mark.parametrize(("swapped", "is_said"), [(1, False), (2, True)])
def test_one_label_may_be_learned_for_another_and_two_were_given_so(swapped: int, is_said: bool) -> None:
    found = SwappedLabels(benchmark="routing", labels=8, swapped=swapped, items=40, example=("sales", "billing"))
    told = "\n".join(finding.text for finding in swap_findings([found]))
    expected = (
        "2 of 8 labels of routing are answered with another one, whose own items are not: most items of 'sales' with "
        "'billing': the labels of the training rows look swapped; hold them against the benchmark's in the sources"
    )
    assert told == (expected if is_said else "")


@pytest.mark.parametrize(("swapped", "is_said"), [(3, False), (4, True)])
def test_a_few_of_many_labels_are_mixed_up_by_a_weak_adapter_too(swapped: int, is_said: bool) -> None:
    found = SwappedLabels(benchmark="routing", labels=32, swapped=swapped, items=21, example=("sales", "billing"))
    assert bool(list(swap_findings([found]))) is is_said
