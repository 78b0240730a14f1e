"""Which failure mode is named on which evidence, and which is not."""

from collections.abc import Sequence

import pytest

from tasks.diagnosis import diagnose
from tasks.finding_changes import PreparedWith, TrainedWith
from tasks.findings import Finding
from tasks.records import Evaluation, TrainingPoint, TrainMetrics
from tasks.verdict_records import GateEvidence, RuleResult, Verdict
from tests.unit.evaluations import EVIDENCE

NOTHING = Evaluation(model="base", weights_digest="w", adapter_digest=None, fingerprints=(), scores=())
METRICS = TrainMetrics(
    method="qlora",
    compute_dtype="float32",
    device="cpu",
    threads=2,
    trainable_weights=1,
    all_weights=100,
    train_examples=10,
    validation_examples=2,
    train_tokens=100,
    supervised_tokens=10,
    steps=20,
    final_loss=0.1,
    eval_loss=0.1,
    adapter_digest="a",
)
TRAINED = TrainedWith(
    method="qlora", learning_rate=7e-4, num_train_epochs=0.5, max_steps=-1, warmup_steps=10, lr_scheduler_type="cosine",
    max_grad_norm=1.0, r=16, lora_alpha=32.0, lora_dropout=0.0, target_modules="all-linear",
)  # fmt: skip
PREPARED = PreparedWith(replay_share=0.08, has_replay=True, conflicting_answers="drop")
KNOWN = EVIDENCE.model_copy(update={"trained_with": TRAINED, "prepared_with": PREPARED})
FALLS = [9.0, 7.0, 6.0, 5.0, 4.0, 3.5, 3.0, 2.5, 2.0]
RESTS = [9.0, 7.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]


def result(condition: str, outcome: str = "refused", **changes: object) -> RuleResult:
    fields = {
        "benchmark": "routing", "metric": "exact_match", "condition": condition, "threshold": 0.1, "found": 0.0,
        "outcome": outcome, "reason": "r",
    }  # fmt: skip
    return RuleResult.model_validate(fields | changes)


def verdict_of(*results: RuleResult, word: str = "refused") -> Verdict:
    fields = {"adapter_digest": "a", "confidence": 0.95, "comparisons": {}, "failures": (), "diagnosis": ()}
    return Verdict.model_validate(fields | {"verdict": word, "results": results})


def found_in(
    *results: RuleResult,
    losses: Sequence[float] = (),
    eval_loss: float = 0.2,
    evidence: GateEvidence = KNOWN,
    findings: tuple[Finding, ...] = (),
    word: str = "refused",
) -> list[Finding]:
    points = [TrainingPoint(step=step, epoch=1.0, loss=loss) for step, loss in enumerate(losses, 1)]
    points.append(TrainingPoint(step=20, epoch=1.0, eval_loss=eval_loss))
    metrics = METRICS.model_copy(update={"findings": findings, "final_loss": losses[-1] if losses else 0.1})
    return list(diagnose(verdict_of(*results, word=word), (NOTHING, NOTHING), (points, metrics), evidence))


def modes(found: list[Finding]) -> list[str]:
    return [finding.mode for finding in found]


@pytest.mark.parametrize(
    ("condition", "mode", "expected"),
    [
        ("max_loss_from_base", "forgetting", "forgetting on routing: raise split.replay_share (now 0.08, 5 to 10 %"),
        ("min_value", "noisy_data", "look for wrong labels in the sources"),
        ("evidence", "missing_evidence", "evidence is missing on routing (not measured): mend the evaluation"),
    ],
)
def test_each_failure_mode_is_named_from_its_own_evidence(condition: str, mode: str, expected: str) -> None:
    (finding,) = found_in(result(condition))
    assert finding.mode == mode
    assert expected in finding.text


def test_forgetting_names_more_replay_a_lower_rate_and_fewer_epochs_with_the_numbers_of_the_guard() -> None:
    (finding,) = found_in(result("max_loss_from_base", found=0.2, low=0.1, high=0.3, items=160))
    assert finding.evidence == {
        "benchmark": "routing", "metric": "exact_match", "found": 0.2, "threshold": 0.1, "low": 0.1, "high": 0.3,
        "items": 160,
    }  # fmt: skip
    assert finding.changes == (
        {"split.replay_share": 0.1},
        {"train.learning_rate": 0.00035},
        {"train.num_train_epochs": 0.25},
    )


