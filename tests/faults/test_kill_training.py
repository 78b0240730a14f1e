"""Twenty kills at random moments of the stage `train`: each training carries on and ends in the same bytes."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tasks import paths
from tasks.digests import digest_path
from tests.tiny_workspace import make_workspace, start_training, train

pytestmark = pytest.mark.slow
KILLS, KILLS_OF_TWO_RANKS = 20, 3
STEPS = {"max_steps": 60, "save_steps": 4, "eval_steps": 8}


def kill_while_training(root: Path, chance: random.Random, seconds: float) -> str:
    """Start the stage, kill its whole group somewhere between its first step and its end; what it had printed."""
    child = start_training(root)
    printed = ""
    assert child.stdout is not None
    for line in child.stdout:
        printed += line
        if "train: step" in line:
            break
    time.sleep(chance.uniform(0, seconds))
    os.killpg(child.pid, signal.SIGKILL)
    rest, _ = child.communicate()
    return printed + rest


def digests(root: Path) -> dict[str, str]:
    """Everything in data/train; what a kill left half-written is not there either."""
    return {path.name: digest_path(path) for path in sorted((root / paths.TRAIN).iterdir())}


def kill_and_carry_on(root: Path, kills: int) -> int:
    """Train once, then with a kill each time; the bytes must be the same. How many found a checkpoint."""
    started = time.monotonic()
    output = train(root)
    assert "carries on" not in output
    wanted = digests(root)
    assert not list((root / paths.STATE / "checkpoints").glob("*"))
    training_seconds = 0.3 * (time.monotonic() - started)
    chance = random.Random(7)  # noqa: S311  moments, no secrets
    resumed = 0
    for _ in range(kills):
        kill_while_training(root, chance, training_seconds)
        resumed += "carries on from checkpoint of step" in train(root)
        assert digests(root) == wanted
    return resumed


def test_a_training_that_is_killed_at_any_moment_ends_in_the_same_adapter_and_history(tmp_path: Path) -> None:
    assert kill_and_carry_on(make_workspace(tmp_path / "w", train=STEPS), KILLS) >= KILLS // 3


def test_two_ranks_that_are_killed_end_in_the_same_adapter_and_history(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w", train=STEPS, compute={"num_processes": 2})
    assert kill_and_carry_on(root, KILLS_OF_TWO_RANKS) >= 1
