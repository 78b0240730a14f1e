"""What is watched while a model trains: progress lines, the best weights, early stopping, the history."""

import json
import os
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.errors import TrainingInvalid
from tasks.files import write_json, write_text
from tasks.paths import PACE_VARIABLE
from tasks.records import Pace, TrainingPoint
from tasks.sharding import whole_weights


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is not typed enough
    """A plain line at every logged step: loss, learning rate, gradient norm, rates, memory, and the time left.

    Rates are over the whole training, or over what follows where it was carried on, without the time that validation
    takes; the time left has its part of it.

    Args:
        examples: how many an epoch has.
    """

    def __init__(self, examples: int) -> None:
        self.examples = examples
        self.memory_gb = 0.0
        self.begin = TrainerState()
        self.started = self.stepped = time.monotonic()
        self.validating = 0.0

    def on_train_begin(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: object
    ) -> None:
        """Start the clock, at the step that the training carries on from."""
        self.begin = TrainerState(
            global_step=state.global_step, epoch=state.epoch, num_input_tokens_seen=state.num_input_tokens_seen
        )
        self.started = self.stepped = time.monotonic()
        self.validating = 0.0

    def on_step_end(
        self, _args: TrainingArguments, _state: TrainerState, _control: TrainerControl, **_: object
    ) -> None:
        """Note when the step ended; validation, if any, follows."""
        self.stepped = time.monotonic()

    def on_evaluate(
        self, _args: TrainingArguments, _state: TrainerState, _control: TrainerControl, **_: object
    ) -> None:
        """Note how long validation took."""
        self.validating += time.monotonic() - self.stepped

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: object,
    ) -> None:
        """Print where the training is."""
        if not logs or "loss" not in logs:
            return
        pace = self.pace(state)
        left = pace.seconds / pace.steps * (state.max_steps - state.global_step)
        print(
            f"train: step {state.global_step}/{state.max_steps}  loss {logs['loss']:.3f}  "
            f"lr {logs.get('learning_rate', 0.0):.2g}  grad norm {logs.get('grad_norm', 0.0):.2f}  "
            f"{pace.examples_per_second:.1f} examples/s  {pace.tokens_per_second:.0f} tokens/s  "
            f"{pace.memory_gb:.1f} GB  {timedelta(seconds=round(left))} left",
            flush=True,
        )

    def on_train_end(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: object
    ) -> None:
        """Say how fast it went, and leave it for the run record where a run asks for it."""
        pace = self.pace(state)
        print(
            f"train: {pace.steps} steps in {timedelta(seconds=round(pace.seconds))}, "
            f"{pace.examples_per_second:.1f} examples/s, {pace.tokens_per_second:.0f} tokens/s, "
            f"at most {pace.memory_gb:.1f} GB",
            flush=True,
        )
        if (path := os.environ.get(PACE_VARIABLE)) and state.is_world_process_zero:
            write_json(Path(path), pace)

    def pace(self, state: TrainerState) -> Pace:
        """How fast the training has been up to now."""
        seconds = max(time.monotonic() - self.started, 1e-6)
        training = max(seconds - self.validating, 1e-6)
        self.memory_gb = max(self.memory_gb, memory_gb())
        return Pace(
            steps=max(state.global_step - self.begin.global_step, 1),
            seconds=seconds,
            examples_per_second=(state.epoch - self.begin.epoch) * self.examples / training,
            tokens_per_second=(state.num_input_tokens_seen - self.begin.num_input_tokens_seen) / training,
            memory_gb=self.memory_gb,
        )


def memory_gb() -> float:
    """What this process takes: on a GPU the most that was allocated there, on a CPU what is resident now."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    resident: int = psutil.Process().memory_info().rss
    return resident / 1e9


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the weights that are trained, on the CPU, by name; of a sharded model in every process all of them."""
    return {
        name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, weight in whole_weights(model)
    }


