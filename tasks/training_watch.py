"""What is watched while a model trains: progress lines, the history, and what stops a run."""

import math
import time
from collections.abc import Iterable
from typing import Any

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


def history(log: Iterable[dict[str, Any]]) -> list[TrainingPoint]:
    """The trainer's log, a point for each line of it, without clocks."""
    names = set(TrainingPoint.model_fields)
    points = []
    for line in log:
        if "loss" in line or "eval_loss" in line:
            numbers = {name: float(value) for name, value in line.items() if name in names - {"step"}}
            points.append(TrainingPoint(step=int(line["step"]), **numbers))
    return points
