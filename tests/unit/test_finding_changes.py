"""Every change that a finding proposes is one that the parameters take."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.answer_findings import answer_findings
from tasks.curve_findings import curve_findings
from tasks.diagnosis import diagnose
from tasks.finding_changes import (
    PreparedWith,
    TrainedWith,
    dropped_out,
    faster,
    gentler,
    larger,
    longer,
    shorter,
    slower,
    smaller,
    trained_with,
    unquantised,
)
from tasks.findings import Changes, Finding
from tasks.label_findings import label_findings
from tasks.params import Params, load_params
from tasks.params_changes import assign, with_values
from tasks.records import TrainingPoint
from tasks.yaml_files import read_yaml
from tests.contract.imports import ROOT
from tests.unit.evaluations import EVIDENCE
from tests.unit.test_answer_findings import BARE, CANDIDATE, counted
from tests.unit.test_diagnosis import FALLS, METRICS, NOTHING, RESTS, TRAINED, result, verdict_of
from tests.unit.test_label_findings import noise

FILES = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]
CURVES = {
    "rises": ([9.0, 8.0, 7.0, 6.5, 6.5, 6.6, 7.2, 7.5, 7.9], [], []),
    "hardly falls": ([2.0, 1.9, 1.9, 1.9], [], []),
    "overfits": ([2.0, 0.5, 0.1, 0.02], [0.4, 0.3, 0.6], []),
    "does not carry over": ([2.0, 1.0, 0.5, 0.3], [0.9, 0.7, 0.7], []),
    "explodes": ([], [], [0.5, 0.4, 0.5, 0.6, 9.0]),
}
CHANGED_MODES = {
    "under_fitting", "overfitting", "target_modules", "noisy_data", "forgetting", "quantisation_gap", "template",
    "stop_token", "unstable_training", "missing_evidence",
}  # fmt: skip
"""The modes of which some finding has changes."""
PLANTED = {"dedup.conflicting_answers", "evaluate.apply_chat_template", "evaluate.limit", "lora.target_modules"}
"""Parameters that the shipped files have as findings propose them; here findings are told another value."""


def every_finding(trained: TrainedWith, prepared: PreparedWith) -> Iterator[Finding]:
    """Findings of every mode, on evidence that shows them, about a training with these parameters."""
    for losses, evals, norms in CURVES.values():
        points = [TrainingPoint(step=step, epoch=0.1, loss=loss) for step, loss in enumerate(losses, 1)]
        points += [TrainingPoint(step=step, epoch=0.1, eval_loss=loss) for step, loss in enumerate(evals, 2)]
        points += [TrainingPoint(step=step, epoch=0.1, grad_norm=norm) for step, norm in enumerate(norms, 1)]
        yield from curve_findings(points, trained)
    evidence = EVIDENCE.model_copy(update={"trained_with": trained, "prepared_with": prepared})
    missed, forgot, unknown = (
        result("min_value"),
        result("max_loss_from_base"),
        result("evidence", problem="limited"),
    )
    for losses in (FALLS, RESTS, [2.0, 0.2]):
        points = [TrainingPoint(step=step, epoch=0.1, loss=loss) for step, loss in enumerate(losses, 1)]
        metrics = METRICS.model_copy(update={"final_loss": losses[-1]})
        for results in ((missed, forgot), (unknown,)):
            yield from diagnose(verdict_of(*results), (NOTHING, NOTHING), (points, metrics), evidence)
    for model in (CANDIDATE, BARE):
        yield from answer_findings([counted(marked=50, at_limit=50)], model, trained)
    yield from label_findings(noise(9, 18), prepared)


def of_file(path: Path) -> list[Finding]:
    params = load_params(path)
    prepared = PreparedWith(replay_share=params.split.replay_share, has_replay=True, conflicting_answers="keep")
    # what a profile already has at its widest is tried too
    narrow = trained_with(params.train, params.lora).model_copy(update={"target_modules": "attention-qv"})
    return [*every_finding(trained_with(params.train, params.lora), prepared), *every_finding(narrow, prepared)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_change_of_every_finding_is_one_that_the_parameters_take(path: Path) -> None:
    before, document = load_params(path), read_yaml(path).value
    changed = {repr(changes): changes for finding in of_file(path) for changes in finding.changes}
    assert len(changed) > 10
    for changes in changed.values():
        after = parsed(document, changes)
        assert after != before or set(changes) <= PLANTED, changes


def parsed(document: object, changes: Changes) -> Params:
    mutable: Any = copy.deepcopy(document)
    for key, value in changes.items():
        assign(mutable, key, value, top="params.yaml", setting=key)
    return Params.model_validate(mutable)


@pytest.mark.parametrize("changes", [*slower(TRAINED, 20), *unquantised(TRAINED), {"split.replay_share": 0.1}])
def test_a_change_is_the_same_in_a_file(changes: Changes, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(with_values(FILES[0].read_text(encoding="utf-8"), changes.items(), top="it"), encoding="utf-8")
    assert load_params(file) == parsed(read_yaml(FILES[0]).value, changes)


def test_the_findings_that_are_tried_are_of_every_mode_that_has_changes() -> None:
    assert {finding.mode for finding in of_file(FILES[0]) if finding.changes} == CHANGED_MODES


def trained(**changes: object) -> TrainedWith:
    return TRAINED.model_copy(update=changes)


@pytest.mark.parametrize(
    ("r", "ranks"), [(4, [16, 32]), (8, [16, 32]), (16, [32, 64]), (32, [64]), (64, []), (None, [])]
)
def test_a_rank_is_raised_to_sixteen_at_least_and_sixty_four_at_most(r: int | None, ranks: list[int]) -> None:
    assert [changes["lora.r"] for changes in larger(trained(r=r))] == ranks


@pytest.mark.parametrize(("r", "ranks"), [(64, [32]), (16, [8]), (10, [4]), (8, [4]), (7, []), (None, [])])
def test_a_rank_is_halved_to_an_even_number_and_not_below_four(r: int | None, ranks: list[int]) -> None:
    assert [changes["lora.r"] for changes in smaller(trained(r=r))] == ranks


def test_the_scaling_of_an_adapter_stays_when_its_rank_changes() -> None:
    assert larger(trained(r=8, lora_alpha=12.0))[0] == {"lora.r": 16, "lora.lora_alpha": 24}
    assert smaller(trained(r=10, lora_alpha=16.0)) == [{"lora.r": 4, "lora.lora_alpha": 6.4}]


@pytest.mark.parametrize(("share", "then"), [(0.0, 0.05), (0.05, 0.1), (0.1, None), (None, None)])
def test_dropout_is_raised_to_the_next_usual_share(share: float | None, then: float | None) -> None:
    assert dropped_out(trained(lora_dropout=share)) == ([] if then is None else [{"lora.lora_dropout": then}])


@pytest.mark.parametrize(
    ("method", "rate", "then"),
    [("lora", 2e-4, 4e-4), ("lora", 7e-4, 1e-3), ("lora", 1e-3, None), ("full", 2e-5, 4e-5), ("full", 1e-4, None)],
)
def test_a_rate_is_doubled_up_to_the_highest_usual_one(method: str, rate: float, then: float | None) -> None:
    found = faster(trained(method=method, learning_rate=rate))
    assert found == ([] if then is None else [{"train.learning_rate": then}])


def test_steps_are_counted_where_the_parameters_count_them() -> None:
    assert longer(trained(max_steps=100)) == [{"train.max_steps": 200}]
    assert shorter(trained(max_steps=100), 0.37) == [{"train.max_steps": 37}]
    assert longer(trained()) == [{"train.num_train_epochs": 1}]
    assert shorter(trained(num_train_epochs=3.0), 0.37) == [{"train.num_train_epochs": 1.1}]
    assert shorter(trained(max_steps=1)) == shorter(trained(), 1.0) == []
    assert longer(trained(num_train_epochs=600.0)) == [{"train.num_train_epochs": 1000}]
    assert longer(trained(num_train_epochs=1000.0)) == []


def test_a_constant_schedule_has_no_warm_up_to_lengthen() -> None:
    assert gentler(trained(lr_scheduler_type="constant", warmup_steps=0)) == []
    assert gentler(trained(warmup_steps=0)) == [{"train.warmup_steps": 10}]
    assert gentler(trained(warmup_steps=30)) == [{"train.warmup_steps": 60}]


def test_only_a_base_in_four_bits_can_be_taken_out_of_them() -> None:
    assert unquantised(trained()) == [{"train.method": "lora", "quantization": None}]
    assert unquantised(trained(method="lora")) == []
