"""What stops a training at once: a number that is not finite, a loss of zero, a batch that teaches nothing."""

import math
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.errors import TrainingInvalid

NAMES = {"loss": "the loss", "grad_norm": "the gradient norm", "eval_loss": "the validation loss"}


class Guards(TrainerCallback):  # type: ignore[misc]  # transformers is not typed enough
    """Looks at every logged line; a number that no training can go on from stops the run."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: object,
    ) -> None:
        """Check what was measured.

        Raises:
            TrainingInvalid: a loss or the gradient norm is not finite, or the loss is exactly zero.
        """
        for key, name in NAMES.items():
            if logs and key in logs:
                require_finite(state.global_step, name, float(logs[key]), args.learning_rate)
        if logs and logs.get("loss") == 0:
            raise TrainingInvalid(
                f"step {state.global_step}: the loss is exactly 0: every token that is trained is predicted with "
                "certainty, or none is; look at data/train/supervision.json, then at the answers in the sources"
            )


def require_finite(step: int, name: str, value: float, learning_rate: float) -> None:
    """Check one number.

    Raises:
        TrainingInvalid: it is NaN or infinite.
    """
    if math.isfinite(value):
        return
    reason = "too large a step" if step > 1 else "damaged base weights, or numbers that the compute type cannot hold"
    move = (
        f"lower train.learning_rate (now {learning_rate:g}) or raise train.warmup_steps, and run again"
        if step > 1
        else "run `dvc repro --force --single-item base`, or take float32 for compute.dtype"
    )
    raise TrainingInvalid(f"step {step}: {name} is {value}, most likely from {reason}; {move}")


def check_step(step: int, loss: torch.Tensor, items: torch.Tensor | int | None, learning_rate: float) -> None:
    """Check one step before its weights move.

    Args:
        step: counted from 1.
        loss: a scalar.
        items: how many tokens of the step carry loss, None where nobody counted.
        learning_rate: of the parameters, for the message.

    Raises:
        TrainingInvalid: no token carries loss, or the loss is not finite.
    """
    if items is not None and int(items) == 0:
        raise TrainingInvalid(
            f"step {step}: none of its tokens carries loss, so it would teach nothing; raise train.max_length, which "
            "cuts the answers off, or look at data/train/supervision.json"
        )
    require_finite(step, NAMES["loss"], float(loss), learning_rate)
