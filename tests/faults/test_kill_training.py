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
KILLS = 20
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


def test_a_training_that_is_killed_at_any_moment_ends_in_the_same_adapter_and_history(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w", train=STEPS)
    started = time.monotonic()
    output = train(root)
    assert "carries on" not in output
    wanted = digests(root)
    assert not list((root / paths.STATE / "checkpoints").glob("*"))
    training_seconds = 0.3 * (time.monotonic() - started)
    chance = random.Random(7)  # noqa: S311  moments, no secrets
    resumed = 0
    for _ in range(KILLS):
        kill_while_training(root, chance, training_seconds)
        resumed += "carries on from checkpoint of step" in train(root)
        assert digests(root) == wanted
    assert resumed >= KILLS // 3
