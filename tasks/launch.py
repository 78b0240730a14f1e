"""More than one process: a stage starts itself again under `accelerate launch`, once for each rank.

The first process of them writes the outputs; what one of them ends in, the stage ends in.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from tasks.entry import OUTCOME_VARIABLE
from tasks.errors import TunegateError


class RankFailed(TunegateError):
    """A process of several failed; the message and the exit code are its own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def rank() -> int | None:
    """Which of several processes this is, from 0; None where it was not started as one."""
    found = os.environ.get("RANK")
    return None if found is None else int(found)


def launch(module: str, num_processes: int, threads: int) -> None:
    """Run `python -m <module>` in `num_processes` ranks on this machine, and wait for them.

    Args:
        module: a stage.
        num_processes: one for each GPU, or on a CPU as many as are wanted (gloo).
        threads: CPU threads of each.

    Raises:
        RankFailed: one of them failed; all are stopped then.
    """
    on_cpu = {} if torch.cuda.is_available() else {"ACCELERATE_USE_CPU": "true"}
    with tempfile.TemporaryDirectory() as folder:
        outcome = Path(folder) / "outcome.json"
        command = [
            *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"),
            *("--num_processes", str(num_processes), "--num_cpu_threads_per_process", str(threads)),
            *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", module),
        ]
        done = subprocess.run(command, env=os.environ | on_cpu | {OUTCOME_VARIABLE: str(outcome)}, check=False)
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
