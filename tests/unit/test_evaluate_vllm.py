"""vLLM is chosen where it can be, told what to load, and refused where it cannot; the engine itself is a stand-in."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks import evaluate_vllm
from tasks.errors import ParamsInvalid
from tasks.evaluate_vllm import build_vllm, choose_backend, lora_rank
from tasks.params import load_params

EVALUATE = load_params().evaluate
QUANTIZATION = load_params().quantization


def asked(backend: str) -> Any:
    return EVALUATE.model_copy(update={"backend": backend})


@pytest.fixture
def gpu_with_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_vllm, "device", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(evaluate_vllm, "find_spec", lambda _: object())


@pytest.mark.usefixtures("gpu_with_vllm")
@pytest.mark.parametrize(("backend", "chosen"), [("auto", "vllm"), ("vllm", "vllm"), ("hf", "hf")])
def test_a_gpu_with_vllm_uses_it_unless_told_not_to(backend: str, chosen: str) -> None:
    assert choose_backend(asked(backend), None) == chosen


@pytest.mark.usefixtures("gpu_with_vllm")
def test_a_base_in_4_bits_is_measured_as_it_was_trained_on() -> None:
    assert choose_backend(asked("auto"), QUANTIZATION) == "hf"
    with pytest.raises(ParamsInvalid, match=r"evaluate\.backend: vllm: it quantises to 4 bits .* write hf or auto"):
        choose_backend(asked("vllm"), QUANTIZATION)


def test_without_a_gpu_it_is_left_alone_and_not_silently_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_vllm, "device", lambda: torch.device("cpu"))
    assert choose_backend(asked("auto"), None) == "hf"
    with pytest.raises(ParamsInvalid, match="vllm: this machine has no CUDA device; write hf or auto"):
        choose_backend(asked("vllm"), None)


def test_a_gpu_without_vllm_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_vllm, "device", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(evaluate_vllm, "find_spec", lambda _: None)
    with pytest.raises(ParamsInvalid, match="vllm: it is not installed; write hf or auto"):
        choose_backend(asked("vllm"), None)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    options: dict[str, Any] = {}
    monkeypatch.setattr(evaluate_vllm, "get_model", lambda name: lambda **given: options.update(given, name=name))
    return options


def test_an_adapter_stands_in_front_of_the_base(built: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 24}), encoding="utf-8")
    build_vllm(Path("base"), tmp_path, EVALUATE, "bfloat16")
    assert (built["pretrained"], built["lora_local_path"], built["max_lora_rank"]) == ("base", str(tmp_path), 32)
    assert (built["name"], built["dtype"], built["batch_size"]) == ("vllm", "bfloat16", EVALUATE.batch_size)


def test_a_whole_model_stands_in_the_bases_place(built: dict[str, Any], tmp_path: Path) -> None:
    build_vllm(Path("base"), tmp_path, EVALUATE, "bfloat16")
    assert (built["pretrained"], built["tokenizer"]) == (str(tmp_path), "base")
    assert "lora_local_path" not in built


def test_the_base_alone_has_no_adapter(built: dict[str, Any]) -> None:
    build_vllm(Path("base"), None, EVALUATE, "bfloat16")
    assert built["pretrained"] == "base"
    assert "lora_local_path" not in built


def test_a_rank_that_vllm_has_no_room_for_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 600}), encoding="utf-8")
    with pytest.raises(ParamsInvalid, match=r"lora\.r: vLLM loads adapters up to rank 512, this one has 600"):
        lora_rank(tmp_path)
