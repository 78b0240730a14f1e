"""What is shown and kept while a model trains, on a model of a few thousand weights."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState

from tasks import training_watch
from tasks.adapters import save_trained
from tasks.digests import digest_path
from tasks.files import read_json
from tasks.params import load_params
from tasks.paths import PACE_VARIABLE
from tasks.records import Example, Pace, TrainingPoint
from tasks.train import prepare
from tasks.training_watch import BestWeights, Progress, history, write_curves
from tests.unit.rows import conversation
from tests.unit.test_methods import ASKED
from tests.unit.tiny_model import make_model, make_tokenizer

NOTHING: Any = None
PARAMS = load_params()
WRONG = [
    conversation("five", ("user", "route this ticket"), ("assistant", "repair")),
    conversation("six", ("user", "repair this please"), ("assistant", "billing")),
]
SHORT = {
    "max_steps": 21, "per_device_train_batch_size": 2, "learning_rate": 0.001, "lr_scheduler_type": "constant",
    "warmup_steps": 0, "max_length": 32, "logging_steps": 3, "eval_steps": 2, "save_steps": 0,
}  # fmt: skip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still until it is told the time."""
    time = SimpleNamespace(now=100.0)
    monkeypatch.setattr("tasks.training_watch.time.monotonic", lambda: time.now)
    monkeypatch.setattr(training_watch, "memory_gb", lambda: 1.93)
    return time


def state(step: int, epoch: float, tokens: int) -> TrainerState:
    return TrainerState(global_step=step, max_steps=80, epoch=epoch, num_input_tokens_seen=tokens)


