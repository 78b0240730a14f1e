"""Two processes train what one does: the same data in the same order, and a failure of one is the stage's."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from accelerate.commands.launch import launch_command_parser

from tasks import paths
from tasks.errors import ParamsInvalid
from tasks.files import read_json, read_jsonl
from tasks.launch import LAUNCHED, RankFailed, build_command, launch, rank
from tasks.params_train import Sharding
from tasks.records import TrainingPoint, TrainMetrics
from tasks.train import nondeterminism
from tests.tiny_workspace import make_workspace, start_training, train, write_params


def losses(root: Path) -> list[float]:
    points = read_jsonl(root / paths.TRAIN_HISTORY, TrainingPoint)
    return [point.loss for point in points if point.loss is not None]


def test_two_ranks_learn_what_one_rank_learns_with_twice_the_accumulation(tmp_path: Path) -> None:
    alone = make_workspace(tmp_path / "alone", train={"gradient_accumulation_steps": 2})
    both = make_workspace(tmp_path / "both", compute={"num_processes": 2})
    train(alone)
    output = train(both)
    assert output.count("train: step 12/12  loss") == 1
    assert losses(both) == pytest.approx(losses(alone), abs=2e-3)
    metrics = read_json(both / paths.TRAIN_METRICS, TrainMetrics)
    assert (metrics.steps, metrics.nondeterminism) == (12, "")


@pytest.mark.slow
def test_what_a_rank_says_of_its_failure_is_what_the_stage_says(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w", compute={"num_processes": 2})
    write_params(root, train={"optim": "paged_adamw_32bit"}, compute={"num_processes": 2})
    child = start_training(root)
    output, _ = child.communicate(timeout=300)
    assert child.returncode == 2
    assert "without CUDA take adamw_torch" in output.splitlines()[-1]


def test_the_rank_that_a_cluster_gives_a_pod_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    assert rank() is None
    monkeypatch.setenv(LAUNCHED, "1")
    assert rank() == 3


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ParamsInvalid, match=r"compute\.num_processes: found 4, this machine has 2 CUDA"):
        launch("tasks.train", 4, 1, "none")


@pytest.mark.parametrize(
    ("kind", "num_processes", "reasons"),
    [("cpu", 1, ()), ("cpu", 2, ()), ("cpu", 3, ("3 processes",)), ("cuda", 1, ("CUDA kernels",)),
     ("cuda", 2, ("2 processes", "CUDA kernels"))],
)  # fmt: skip
def test_what_a_training_cannot_repeat_is_said(kind: str, num_processes: int, reasons: tuple[str, ...]) -> None:
    said = nondeterminism(kind, num_processes)
    assert bool(said) == bool(reasons)
    assert all(reason in said for reason in reasons)


@pytest.mark.slow
def test_no_rank_outlives_a_stage_whose_group_is_killed(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w", train={"max_steps": 2000}, compute={"num_processes": 2})
    child = start_training(root)
    assert child.stdout is not None
    assert any("train: step" in line for line in child.stdout)
    ranks = [one.pid for one in psutil.Process(child.pid).children(recursive=True)]
    assert len(ranks) >= 3  # accelerate, and two that train
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate(timeout=60)
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in ranks if psutil.pid_exists(pid)], timeout=20)
    assert not alive


def test_a_rank_that_dies_without_a_word_is_told_with_the_next_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with pytest.raises(RankFailed, match="no word of its own"):
        launch("tasks.no_such_module", 1, 1, "none")


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_accelerate_understands_the_command_as_it_is_meant(sharding: Sharding) -> None:
    read = launch_command_parser().parse_args(build_command("tasks.train", 2, 3, sharding)[3:])
    assert (read.use_fsdp, read.multi_gpu) == (sharding == "fsdp", sharding == "none")
    assert (read.num_processes, read.num_cpu_threads_per_process, read.num_machines) == (2, 3, 1)
    assert (read.module, read.training_script) == (True, "tasks.train")


def test_fsdp_is_asked_for_as_the_guide_of_peft_says_for_qlora() -> None:
    read = launch_command_parser().parse_args(build_command("tasks.train", 2, 1, "fsdp")[3:])
    assert read.fsdp_version == "1"
    assert read.fsdp_sharding_strategy == "FULL_SHARD"
    assert read.fsdp_auto_wrap_policy == "TRANSFORMER_BASED_WRAP"
    assert read.fsdp_backward_prefetch == "BACKWARD_PRE"
    assert read.fsdp_state_dict_type == "SHARDED_STATE_DICT"
    assert (read.fsdp_use_orig_params, read.fsdp_sync_module_states) == ("false", "true")
    assert (read.fsdp_offload_params, read.fsdp_cpu_ram_efficient_loading) == ("false", "false")
