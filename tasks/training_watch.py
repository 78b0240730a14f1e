"""What is watched while a model trains: progress lines, the history, and what stops a run."""

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.errors import TrainingInvalid
from tasks.records import TrainingPoint


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is not typed enough
    """A plain line at every logged step, with the rate and the time left; a loss that is not finite stops the run."""

    def __init__(self, examples_per_step: int) -> None:
        self.examples_per_step = examples_per_step
        self.started = time.monotonic()
        self.first_step = 0

    def on_train_begin(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: object
    ) -> None:
        """Start the clock."""
        self.started = time.monotonic()
        self.first_step = state.global_step

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: object,
    ) -> None:
        """Print where the run is."""
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingInvalid(
                f"step {state.global_step}: the loss is {loss}; lower train.learning_rate (now "
                f"{_args.learning_rate}) or check the data, and run again"
            )
        seconds = max(time.monotonic() - self.started, 1e-6)
        steps = max(state.global_step - self.first_step, 1)
        left = seconds / steps * (state.max_steps - state.global_step)
        rate = steps * self.examples_per_step / seconds
        print(
            f"train: step {state.global_step}/{state.max_steps}  loss {loss:.3f}  "
            f"{rate:.1f} examples/s  {left:.0f} s left",
            flush=True,
        )


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the weights that are trained, on the CPU, by name."""
    return {
        name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


@torch.no_grad()
def put_back(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Write weights of `trained_weights` into the model again, bit for bit.

    Raises:
        TrainingInvalid: the model trains other weights, or in another shape or type.
    """
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    wrong = [
        name
        for name in sorted(trained.keys() | weights.keys())
        if name not in trained
        or name not in weights
        or (trained[name].shape, trained[name].dtype) != (weights[name].shape, weights[name].dtype)
    ]
    if wrong:
        raise TrainingInvalid(f"a trainer checkpoint holds other weights than are trained, {wrong[0]} first")
    for name, weight in trained.items():
        weight.copy_(weights[name])


class BestWeights(TrainerCallback):  # type: ignore[misc]  # transformers is not typed enough
    """Keeps the trained weights of the least validation loss; of `full` that is a second model in memory.

    The last step is always measured, so that it can be the best. After `patience` measurements without a better one the
    training stops; None never does.
    """

    WEIGHTS = "best.safetensors"

    def __init__(self, *, patience: int | None, keeps: bool) -> None:
        self.patience = patience
        self.keeps = keeps
        self.loss = math.inf
        self.step = 0
        self.weights: dict[str, torch.Tensor] = {}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Measure after the last step too."""
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True
        return control

    def on_evaluate(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        model: torch.nn.Module,
        **_: object,
    ) -> TrainerControl:
        """Keep the weights if they are the best so far; say so; stop if it is long since any were."""
        loss = float(metrics["eval_loss"])
        is_best = loss < self.loss
        if is_best:
            self.loss, self.step = loss, state.global_step
            self.weights = trained_weights(model) if self.keeps else {}
        said = "the least so far" if is_best else f"least {self.loss:.3f} at step {self.step}"
        print(f"train: step {state.global_step}/{state.max_steps}  validation loss {loss:.3f} ({said})", flush=True)
        if self.patience is not None and measured_since_best(state.log_history, metrics) >= self.patience:
            print(f"train: stops early: no better validation loss for {self.patience} measurements", flush=True)
            control.should_training_stop = True
        return control

    def restore(self, model: torch.nn.Module) -> None:
        """Put the best weights into the model, if any were kept."""
        if self.weights:
            put_back(model, self.weights)

    def save(self, folder: Path) -> None:
        """Write what is kept into a trainer checkpoint."""
        if self.weights:
            note = {"loss": repr(self.loss), "step": str(self.step)}
            save_file(self.weights, folder / self.WEIGHTS, metadata=note)

    def load(self, folder: Path) -> None:
        """Take what was kept out of a trainer checkpoint."""
        path = folder / self.WEIGHTS
        if path.is_file():
            with safe_open(path, "pt") as file:
                note = file.metadata()
                self.weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
            self.loss, self.step = float(note["loss"]), int(note["step"])


def measured_since_best(log: Iterable[dict[str, Any]], last: dict[str, float]) -> int:
    """How many measurements in a row were no better than the best before them; `last` may be in the log already."""
    losses = [float(line["eval_loss"]) for line in log if "eval_loss" in line]
    if not losses or losses[-1] != last["eval_loss"]:
        losses.append(float(last["eval_loss"]))
    return len(losses) - 1 - losses.index(min(losses))


def history(log: Iterable[dict[str, Any]]) -> list[TrainingPoint]:
    """The trainer's log, a point for each line of it, without clocks."""
    names = set(TrainingPoint.model_fields)
    points = []
    for line in log:
        if "loss" in line or "eval_loss" in line:
            numbers = {name: float(value) for name, value in line.items() if name in names - {"step"}}
            points.append(TrainingPoint(step=int(line["step"]), **numbers))
    return points