def test_a_line_has_losses_rates_memory_and_the_time_left(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(examples=160)
    progress.on_train_begin(NOTHING, state(0, 0.0, 0), NOTHING)
    clock.now += 40
    progress.on_log(
        NOTHING, state(20, 0.25, 2400), NOTHING, logs={"loss": 0.5, "learning_rate": 7e-4, "grad_norm": 1.234}
    )
    progress.on_log(NOTHING, state(20, 0.25, 2400), NOTHING, logs={"eval_loss": 0.5})
    assert capsys.readouterr().out == (
        "train: step 20/80  loss 0.500  lr 0.0007  grad norm 1.23  1.0 examples/s  60 tokens/s  1.9 GB  0:02:00 left\n"
    )


def test_a_training_that_is_carried_on_counts_from_there(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(examples=160)
    progress.on_train_begin(NOTHING, state(40, 0.5, 4800), NOTHING)
    clock.now += 40
    progress.on_log(NOTHING, state(60, 0.75, 7200), NOTHING, logs={"loss": 0.5})
    assert "1.0 examples/s  60 tokens/s  1.9 GB  0:00:40 left" in capsys.readouterr().out


def test_validation_is_no_part_of_the_rates_and_is_part_of_the_time_left(clock: SimpleNamespace) -> None:
    progress = Progress(examples=160)
    progress.on_train_begin(NOTHING, state(0, 0.0, 0), NOTHING)
    clock.now += 40
    progress.on_step_end(NOTHING, state(20, 0.25, 2400), NOTHING)
    clock.now += 40
    progress.on_evaluate(NOTHING, state(20, 0.25, 2400), NOTHING)
    found = progress.pace(state(20, 0.25, 2400))
    assert (found.seconds, found.examples_per_second, found.tokens_per_second) == (80.0, 1.0, 60.0)


def test_the_pace_is_left_where_a_run_asks_for_it_and_said_anyway(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Progress(examples=160)
    progress.on_train_begin(NOTHING, state(0, 0.0, 0), NOTHING)
    clock.now += 40
    monkeypatch.delenv(PACE_VARIABLE, raising=False)
    progress.on_train_end(NOTHING, state(20, 0.25, 2400), NOTHING)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(PACE_VARIABLE, str(tmp_path / "pace.json"))
    progress.on_train_end(NOTHING, state(20, 0.25, 2400), NOTHING)
    assert read_json(tmp_path / "pace.json", Pace) == Pace(
        steps=20, seconds=40.0, examples_per_second=1.0, tokens_per_second=60.0, memory_gb=1.93
    )
    said = "train: 20 steps in 0:00:40, 1.0 examples/s, 60 tokens/s, at most 1.9 GB\n"
    assert capsys.readouterr().out == 2 * said


def test_memory_is_that_of_this_process() -> None:
    assert 0.05 < training_watch.memory_gb() < 64


def test_dvc_gets_two_lists_without_gaps(tmp_path: Path) -> None:
    points = [
        TrainingPoint(step=1, epoch=0.1, loss=2.0, learning_rate=0.1, grad_norm=3.0),
        TrainingPoint(step=2, epoch=0.2, loss=1.0, learning_rate=0.2, grad_norm=2.0),
        TrainingPoint(step=2, epoch=0.2, eval_loss=1.5),
    ]
    write_curves(tmp_path, points)
    train, validation = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("train", "validation"))
    assert train == [
        {"step": 1, "loss": 2.0, "learning_rate": 0.1, "grad_norm": 3.0},
        {"step": 2, "loss": 1.0, "learning_rate": 0.2, "grad_norm": 2.0},
    ]
    assert validation == [{"step": 2, "eval_loss": 1.5}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watch") / "base"
    make_model(hidden_size=64).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def train(base: Path, place: Path, validation: list[Example], **changed: object) -> SimpleNamespace:
    """A training at a constant learning rate: its validation losses by step, what it saved, and how far it went."""
    params = PARAMS.model_copy(update={"train": PARAMS.train.model_copy(update=SHORT | changed)})
    session = prepare(params, base, ASKED, validation, place / "scratch")
    session.run()
    save_trained(session.trainer.model, "tiny", torch.float32, session.start, place / "out")
    points = history(session.trainer.state.log_history)
    measured = {point.step: point.eval_loss for point in points if point.eval_loss is not None}
    return SimpleNamespace(
        measured=measured, digest=digest_path(place / "out"), steps=session.trainer.state.global_step
    )


def best_of(measured: dict[int, float]) -> int:
    return min(measured, key=measured.__getitem__)


@pytest.fixture(scope="module")
def worsens(base: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A training that is measured by wrong answers, so that it gets worse after a while."""
    return train(base, tmp_path_factory.mktemp("worsens"), WRONG)


def test_the_last_step_is_measured_too(worsens: SimpleNamespace) -> None:
    assert list(worsens.measured) == [*range(2, 21, 2), 21]


def test_what_is_saved_is_what_stopping_at_the_best_step_would_have_saved(
    worsens: SimpleNamespace, base: Path, tmp_path: Path
) -> None:
    best = best_of(worsens.measured)
    assert 2 < best < 16
    assert worsens.measured[21] > worsens.measured[best] + 0.05
    there = train(base, tmp_path / "there", WRONG, max_steps=best, keep_best=False)
    last = train(base, tmp_path / "last", WRONG, keep_best=False)
    assert worsens.digest == there.digest
    assert worsens.digest != last.digest


def test_a_training_stops_after_so_many_measurements_without_a_better_one(
    worsens: SimpleNamespace, base: Path, tmp_path: Path
) -> None:
    stopped = train(base, tmp_path, WRONG, early_stopping_patience=2)
    assert stopped.steps == best_of(worsens.measured) + 2 * 2
    assert stopped.digest == worsens.digest


def measure(best: BestWeights, losses: list[float], model: torch.nn.Module) -> TrainerControl:
    log = [{"step": 10 * at, "epoch": 0.1, "eval_loss": loss} for at, loss in enumerate(losses, 1)]
    measured = TrainerState(global_step=10 * len(losses), max_steps=80, log_history=log)
    return best.on_evaluate(NOTHING, measured, TrainerControl(should_save=True), model=model)


@pytest.mark.parametrize(
    ("losses", "stops"),
    [([0.5, 0.6], False), ([0.5, 0.6, 0.7], True), ([0.5, 0.6, 0.4, 0.5], False), ([0.5, 0.5, 0.5], True)],
)
def test_patience_is_counted_in_the_trainers_log_so_a_resumed_training_counts_on(
    losses: list[float], stops: bool
) -> None:
    control = measure(BestWeights(patience=2, keeps=False), losses, torch.nn.Linear(1, 1))
    assert control.should_training_stop == stops
    assert control.should_save != stops


def test_the_line_of_a_measurement_says_which_is_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    measure(BestWeights(patience=None, keeps=False), [0.5, 0.4], torch.nn.Linear(1, 1))
    measure(BestWeights(patience=None, keeps=False), [0.5, 0.4, 0.6], torch.nn.Linear(1, 1))
    assert capsys.readouterr().out.splitlines() == [
        "train: step 20/80  validation loss 0.400 (the best so far)",
        "train: step 30/80  validation loss 0.600 (the best is 0.400 at step 20)",
    ]


def test_the_best_weights_go_through_a_folder_bit_for_bit(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad = False
    kept = model.weight.detach().clone()
    first = BestWeights(patience=None, keeps=True)
    measure(first, [0.5], model)
    first.save(tmp_path)
    with torch.no_grad():
        model.weight.add_(1.0)
    measure(first, [0.5, 0.6], model)
    second = BestWeights(patience=None, keeps=True)
    second.load(tmp_path)
    second.restore(model)
    assert list(second.weights) == ["weight"]
    assert torch.equal(model.weight, kept)


def test_a_folder_without_best_weights_gives_none(tmp_path: Path) -> None:
    empty = BestWeights(patience=None, keeps=True)
    empty.save(tmp_path)
    empty.load(tmp_path)
    assert (list(tmp_path.iterdir()), empty.weights) == ([], {})
