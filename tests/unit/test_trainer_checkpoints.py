"""Trainer checkpoints: whole or not used, of this training or not used, bounded, rotated by step."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.trainer_checkpoints import CheckpointKey, Checkpoints, build_key
from tests.method_matrix import PARAMS

KEY = CheckpointKey(data="d", parameters="p", base="b", code="c", libraries="l", machine="m")


def write(checkpoints: Checkpoints, step: int) -> Path:
    """A checkpoint of a step, as the trainer leaves it."""
    folder = checkpoints.folder / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in ("trained.safetensors", "optimizer.pt", "trainer_state.json"):
        (folder / name).write_bytes(f"{name} of {step}".encode())
    return folder


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    made = Checkpoints(tmp_path, KEY)
    made.prepare()
    for step in (4, 8):
        made.seal(write(made, step))
    return made


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[3] ^= 1
    path.write_bytes(bytes(raw))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit of the weights": (lambda f: flip(f / "trained.safetensors"), "trained.safetensors has other bytes"),
    "a flipped bit of the optimizer": (lambda f: flip(f / "optimizer.pt"), "optimizer.pt has other bytes"),
    "another step": (lambda f: (f / "trainer_state.json").write_text("{}"), "trainer_state.json has other bytes"),
    "a missing file": (lambda f: (f / "optimizer.pt").unlink(), "optimizer.pt is missing"),
    "an empty file": (lambda f: (f / "optimizer.pt").write_bytes(b""), "optimizer.pt has other bytes"),
    "a file more": (lambda f: (f / "more").write_bytes(b""), "more has other bytes"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "not written to its end"),
    "half a manifest": (lambda f: (f / "manifest.json").write_text('{"step": 8'), "not a Manifest"),
    "the manifest of another": (
        lambda f: (f / "manifest.json").write_bytes((f.parent / "checkpoint-4/manifest.json").read_bytes()),
        "its manifest is of step 4",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told_removed_and_the_one_before_it_is_used(
    damage: str, checkpoints: Checkpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    harm, reason = DAMAGES[damage]
    newest = checkpoints.folder / "checkpoint-8"
    harm(newest)
    assert checkpoints.newest_valid() == checkpoints.folder / "checkpoint-4"
    output = capsys.readouterr().out
    assert "the checkpoint of step 8 is not used: " in output
    assert reason in output
    assert not newest.exists()


def test_the_newest_is_that_of_the_highest_step_whatever_the_clock_says(checkpoints: Checkpoints) -> None:
    os.utime(checkpoints.folder / "checkpoint-4", (2**31, 2**31))
    assert checkpoints.newest_valid() == checkpoints.folder / "checkpoint-8"


def test_two_are_kept_and_the_lowest_step_goes_whatever_the_clock_says(checkpoints: Checkpoints) -> None:
    os.utime(checkpoints.folder / "checkpoint-4", (2**31, 2**31))
    checkpoints.seal(write(checkpoints, 12))
    assert sorted(path.name for path in checkpoints.folder.glob("checkpoint-*")) == ["checkpoint-12", "checkpoint-8"]


def test_without_checkpoints_there_is_nothing_to_carry_on_from(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path, KEY).newest_valid() is None


def test_checkpoints_of_another_training_are_not_used_and_what_changed_is_named(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    other = Checkpoints(tmp_path, KEY.model_copy(update={"data": "x", "code": "y"}))
    other.prepare()
    assert other.newest_valid() is None
    (line,) = other.others()
    assert line.endswith("changed data, code")
    assert checkpoints.folder.name in line


def test_of_other_trainings_two_stay(tmp_path: Path) -> None:
    for number in range(4):
        Checkpoints(tmp_path, KEY.model_copy(update={"data": str(number)})).prepare()
    mine = Checkpoints(tmp_path, KEY)
    mine.prepare()
    assert len(mine.others()) == 2
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3


def test_a_training_that_is_done_leaves_nothing(checkpoints: Checkpoints) -> None:
    checkpoints.remove()
    assert not checkpoints.folder.exists()


def test_the_key_names_every_part_that_changes_the_weights() -> None:
    def key(**changed: object) -> CheckpointKey:
        params = PARAMS.model_copy(update={"train": PARAMS.train.model_copy(update=changed)})
        return build_key(params, {"train": "1"}, "base", "cpu")

    assert key().changed(key(learning_rate=1e-3)) == ["parameters"]
    assert key().changed(key(save_steps=8)) == []
    assert key().changed(build_key(PARAMS, {"train": "2"}, "other", "cuda")) == ["data", "base", "machine"]
