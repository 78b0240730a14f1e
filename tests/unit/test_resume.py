"""A training that was stopped carries on from its newest whole checkpoint and ends in the same bytes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from tasks.adapters import save_trained
from tasks.digests import digest_path
from tasks.errors import DiskFull
from tasks.records import TrainingPoint
from tasks.train import prepare
from tasks.trainer_checkpoints import CheckpointKey, Checkpoints
from tasks.training_watch import history
from tests.method_matrix import CASES, Case
from tests.tiny_workspace import examples
from tests.unit.tiny_model import make_model, make_tokenizer

STEPS = {
    "max_steps": 12, "learning_rate": 0.02, "warmup_steps": 2, "logging_steps": 2, "save_steps": 4, "eval_steps": 3,
    "per_device_train_batch_size": 2, "neftune_noise_alpha": 5.0,
}  # fmt: skip
KEY = CheckpointKey(data="d", parameters="p", base="b", code="c", libraries="l", machine="m")
ASKED = examples(10)
"""Five steps to an epoch: the checkpoints of steps 4 and 8 are in the middle of one."""
STOPPED = [case for case in CASES if case.name in {"qlora", "dora", "pissa", "loraplus", "full", "prefix_tuning"}]


class Killed(Exception):
    """Stands for the end of the process."""


class Killer(TrainerCallback):  # type: ignore[misc]  # transformers is not typed enough
    """Ends the training after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: object) -> None:
        if state.global_step == self.step:
            raise Killed


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "base"
    make_model(hidden_size=64).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def train(
    case: Case, base: Path, place: Path, killed_at: int | None = None, **changed: object
) -> tuple[str, list[TrainingPoint]]:
    """One training, or its part until it is killed; the digest of what it saved, and its history."""
    checkpoints = Checkpoints(place / "state", KEY)
    session = prepare(case.params(**STEPS | changed), base, ASKED, ASKED[:2], place / "scratch", checkpoints)
    if killed_at is not None:
        session.trainer.add_callback(Killer(killed_at))
    session.run()
    save_trained(session.trainer.model, "base", torch.float32, session.start, place / "out")
    return digest_path(place / "out"), history(session.trainer.state.log_history)


@pytest.mark.parametrize("case", STOPPED, ids=lambda case: case.name)
def test_a_killed_training_ends_in_the_same_bytes_and_the_same_history(case: Case, base: Path, tmp_path: Path) -> None:
    whole = train(case, base, tmp_path / "whole")
    for step in (3, 7, 11):
        with pytest.raises(Killed):
            train(case, base, tmp_path / "killed", killed_at=step)
    assert train(case, base, tmp_path / "killed") == whole


@pytest.mark.parametrize(
    ("changed", "last"),
    [({}, 12), ({"early_stopping_patience": 1, "eval_steps": 4, "learning_rate": 1e-30}, 8)],
    ids=["last step", "stopped early"],
)
def test_a_training_killed_before_its_outputs_are_written_takes_no_step_more(
    changed: dict[str, Any], last: int, base: Path, tmp_path: Path
) -> None:
    whole = train(STOPPED[0], base, tmp_path, **changed)
    assert whole[1][-1].step == last
    assert train(STOPPED[0], base, tmp_path, **changed) == whole


@pytest.mark.parametrize(("free", "expected"), [(10**12, RuntimeError), (1_000, DiskFull)], ids=["room", "full"])
def test_a_checkpoint_that_cannot_be_written_for_want_of_room_says_so(
    free: int, expected: type[Exception], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda _place: SimpleNamespace(free=free))
        raise RuntimeError("unexpected pos 576 vs 534")  # torch's words

    monkeypatch.setattr("transformers.Trainer._save_checkpoint", fail)
    with pytest.raises(expected):
        train(STOPPED[0], base, tmp_path)
