from collections.abc import Sequence

import pytest

from tasks.curve_findings import best_point, curve_findings
from tasks.finding_changes import trained_with
from tasks.findings import Changes, Finding
from tasks.params import load_params
from tasks.records import TrainingPoint, TrainMetrics
from tests.unit.test_diagnosis import METRICS

PARAMS = load_params()
FALLS = [2.0, 1.0, 0.5, 0.3]


def findings_of(
    losses: Sequence[float] = (), evals: Sequence[float] = (), norms: Sequence[float] = (), *, has_lora: bool = True
) -> list[Finding]:
    """The findings of a history that logs every ten steps; a validation loss was measured at the last of its steps."""
    points = [TrainingPoint(step=10 * at, epoch=0.1, loss=loss) for at, loss in enumerate(losses, 1)]
    later = len(losses) - len(evals)
    points += [TrainingPoint(step=10 * (later + at), epoch=0.1, eval_loss=loss) for at, loss in enumerate(evals, 1)]
    points += [TrainingPoint(step=10 * at, epoch=0.1, grad_norm=norm) for at, norm in enumerate(norms, 1)]
    return list(curve_findings(points, trained_with(PARAMS.train, PARAMS.lora if has_lora else None)))


def warned(
    losses: Sequence[float] = (), evals: Sequence[float] = (), norms: Sequence[float] = (), *, has_lora: bool = True
) -> list[str]:
    """The texts of `findings_of`."""
    return [finding.text for finding in findings_of(losses, evals, norms, has_lora=has_lora)]


def test_a_training_that_falls_and_carries_over_has_no_warning() -> None:
    assert warned(FALLS, [0.9, 0.4, 0.32], [3.0, 1.0, 0.5, 0.4]) == []


@pytest.mark.parametrize(("losses", "evals"), [([], []), ([2.0], []), ([], [1.0]), ([2.0], [2.1])])
def test_a_history_of_one_point_says_nothing(losses: list[float], evals: list[float]) -> None:
    assert warned(losses, evals) == []


def test_a_training_loss_near_zero_with_a_rising_validation_loss_is_overfitting() -> None:
    (found,) = warned([2.0, 0.5, 0.1, 0.02], [0.4, 0.3, 0.6])
    assert found == (
        "overfitting: the training loss is near zero, 0.020 (step 40), while the validation loss rose from 0.300 "
        "(step 30) to 0.600 (step 40): lower lora.r (now 16), raise lora.lora_dropout (now 0; 0.05 to 0.1 is usual) "
        "or train fewer epochs (now 0.5)"
    )


def test_overfitting_is_seen_before_the_training_loss_is_near_zero() -> None:
    (found,) = warned([2.0, 0.5, 0.3, 0.2], [0.4, 0.3, 0.6])
    assert found.startswith(
        "overfitting: the training loss went from 0.300 (step 30) to 0.200 (step 40) while the validation loss rose "
        "from 0.300 (step 30) to 0.600 (step 40)"
    )


@pytest.mark.parametrize(("last", "warnings"), [(0.350, 0), (0.351, 1)])
def test_the_validation_loss_may_rise_by_the_bound(last: float, warnings: int) -> None:
    assert len(warned([2.0, 0.5, 0.3, 0.2], [0.4, 0.3, last])) == warnings


@pytest.mark.parametrize(("last", "is_overfitting"), [(0.44, True), (0.45, False)])
def test_a_validation_loss_that_rises_with_the_training_loss_is_not_overfitting(
    last: float, is_overfitting: bool
) -> None:
    assert any("overfitting" in text for text in warned([2.0, 0.5, 0.3, last], [0.4, 0.3, 0.6])) == is_overfitting


@pytest.mark.parametrize(("best", "warnings"), [(0.6, 0), (0.61, 1)])
def test_a_validation_loss_far_above_the_training_loss_is_warned_of(best: float, warnings: int) -> None:
    found = warned(FALLS, [0.9, best, best])
    assert len(found) == warnings
    assert all(
        "the validation loss, 0.610 at its best (step 30), is far above the training loss, 0.300 (step 40)" in text
        for text in found
    )


def test_twice_a_small_training_loss_is_not_far() -> None:
    assert warned([2.0, 0.5, 0.1, 0.1], [0.5, 0.39, 0.39]) == []


@pytest.mark.parametrize(("last", "warnings"), [(1.8, 0), (1.81, 1)])
def test_a_training_loss_that_hardly_falls_is_warned_of(last: float, warnings: int) -> None:
    found = warned([2.0, 1.9, 1.9, last])
    assert len(found) == warnings
    assert all(
        text == "the training loss hardly fell, from 2.000 (step 10) to 1.810 (step 40): raise train.learning_rate "
        "(now 0.0007), raise lora.r (now 16), add target modules, or train longer"
        for text in found
    )


def test_without_lora_no_warning_speaks_of_it() -> None:
    found = warned([2.0, 1.9, 1.9, 1.9], [1.9, 1.8, 1.95], has_lora=False)
    assert len(found) == 2
    assert "lora" not in " ".join(found)


@pytest.mark.parametrize(("last", "expected"), [(2.1, "hardly fell"), (2.11, "rose from 2.000 (step 10) to 2.110")])
def test_a_training_loss_that_ends_above_its_start_has_risen(last: float, expected: str) -> None:
    (found,) = warned([2.0, 1.9, 2.0, last])
    assert expected in found


