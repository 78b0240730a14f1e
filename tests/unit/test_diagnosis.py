import pytest

from tasks.diagnosis import diagnose
from tasks.records import Evaluation, RuleResult, TrainingPoint, TrainMetrics, Verdict

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


def advice(condition: str, losses: list[float], eval_losses: list[float]) -> str:
    failed = RuleResult(
        benchmark="routing",
        metric="exact_match",
        condition=condition,
        threshold=0.1,
        found=0.0,
        passed=False,
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
    points = [TrainingPoint(step=step, epoch=1.0, loss=loss) for step, loss in enumerate(losses)]
    points += [TrainingPoint(step=step, epoch=1.0, eval_loss=loss) for step, loss in enumerate(eval_losses)]
    return "\n".join(diagnose(verdict, NOTHING, NOTHING, points, METRICS))


@pytest.mark.parametrize(
    ("condition", "losses", "eval_losses", "expected"),
    [
        ("max_loss_from_base", [2.0, 0.1], [0.2], "forgetting on routing: raise split.replay_share"),
        (
            "min_value",
            [2.0, 1.9],
            [2.0],
            "the training loss hardly fell (2.00 to 1.90 in 20 steps): raise train.learning_rate",
        ),
        ("min_value", [4.0, 1.5], [1.5], "the training loss is still 1.50: raise lora.r"),
        ("min_value", [2.0, 0.1], [0.3, 0.6], "overfitting: the validation loss rose from 0.30 to 0.60"),
        ("min_value", [2.0, 0.1], [0.2], "look for wrong labels in the sources"),
        ("evidence", [2.0, 0.1], [0.2], "evidence is missing: mend the evaluation"),
    ],
)
def test_each_failure_mode_is_named_from_its_own_evidence(
    condition: str, losses: list[float], eval_losses: list[float], expected: str
) -> None:
    assert expected in advice(condition, losses, eval_losses)


def test_an_adapter_that_learned_and_forgot_is_not_told_to_look_for_wrong_labels() -> None:
    assert "wrong labels" not in advice("max_loss_from_base", [2.0, 0.1], [0.2])
