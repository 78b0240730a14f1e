"""The stage `train` with FSDP on two CPU processes, as a program: accelerate shards on accelerators only.

What stands in for a GPU: accelerate is told that the processes have one, and FSDP that it is the CPU. Everything else,
the flags included, is as it is on GPUs.
"""

import os
from typing import Any
from unittest.mock import patch

import torch
from accelerate import state
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FullyShardedDataParallel
from transformers import TrainerCallback

from tasks import train, trainer
from tasks.entry import run_stage
from tasks.launch import launch, rank


class Stop(TrainerCallback):  # type: ignore[misc]  # transformers is not typed enough
    """Ends the training after the step that `STOP_AT` names."""

    def on_step_end(self, _args: Any, at: Any, _control: Any, **_: object) -> None:
        if at.global_step == int(os.environ["STOP_AT"]):
            raise KeyboardInterrupt


def run_with_a_stand_in() -> None:
    """Let accelerate and FSDP take the CPU for an accelerator; it cannot send weights from process to process."""
    os.environ["FSDP_SYNC_MODULE_STATES"] = "false"
    make_state, wrap, build = state.PartialState.__init__, FullyShardedDataParallel.__init__, trainer.build_trainer

    def on_gpus(self: Any, *rest: Any, **options: Any) -> None:
        make_state(self, *rest, **options)
        if self.distributed_type is DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    def on_cpu(self: Any, *rest: Any, **options: Any) -> None:
        wrap(self, *rest, **options | {"device_id": torch.device("cpu")})

    def stopped(*rest: Any) -> Any:
        made = build(*rest)
        made.add_callback(Stop())
        return made

    with (
        patch.object(state.PartialState, "__init__", on_gpus),
        patch.object(FullyShardedDataParallel, "__init__", on_cpu),
        patch.object(train, "build_trainer", stopped),
        patch.object(train, "impossible_without_cuda", lambda _params: iter(())),
    ):
        run_stage(train.main)


if __name__ == "__main__":
    if rank() is None:
        launch("tests.fsdp_on_cpu", 2, 1, "fsdp")
    else:
        run_with_a_stand_in()
