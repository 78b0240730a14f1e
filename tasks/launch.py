"""More than one process: a stage starts itself again under `accelerate launch`, once for each rank.

The first process of them writes the outputs; what one of them ends in, the stage ends in. accelerate puts each into a
session of its own, which a signal to the stage's group does not reach: they end with their parent.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from tasks import CHILD_FLAG, die_with_parent
from tasks.entry import OUTCOME_VARIABLE
from tasks.errors import ParamsInvalid, TunegateError
from tasks.params_train import Sharding

FSDP_FLAGS = {
    "fsdp_version": "1",
    "fsdp_sharding_strategy": "FULL_SHARD",
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "fsdp_backward_prefetch": "BACKWARD_PRE",
    "fsdp_forward_prefetch": "false",
    "fsdp_offload_params": "false",
    "fsdp_state_dict_type": "SHARDED_STATE_DICT",
    "fsdp_sync_module_states": "true",
    "fsdp_use_orig_params": "false",
    "fsdp_cpu_ram_efficient_loading": "false",
}
"""What PEFT's guide "Fully Sharded Data Parallel" sets for QLoRA, but for two: nothing is moved to the CPU and back at
each step, and every process reads the base by itself, since each holds the adapter to its start. Version 1, since
accelerate does not shard bitsandbytes' 4-bit weights with version 2; with original parameters off, so that memory is
saved. transformers adds PEFT's policy, which wraps the adapters by themselves."""
FSDP_ENVIRONMENT = {"FSDP_IGNORED_MODULES": r".*rotary_emb"}
"""The frequencies of rotary embeddings stay float32: FSDP would round them with the weights to the compute type, and
far positions would be turned by wrong angles. accelerate has no flag for it."""


LAUNCHED = "TUNEGATE_LAUNCHED"
"""Set for the processes that `launch` starts. `RANK` alone says nothing: clusters set it for every pod."""


class RankFailed(TunegateError):
    """A process of several failed; the message and the exit code are its own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def rank() -> int | None:
    """Which of several processes this is, from 0; None where `launch` did not start it."""
    return int(os.environ["RANK"]) if LAUNCHED in os.environ else None


def build_command(module: str, num_processes: int, threads: int, sharding: Sharding) -> list[str]:
    """The command line of `accelerate launch`; the arguments are those of `launch`."""
    flags = [f"--{name}={value}" for name, value in FSDP_FLAGS.items()]
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1"),
        *(["--use_fsdp", *flags] if sharding == "fsdp" else ["--multi_gpu"]),
        *("--num_processes", str(num_processes), "--num_cpu_threads_per_process", str(threads)),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", module),
    ]


def launch(module: str, num_processes: int, threads: int, sharding: Sharding) -> None:
    """Run `python -m <module>` in `num_processes` ranks on this machine, and wait for them.

    Args:
        module: a stage.
        num_processes: one for each GPU, or on a CPU as many as are wanted (gloo).
        threads: CPU threads of each.
        sharding: whether each rank has the whole model (DDP), or a part of it.

    Raises:
        ParamsInvalid: there are fewer GPUs than processes.
        RankFailed: one of them failed; all are stopped then.
    """
    if torch.cuda.is_available() and torch.cuda.device_count() < num_processes:
        raise ParamsInvalid(
            f"params.yaml compute.num_processes: found {num_processes}, this machine has {torch.cuda.device_count()} "
            "CUDA device(s); expected one for each process: lower it to that number"
        )
    added = {LAUNCHED: "1", CHILD_FLAG: "1"} | ({} if torch.cuda.is_available() else {"ACCELERATE_USE_CPU": "true"})
    added |= FSDP_ENVIRONMENT if sharding == "fsdp" else {}
    with tempfile.TemporaryDirectory() as folder:
        outcome = Path(folder) / "outcome.json"
        command = build_command(module, num_processes, threads, sharding)
        done = subprocess.run(
            command,
            env=os.environ | added | {OUTCOME_VARIABLE: str(outcome)},
            preexec_fn=die_with_parent,
            check=False,
        )
        if done.returncode:
            raise _failure(outcome, done.returncode)


def _failure(outcome: Path, code: int) -> RankFailed:
    if not outcome.is_file():
        return RankFailed(
            f"a process of the training ended with {code} and no word of its own (killed, or out of memory?); "
            "run again, it carries on from its newest checkpoint",
            1,
        )
    told = json.loads(outcome.read_text(encoding="utf-8"))
    return RankFailed(str(told["message"]), int(told["exit_code"]))


def quiet_unless_first() -> None:
    """Let only the first rank write to the terminal; errors of all are shown."""
    if rank():
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for as long as the process lives