def test_a_loss_that_climbs_over_the_last_third_names_the_learning_rate() -> None:
    climbs = [9.0, 8.0, 7.0, 6.5, 6.5, 6.6, 7.2, 7.5, 7.9]
    (found,) = warned(climbs)
    assert found == (
        "the training loss rose from 6.533 (steps 40 to 60) to 7.533 (steps 70 to 90): lower train.learning_rate "
        "(now 0.0007) or raise train.warmup_steps (now 10)"
    )


@pytest.mark.parametrize(
    "last_third",
    [
        [6.8, 6.86, 6.85],  # by less than 5 %
        [5.0, 11.0, 6.5],  # by less than its own scatter explains
    ],
)
def test_a_last_third_that_scatters_has_not_risen(last_third: list[float]) -> None:
    assert warned([9.0, 8.0, 7.0, 6.5, 6.5, 6.6, *last_third]) == []


@pytest.mark.parametrize(("norm", "warnings"), [(5.0, 0), (5.1, 1)])
def test_a_gradient_norm_of_more_than_ten_times_what_was_usual_is_warned_of(norm: float, warnings: int) -> None:
    found = warned(norms=[0.5, 0.4, 0.5, 0.6, norm])
    assert len(found) == warnings
    assert all(
        text == "the gradient norm exploded once, at most to 5.1 (step 50) where 0.50 was usual: lower "
        "train.learning_rate (now 0.0007) or train.max_grad_norm (now 1), and look for odd rows in the sources"
        for text in found
    )


def test_the_largest_of_several_spikes_is_named() -> None:
    (found,) = warned(norms=[0.5, 0.5, 0.5, 0.5, 6.0, 0.5, 9.0, 0.5])
    assert "exploded 2 times, at most to 9.0 (step 70) where 0.50 was usual" in found


def test_large_norms_at_the_start_are_no_spikes() -> None:
    assert warned(norms=[40.0, 20.0, 9.0, 4.0, 2.0, 1.0, 0.5, 0.4, 0.3, 0.3, 0.3, 0.3]) == []


def test_the_best_point_is_the_first_of_the_least_validation_loss() -> None:
    points = [TrainingPoint(step=step, epoch=0.1, eval_loss=loss) for step, loss in ((1, 0.5), (2, 0.3), (3, 0.3))]
    best = best_point([TrainingPoint(step=0, epoch=0.0, loss=0.1), *points])
    assert best is not None
    assert best.step == 2
    assert best_point([TrainingPoint(step=0, epoch=0.0, loss=0.1)]) is None


@pytest.mark.parametrize(
    ("losses", "evals", "norms", "mode", "changes"),
    [
        (
            [9.0, 8.0, 7.0, 6.5, 6.5, 6.6, 7.2, 7.5, 7.9],
            [],
            [],
            "unstable_training",
            ({"train.learning_rate": 0.00035}, {"train.learning_rate": 0.00017}, {"train.warmup_steps": 20}),
        ),
        (
            [2.0, 1.9, 1.9, 1.9],
            [],
            [],
            "under_fitting",
            (
                {"train.learning_rate": 0.001},
                {"lora.lora_alpha": 64, "lora.r": 32},
                {"train.num_train_epochs": 1},
            ),
        ),
        (
            [2.0, 0.5, 0.1, 0.02],
            [0.4, 0.3, 0.6],
            [],
            "overfitting",
            (
                {"lora.lora_alpha": 16, "lora.r": 8},
                {"lora.lora_dropout": 0.05},
                {"train.num_train_epochs": 0.38},
            ),
        ),
        (
            [2.0, 1.0, 0.5, 0.3],
            [0.9, 0.7, 0.7],
            [],
            "noisy_data",
            ({"lora.lora_alpha": 16, "lora.r": 8}, {"lora.lora_dropout": 0.05}),
        ),
        (
            [],
            [],
            [0.5, 0.4, 0.5, 0.6, 9.0],
            "unstable_training",
            ({"train.learning_rate": 0.00035}, {"train.max_grad_norm": 0.5}),
        ),
    ],
)
def test_every_finding_has_its_mode_and_its_changes(
    losses: list[float], evals: list[float], norms: list[float], mode: str, changes: tuple[Changes, ...]
) -> None:
    (finding,) = findings_of(losses, evals, norms)
    assert (finding.mode, finding.changes) == (mode, changes)


def test_the_numbers_of_a_finding_are_named_for_machines() -> None:
    (finding,) = findings_of([2.0, 0.5, 0.1, 0.02], [0.4, 0.3, 0.6])
    assert finding.evidence == {
        "best_eval_loss": 0.3, "best_eval_loss_step": 30, "last_eval_loss": 0.6, "last_eval_loss_step": 40,
        "loss_at_best": 0.1, "loss_at_best_step": 30, "loss_end": 0.02, "loss_end_step": 40,
    }  # fmt: skip


def test_the_warnings_of_a_record_of_before_are_findings_without_a_mode() -> None:
    old = METRICS.model_dump(exclude={"findings"}) | {"notes": ["overfitting: lower lora.r"]}
    (finding,) = TrainMetrics.model_validate(old).findings
    assert (finding.mode, finding.text, finding.changes) == ("unclassified", "overfitting: lower lora.r", ())