@pytest.mark.parametrize(
    ("share", "has_replay", "changes"),
    [
        (0.0, True, [0.05, 0.1]),
        (0.05, True, [0.1]),
        (0.1, True, [0.2]),
        (0.2, True, [0.3]),
        (0.3, True, []),
        (0.05, False, []),
    ],
)
def test_replay_is_raised_to_the_usual_share_and_not_without_end(
    share: float, has_replay: bool, changes: list[float]
) -> None:
    prepared = PREPARED.model_copy(update={"replay_share": share, "has_replay": has_replay})
    (finding,) = found_in(result("max_loss_from_base"), evidence=KNOWN.model_copy(update={"prepared_with": prepared}))
    assert [one["split.replay_share"] for one in finding.changes if "split.replay_share" in one] == changes
    assert ("which needs a source of role replay" in finding.text) == (not has_replay)


@pytest.mark.parametrize(("low", "names"), [(0.0, []), (0.01, ["forgetting"])])
def test_a_guard_that_holds_is_a_hint_where_its_whole_interval_is_a_loss(low: float, names: list[str]) -> None:
    holds = result("max_loss_from_base", "passed", found=0.05, low=low, high=0.09)
    assert modes(found_in(holds, word="passed")) == names


OPEN = (("min_value", 300), ("max_loss_from_base", 1200), ("max_loss_from_champion", 400), ("min_gain_over_base", None))


def test_an_open_condition_is_told_the_items_it_needs_and_blamed_on_nothing_else() -> None:
    (finding,) = found_in(
        *(result(condition, "inconclusive", items=100, items_needed=needed) for condition, needed in OPEN),
        word="inconclusive",
    )
    assert finding.mode == "too_few_items"
    assert finding.text.startswith("routing has 100 items and about 1,200 would decide: add items to it (tasks/evals)")
    assert (finding.evidence["items_needed"], finding.changes) == (1200, ())


CURVE = Finding(mode="overfitting", evidence={}, sentence="the validation loss rose", mitigation="lower lora.r")


def test_what_the_curves_show_is_a_finding_too_and_comes_first() -> None:
    found = found_in(result("min_value"), findings=(CURVE,))
    assert found[0] == CURVE
    assert modes(found) == ["overfitting", "noisy_data"]


def test_what_the_curves_show_is_a_hint_for_a_candidate_that_passed() -> None:
    assert found_in(result("min_value", "passed"), findings=(CURVE,), word="passed") == [CURVE]
    assert found_in(result("min_value", "passed"), word="passed") == []


@pytest.mark.parametrize(
    ("final_loss", "curves", "is_said"), [(1.0, None, False), (1.01, None, True), (1.01, "under_fitting", False)]
)
def test_a_high_loss_is_named_where_no_curve_explains_it(final_loss: float, curves: str | None, is_said: bool) -> None:
    curve = CURVE.model_copy(update={"mode": curves})
    found = found_in(result("min_value"), losses=[final_loss], findings=(curve,) if curves else ())
    assert any("the training loss is still 1.01" in finding.text for finding in found) == is_said


def test_a_high_loss_of_a_candidate_that_reaches_its_target_is_no_finding() -> None:
    assert found_in(result("min_value", "passed"), losses=RESTS, word="passed") == []


def test_a_loss_that_still_falls_asks_for_more_steps_and_one_at_rest_for_more_capacity() -> None:
    (falling,) = found_in(result("min_value"), losses=FALLS, eval_loss=2.0)
    assert falling.mode == "under_fitting"
    assert "still 2.00 and fell by 40.0 % from the middle third of the steps to the last: train longer" in falling.text
    assert falling.evidence["late_fall"] == 0.4
    assert falling.changes == ({"train.num_train_epochs": 1}, {"train.learning_rate": 0.001})
    resting, gap = found_in(result("min_value"), losses=RESTS, eval_loss=2.0)
    assert "came to rest: it fell by 0.0 %" in resting.text
    assert resting.changes == (
        {"lora.r": 32, "lora.lora_alpha": 64},
        {"lora.r": 64, "lora.lora_alpha": 128},
        {"train.learning_rate": 0.001},
    )
    assert gap.mode == "quantisation_gap"


