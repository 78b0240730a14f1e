import pytest

from tasks.diagnosis import diagnose
from tasks.records import Evaluation, TrainingPoint, TrainMetrics
from tasks.verdict_records import RuleResult, Verdict

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


def advice(condition: str, notes: tuple[str, ...] = (), final_loss: float = 0.1) -> str:
    failed = RuleResult(
        benchmark="routing",
        metric="exact_match",
        condition=condition,
        threshold=0.1,
        found=0.0,
        outcome="refused",
        reason="r",
    )
    verdict = Verdict(
        verdict="refused",
        adapter_digest="a",
        confidence=0.95,
        results=(failed,),
        comparisons={},
        failures=("f",),
        diagnosis=(),
    )
    points = [TrainingPoint(step=1, epoch=1.0, loss=final_loss), TrainingPoint(step=1, epoch=1.0, eval_loss=0.2)]
    metrics = METRICS.model_copy(update={"notes": notes, "final_loss": final_loss})
    return "\n".join(diagnose(verdict, NOTHING, NOTHING, points, metrics))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("max_loss_from_base", "forgetting on routing: raise split.replay_share"),
        ("min_value", "look for wrong labels in the sources"),
        ("evidence", "evidence is missing: mend the evaluation"),
    ],
)
def test_each_failure_mode_is_named_from_its_own_evidence(condition: str, expected: str) -> None:
    assert expected in advice(condition)


def test_an_open_condition_is_told_the_items_it_needs_and_blamed_on_nothing_else() -> None:
    open_results = [
        RuleResult(
            benchmark="routing", metric="exact_match", condition=condition, threshold=0.1, found=0.1, reason="r",
            outcome="inconclusive", items=100, items_needed=needed,
        )
        for condition, needed in (("min_value", 300), ("max_loss_from_base", 1200), ("min_gain_over_base", None))
    ]  # fmt: skip
    verdict = Verdict(
        verdict="inconclusive", adapter_digest="a", confidence=0.95, results=tuple(open_results), comparisons={},
        failures=(), diagnosis=(), undecided=("u",),
    )  # fmt: skip
    (said,) = diagnose(verdict, NOTHING, NOTHING, [], METRICS)
    assert said.startswith("routing has 100 items and about 1,200 would decide: add items to it (tasks/evals)")


def test_the_warnings_of_the_training_are_advice_too_and_come_first() -> None:
    found = advice("min_value", ("overfitting: the validation loss rose", "the gradient norm exploded")).splitlines()
    assert found[:2] == ["overfitting: the validation loss rose", "the gradient norm exploded"]
    assert "look for wrong labels" in found[2]


@pytest.mark.parametrize(
    ("final_loss", "notes", "is_said"),
    [(1.0, (), False), (1.01, (), True), (1.01, ("the training loss hardly fell",), False)],
)
def test_a_high_loss_is_named_where_no_warning_explains_it(
    final_loss: float, notes: tuple[str, ...], is_said: bool
) -> None:
    assert ("the training loss is still 1.01: raise lora.r" in advice("min_value", notes, final_loss)) == is_said


def test_an_adapter_that_learned_and_forgot_is_not_told_to_look_for_wrong_labels() -> None:
    assert "wrong labels" not in advice("max_loss_from_base")