@torch.no_grad()
def put_back(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Write weights of `trained_weights` into the model again, bit for bit.

    Raises:
        TrainingInvalid: the model trains other weights, or in another shape or type.
    """
    trained = {name: (weight.shape, weight.dtype) for name, weight in whole_weights(model)}
    given = {name: (weight.shape, weight.dtype) for name, weight in weights.items()}
    wrong = [name for name in sorted(trained.keys() | given.keys()) if trained.get(name) != given.get(name)]
    if wrong:
        raise TrainingInvalid(f"a trainer checkpoint holds other weights than are trained, {wrong[0]} first")
    for name, weight in whole_weights(model):
        weight.copy_(weights[name])


class BestWeights(TrainerCallback):  # type: ignore[misc]  # transformers is not typed enough
    """Keeps the trained weights of the least validation loss; of `full` that is a second model in memory.

    transformers' own callbacks need its checkpoints on disk for that. The last step is always measured, so that it can
    be the best. After `patience` measurements without a better one the training stops; None never does. Which was the
    best is read from the trainer's log, which a checkpoint holds anyway.
    """

    WEIGHTS = "best.safetensors"

    def __init__(self, *, patience: int | None, keeps: bool) -> None:
        self.patience = patience
        self.keeps = keeps
        self.weights: dict[str, torch.Tensor] = {}

    def on_evaluate(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module,
        **_: object,
    ) -> TrainerControl:
        """Keep the weights if they are the best so far; say so; stop if it is long since any were."""
        measured = [(p.step, p.eval_loss) for p in history(state.log_history) if p.eval_loss is not None]
        losses = [loss for _, loss in measured]
        since = len(losses) - 1 - losses.index(min(losses))
        step, best = measured[-1 - since]
        if since == 0 and self.keeps:
            self.weights = trained_weights(model)
        said = f"the best is {best:.3f} at step {step}" if since else "the best so far"
        print(
            f"train: step {state.global_step}/{state.max_steps}  validation loss {losses[-1]:.3f} ({said})", flush=True
        )
        if self.patience is not None and since >= self.patience and state.global_step < state.max_steps:
            print(f"train: stops early: no better validation loss in the last {since} measurements", flush=True)
            control.should_training_stop = True
            control.should_save = False  # a training that is carried on from here would not stop
        return control

    def restore(self, model: torch.nn.Module) -> None:
        """Put the best weights into the model, if any were kept."""
        if self.weights:
            put_back(model, self.weights)

    def save(self, folder: Path) -> None:
        """Write what is kept into a trainer checkpoint."""
        if self.weights:
            save_file(self.weights, folder / self.WEIGHTS)

    def load(self, folder: Path) -> None:
        """Take what was kept out of a trainer checkpoint."""
        path = folder / self.WEIGHTS
        self.weights = load_file(path) if path.is_file() else {}


def history(log: Iterable[dict[str, Any]]) -> list[TrainingPoint]:
    """The trainer's log, a point for each line of it, without clocks."""
    names = set(TrainingPoint.model_fields)
    points = []
    for line in log:
        if "loss" in line or "eval_loss" in line:
            numbers = {name: float(value) for name, value in line.items() if name in names - {"step"}}
            points.append(TrainingPoint(step=int(line["step"]), **numbers))
    return points


def write_curves(folder: Path, points: Sequence[TrainingPoint]) -> None:
    """The history once more, as two lists that `dvc plots` draws: train.json and validation.json, both over `step`.

    It reads no JSONL, and draws no line through a value that is missing.
    """
    train = [
        {"step": point.step, "loss": point.loss, "learning_rate": point.learning_rate, "grad_norm": point.grad_norm}
        for point in points
        if point.loss is not None
    ]
    validation = [{"step": point.step, "eval_loss": point.eval_loss} for point in points if point.eval_loss is not None]
    for name, rows in (("train", train), ("validation", validation)):
        write_text(folder / f"{name}.json", json.dumps(rows, indent=0) + "\n")
