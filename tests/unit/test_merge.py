import math

import pytest
import torch

from tasks.merge import Drift, judge_parity
from tasks.params import MergeParams

PARAMS = MergeParams(dtype="bfloat16", parity_prompts=1, max_mean_kl=0.1, min_top1_agreement=0.5)


def test_equal_logits_do_not_drift() -> None:
    drift = Drift()
    logits = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    drift.add(logits, logits.clone())
    assert (drift.positions, drift.kl, drift.agreed, drift.max_difference) == (2, 0.0, 2, 0.0)


def test_the_divergence_is_that_of_the_reference_from_the_merged_model() -> None:
    drift = Drift()
    drift.add(torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]]))
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert drift.kl == pytest.approx(expected, abs=1e-6)


def test_a_shift_of_all_logits_is_no_divergence() -> None:
    drift = Drift()
    drift.add(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 5.0]]))
    assert drift.kl == pytest.approx(0, abs=1e-6)
    assert drift.max_difference == 3.0


@pytest.mark.parametrize(
    ("kl", "agreed", "passed"), [(0.2, 2, True), (0.21, 2, False), (0.1, 1, True), (0.1, 0, False)]
)
def test_parity_passes_at_its_limits_and_not_beyond(kl: float, agreed: int, passed: bool) -> None:
    drift = Drift(positions=2, kl=kl, agreed=agreed)
    assert judge_parity(drift, PARAMS, 1, "digest").passed is passed