@pytest.mark.parametrize(("last", "is_at_rest"), [(1.9, True), (1.89, False)])
def test_a_fall_of_up_to_five_percent_is_rest(last: float, is_at_rest: bool) -> None:
    found = found_in(result("min_value"), losses=[*RESTS[:-3], last, last, last], eval_loss=2.0)
    assert ("quantisation_gap" in modes(found)) == is_at_rest


def with_trained(**changes: object) -> GateEvidence:
    return KNOWN.model_copy(update={"trained_with": TRAINED.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("modules", "proposed"),
    [
        ("attention-qv", ["attention", "all-linear"]),
        ("attention", ["all-linear"]),
        (("q_proj",), ["all-linear"]),
        ("all-linear", []),
    ],
)
@pytest.mark.parametrize("losses", [RESTS, [2.0, 0.1]], ids=["rests high", "fits without transfer"])
def test_adapters_in_few_layers_are_suspected_where_little_is_learned_or_carried_over(
    modules: str | tuple[str, ...], proposed: list[str], losses: list[float]
) -> None:
    found = found_in(
        result("min_value"), losses=losses, eval_loss=losses[-1], evidence=with_trained(target_modules=modules)
    )
    named = [finding for finding in found if finding.mode == "target_modules"]
    assert [one["lora.target_modules"] for finding in named for one in finding.changes] == proposed
    assert len(named) == bool(proposed)


@pytest.mark.parametrize(("method", "names"), [("qlora", ["quantisation_gap"]), ("lora", [])])
def test_quantisation_is_suspected_only_where_the_base_is_quantised_and_only_a_comparison_tells(
    method: str, names: list[str]
) -> None:
    found = found_in(result("min_value"), losses=RESTS, eval_loss=2.0, evidence=with_trained(method=method))
    gaps = [finding for finding in found if finding.mode == "quantisation_gap"]
    assert modes(gaps) == names
    for gap in gaps:
        assert "only a comparison tells: `tunegate compare --methods qlora,lora`" in gap.text
        assert gap.changes == ({"train.method": "lora", "quantization": None},)


def test_a_candidate_that_learned_little_is_not_told_to_look_for_wrong_labels() -> None:
    assert "noisy_data" not in modes(found_in(result("min_value"), losses=RESTS, eval_loss=1.01))
    assert "noisy_data" in modes(found_in(result("min_value"), losses=RESTS, eval_loss=1.0))


def test_an_adapter_that_learned_and_forgot_is_not_told_to_look_for_wrong_labels() -> None:
    assert "noisy_data" not in modes(found_in(result("max_loss_from_base")))


@pytest.mark.parametrize(
    ("problem", "mode", "changes"),
    [
        ("limited", "missing_evidence", ({"evaluate.limit": None},)),
        ("torn", "missing_evidence", ()),
        ("other_template", "template", ()),
    ],
)
def test_missing_evidence_is_the_only_finding_and_says_which_parameter_withheld_it(
    problem: str, mode: str, changes: tuple[dict[str, None], ...]
) -> None:
    missing = result("evidence", problem=problem, found=None, threshold=None)
    (finding,) = found_in(missing, missing, result("min_value"), losses=RESTS)
    assert (finding.mode, finding.changes) == (mode, changes)


def test_evidence_of_before_gives_findings_without_changes() -> None:
    forgot, learned = (
        found_in(result("max_loss_from_base"), evidence=EVIDENCE),
        found_in(result("min_value"), losses=RESTS, eval_loss=2.0, evidence=EVIDENCE),
    )
    assert [*modes(forgot), *modes(learned)] == ["forgetting", "under_fitting"]
    assert [finding.changes for finding in (*forgot, *learned)] == [(), ()]
