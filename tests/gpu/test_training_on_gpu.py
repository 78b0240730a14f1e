"""Training on a GPU: 4 bits in bfloat16, paged optimizers, resuming, the estimate of memory, FSDP on two of them."""

import gc
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from tasks import paths
from tasks.adapters import logits_of, save_trained
from tasks.files import read_json, read_jsonl
from tasks.memory import estimate, setting_of
from tasks.model_shape import read_shape
from tasks.models import load_base, load_candidate
from tasks.params import load_params
from tasks.records import Example, TrainingPoint, TrainMetrics
from tasks.train import prepare, set_determinism
from tests.method_matrix import CASES
from tests.tiny_workspace import examples, make_workspace, train
from tests.unit.rows import conversation
from tests.unit.test_resume import Killed
from tests.unit.test_resume import train as train_until
from tests.unit.tiny_model import make_model, make_tokenizer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
QLORA = next(case for case in CASES if case.name == "qlora")
PROBE = {"input_ids": torch.tensor([[2, 3, 4, 8, 6]])}
ROWS, LENGTH = 16, 1024


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """As the stage does it, for the time of a test."""
    set_determinism()
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    make_model(hidden_size=64).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def losses(root: Path) -> list[float]:
    points = read_jsonl(root / paths.TRAIN_HISTORY, TrainingPoint)
    return [point.loss for point in points if point.loss is not None]


def test_qlora_in_bfloat16_learns_and_its_adapter_answers_after_loading(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w", compute={"dtype": "bfloat16"})
    train(root)
    metrics = read_json(root / paths.TRAIN_METRICS, TrainMetrics)
    assert (metrics.device, metrics.compute_dtype) == ("cuda", "bfloat16")
    assert sum(losses(root)[-3:]) < sum(losses(root)[:3])
    quantization = load_params(root / paths.PARAMS).quantization
    untrained = logits_of(load_base(root / "base", quantization, torch.bfloat16), PROBE)
    trained = logits_of(load_candidate(root / "base", root / paths.ADAPTER, quantization, torch.bfloat16), PROBE)
    assert torch.isfinite(trained).all()
    assert not torch.equal(trained, untrained)


@pytest.mark.parametrize("optim", ["paged_adamw_8bit", "paged_adamw_32bit"])
def test_a_paged_optimizer_steps(optim: str, base: Path, tmp_path: Path) -> None:
    steps = {"max_steps": 12, "learning_rate": 0.02, "warmup_steps": 0, "logging_steps": 1, "max_length": 256}
    session = prepare(QLORA.params(optim=optim, **steps), base, examples(8), [], tmp_path / "scratch")
    session.run()
    found = [line["loss"] for line in session.trainer.state.log_history if "loss" in line]
    assert sum(found[-3:]) < sum(found[:3])
    save_trained(session.trainer.model, "base", torch.float32, session.start, tmp_path / "out")
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert any(weight.any() for name, weight in weights.items() if "lora_B" in name)


def test_a_training_that_is_stopped_ends_in_the_same_weights(base: Path, tmp_path: Path) -> None:
    whole = train_until(QLORA, base, tmp_path / "whole")
    for step in (3, 7):
        with pytest.raises(Killed):
            train_until(QLORA, base, tmp_path / "stopped", killed_at=step)
    assert train_until(QLORA, base, tmp_path / "stopped") == whole


def test_attention_is_flash_attention_where_it_is_installed(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w", compute={"dtype": "bfloat16"})
    train(root)
    expected = "sdpa" if find_spec("flash_attn") is None else "flash_attention_2"
    assert read_json(root / paths.TRAIN_METRICS, TrainMetrics).attention == expected


def long_rows(count: int) -> list[Example]:
    """Conversations of exactly `LENGTH` tokens, nearly all of which carry loss: the template adds five."""
    said = " ".join(["billing"] * (LENGTH - 5))
    return [conversation(f"e{number}", ("user", "route"), ("assistant", said)) for number in range(count)]


def make_wide_base(folder: Path) -> Path:
    """A Llama of ten million weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192, hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=4
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_the_peak_of_memory_is_the_estimate(is_checkpointed: bool, tmp_path: Path) -> None:
    folder = make_wide_base(tmp_path / "base")
    params = QLORA.params(
        max_steps=3, max_length=LENGTH, per_device_train_batch_size=ROWS, micro_batch_tokens=None,
        gradient_accumulation_steps=1, activation_checkpointing=is_checkpointed, warmup_steps=0, logging_steps=1,
        keep_best=False,
    )  # fmt: skip
    expected = estimate(read_shape(folder / "config.json"), setting_of(params, is_cuda=True))
    gc.collect()
    torch.cuda.empty_cache()
    left_over = torch.cuda.memory_allocated()
    session = prepare(params, folder, long_rows(ROWS), [], tmp_path / "scratch")
    torch.cuda.reset_peak_memory_stats()
    session.run()
    measured = torch.cuda.max_memory_allocated() - left_over
    assert measured == pytest.approx(expected.peak - expected.reserve, rel=0.15)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_with_half_of_the_base_each_learn_what_two_with_all_of_it_do(tmp_path: Path) -> None:
    on_two = {"num_processes": 2, "dtype": "bfloat16"}
    whole = make_workspace(tmp_path / "whole", compute=on_two)
    stored = {"bnb_4bit_quant_storage": "bfloat16"}
    sharded = make_workspace(tmp_path / "sharded", compute=on_two | {"sharding": "fsdp"}, quantization=stored)
    train(whole)
    train(sharded)
    assert losses(sharded) == pytest.approx(losses(whole), abs=0.1)
    found, wanted = (load_file(root / paths.ADAPTER / "adapter_model.safetensors") for root in (sharded, whole))
    assert {name: weight.shape for name, weight in found.items()} == {name: w.shape for name, w in wanted.items()}
    quantization = load_params(sharded / paths.PARAMS).quantization
    answered = logits_of(load_candidate(sharded / "base", sharded / paths.ADAPTER, quantization, torch.bfloat16), PROBE)
    assert torch.isfinite(answered).all()
