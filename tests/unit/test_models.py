"""How models are loaded."""

from pathlib import Path

import bitsandbytes
import pytest
import torch
from transformers import PreTrainedModel

from tasks import models
from tasks.models import attention_implementation, load_base, resolve_dtype
from tasks.params_train import QuantizationParams
from tests.unit.tiny_model import make_model

IDS = torch.tensor([[1, 2, 3, 4]])


@pytest.fixture
def quantized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreTrainedModel:
    """A model as loaded on a CPU with AVX512-BF16, whatever this one is."""
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)
    make_model(hidden_size=64).save_pretrained(tmp_path)
    return load_base(
        tmp_path,
        QuantizationParams(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_quant_storage="uint8",
        ),
        torch.float32,
    )


def logits_and_gradient(model: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the embeddings: the gradient has come through every 4-bit layer."""
    model.train()
    embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
    logits = model(inputs_embeds=embedded).logits
    logits.square().sum().backward()
    assert embedded.grad is not None
    return logits.detach(), embedded.grad


def test_a_pass_in_evaluation_mode_leaves_the_weights_and_the_gradient_as_they_were(
    quantized: PreTrainedModel,
) -> None:
    layers = [module for module in quantized.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    assert layers
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    before = logits_and_gradient(quantized)
    with torch.no_grad():
        quantized.eval()(IDS)
    after = logits_and_gradient(quantized)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)


def test_flat_constants_give_the_weights_of_doubly_quantised_ones(quantized: PreTrainedModel, tmp_path: Path) -> None:
    layer = next(module for module in quantized.modules() if isinstance(module, bitsandbytes.nn.Linear4bit))
    assert not layer.weight.quant_state.nested
    plain = make_model(hidden_size=64)
    weight = plain.model.layers[0].self_attn.q_proj.weight.data
    packed, state = bitsandbytes.functional.quantize_4bit(weight, compress_statistics=True, quant_type="nf4")
    expected = bitsandbytes.functional.dequantize_4bit(packed, state)
    assert state.nested
    assert torch.equal(bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state), expected)


def test_a_cpu_computes_in_float32_whatever_it_could_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_dtype("auto") is torch.float32
    assert resolve_dtype("bfloat16") is torch.bfloat16


@pytest.mark.parametrize(("has_units", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_computes_in_bfloat16_where_it_has_it(
    monkeypatch: pytest.MonkeyPatch, has_units: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: has_units and not including_emulation
    )
    assert resolve_dtype("auto") is expected


@pytest.mark.parametrize(
    ("place", "dtype", "is_installed", "expected"),
    [
        ("cuda", torch.bfloat16, True, "flash_attention_2"),
        ("cuda", torch.float16, True, "flash_attention_2"),
        ("cuda", torch.float32, True, None),
        ("cuda", torch.bfloat16, False, None),
        ("cpu", torch.bfloat16, True, None),
    ],
)
def test_flash_attention_is_taken_on_a_gpu_that_has_it_in_the_types_that_it_has(
    monkeypatch: pytest.MonkeyPatch, place: str, dtype: torch.dtype, is_installed: bool, expected: str | None
) -> None:
    asked = []

    def find_spec(name: str) -> object | None:
        asked.append(name)
        return object() if is_installed else None

    monkeypatch.setattr(models, "find_spec", find_spec)
    assert attention_implementation(dtype, torch.device(place)) == expected
    assert set(asked) <= {"flash_attn"}


def test_without_flash_attention_the_attention_is_that_of_torch(quantized: PreTrainedModel) -> None:
    assert quantized.config._attn_implementation == "sdpa"
