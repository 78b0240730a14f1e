"""FSDP: what it refuses, and that two processes with half of a model each learn, save and resume what whole ones do."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from tasks import paths
from tasks.digests import digest_path
from tasks.params import Params
from tasks.params_checks import impossible_without_cuda
from tasks.sharding import is_sharded, whole_weights
from tests.contract.imports import ROOT
from tests.method_matrix import PARAMS
from tests.tiny_workspace import make_workspace
from tests.tiny_workspace import train as train_plainly

SHARDED = {"num_processes": 2, "sharding": "fsdp", "dtype": "float32"}


def sharded_params(section: str = "compute", **changed: Any) -> Params:
    """The parameters of the repository on two shards, with changes in one section."""
    value = PARAMS.model_dump(by_alias=True)
    value["compute"] |= {"num_processes": 2, "sharding": "fsdp", "dtype": "bfloat16"}
    value["quantization"] |= {"bnb_4bit_quant_storage": "bfloat16"}
    value[section] |= changed
    return Params.model_validate(value)


def test_qlora_on_two_shards_is_allowed_with_the_storage_type_of_the_other_weights() -> None:
    assert sharded_params().compute.sharding == "fsdp"


@pytest.mark.parametrize(
    ("section", "changed", "message"),
    [
        ("compute", {"num_processes": 1}, "num_processes is 1; write one process for each GPU, or sharding none"),
        ("train", {"method": "full"}, "fsdp is for train.method lora and qlora, not full.*or sharding none"),
        ("train", {"method": "adapter"}, "fsdp is for train.method lora and qlora, not adapter"),
        (
            "quantization",
            {"bnb_4bit_quant_storage": "uint8"},
            r"quant_storage \(uint8\) must be compute.dtype \(bf",
        ),
        ("compute", {"dtype": "float32"}, r"quant_storage \(bfloat16\) must be compute.dtype \(float32\)"),
        ("compute", {"dtype": "auto"}, r"must be compute.dtype \(auto\).*write the same type in both"),
        ("train", {"optim": "paged_adamw_8bit"}, "take paged_adamw_32bit or adamw_torch"),
        ("lora", {"bias": "all"}, "lora.bias: all trains .* write none"),
        ("lora", {"loraplus_lr_ratio": 4.0}, "lora.loraplus_lr_ratio: .* write null"),
        ("lora", {"init_lora_weights": "pissa"}, "lora.init_lora_weights: pissa changes .* take default"),
    ],
)
def test_what_fsdp_cannot_do_is_refused_with_the_next_move(section: str, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        sharded_params(section, **changed)


def test_without_cuda_fsdp_is_refused_with_what_to_take() -> None:
    assert any("without CUDA take none" in problem for problem in impossible_without_cuda(sharded_params()))


def test_of_a_model_that_is_whole_the_trained_weights_are_its_own() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 3, bias=False))
    model[0].weight.requires_grad = False
    assert not is_sharded(model)
    assert [(name, weight is model[1].weight) for name, weight in whole_weights(model)] == [("1.weight", True)]


def train_sharded(root: Path, stop_at: int = 0) -> str:
    """The stage `train` on two shards on this CPU, until a step if one is named; what it printed."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.fsdp_on_cpu"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(ROOT), "STOP_AT": str(stop_at)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert (child.returncode == 0) == (stop_at == 0), child.stdout
    return child.stdout


def sharded_workspace(root: Path) -> Path:
    return make_workspace(root, compute=SHARDED, quantization={"bnb_4bit_quant_storage": "float32"})


@pytest.mark.slow
def test_two_shards_save_the_adapter_that_two_whole_models_do(tmp_path: Path) -> None:
    root = sharded_workspace(tmp_path / "sharded")
    whole = make_workspace(tmp_path / "whole", compute={"num_processes": 2, "dtype": "float32"})
    assert "validation loss" in train_sharded(root)
    train_plainly(whole)
    found, wanted = (load_file(place / paths.ADAPTER / "adapter_model.safetensors") for place in (root, whole))
    assert {name: weight.shape for name, weight in found.items()} == {name: w.shape for name, w in wanted.items()}
    assert len(found) == 2 * 2 * 7
    for name, weight in found.items():
        torch.testing.assert_close(weight, wanted[name], atol=2e-3, rtol=0)


@pytest.mark.slow
def test_a_training_on_two_shards_that_was_stopped_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole, stopped = sharded_workspace(tmp_path / "whole"), sharded_workspace(tmp_path / "stopped")
    train_sharded(whole)
    train_sharded(stopped, stop_at=7)
    assert "carries on from checkpoint of step 4" in train_sharded(stopped)
    assert digest_path(stopped / paths.ADAPTER) == digest_path(whole / paths.ADAPTER)
    assert digest_path(stopped / paths.TRAIN_HISTORY) == digest_path(whole / paths.TRAIN_HISTORY)
