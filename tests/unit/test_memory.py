"""Memory against hand counts, against PEFT, and against the tensors that a small model really keeps."""

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.adapters import adapt
from tasks.answer_loss import TOKENS_AT_ONCE
from tasks.gated_layers import keep_less
from tasks.memory import (
    DEFAULT_LORA,
    SCORED_AT_ONCE,
    Memory,
    Setting,
    adapter_weights,
    estimate,
    kept_by_a_block,
    quantization_constants,
    setting_of,
)
from tasks.model_shape import ModelShape
from tasks.models import load_base
from tasks.params import Params, load_params
from tests.contract.imports import ROOT
from tests.unit.test_model_shape import small

DEFAULT = load_params(ROOT / "params.yaml")
ROWS, LENGTH = 2, 33
SETTING = Setting(
    method="full", is_cuda=False, compute_bytes=4, rows=ROWS, batch=ROWS, may_split=False, length=LENGTH,
    accumulation=1, is_checkpointed=False, optim="adamw_torch",
    lora=DEFAULT_LORA.model_copy(update={"r": 4}), is_double_quantized=True,
)  # fmt: skip
SHAPE = ModelShape(
    model_type="llama", hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=160, vocab_size=20,
)  # fmt: skip


@pytest.mark.parametrize(("weights", "double", "size"), [(16384, True, 260), (16384, False, 1024), (65, True, 6)])
def test_the_constants_of_nf4_by_hand(weights: int, double: bool, size: int) -> None:
    assert quantization_constants(weights, is_double_quantized=double) == size


def test_the_fixed_parts_of_a_small_model_by_hand() -> None:
    full = estimate(small(), SETTING)
    assert (full.weights, full.gradients, full.optimizer, full.output_gradient) == (5408, 5408, 10816, 320)
    qlora = estimate(small(), replace(SETTING, method="qlora", lora=DEFAULT_LORA.model_copy(update={"r": 1})))
    assert (qlora.weights, qlora.constants) == (4 * 200 + 576, 22)
    assert (qlora.adapter, qlora.gradients, qlora.optimizer) == (1024, 1024, 2048)
    assert estimate(small(), replace(SETTING, method="lora", compute_bytes=2)).weights == 2704
    paged = replace(SETTING, is_cuda=True, optim="paged_adamw_8bit")
    assert estimate(small(), paged).optimizer == 2704


def test_as_many_tokens_are_scored_at_once_as_the_loss_scores() -> None:
    assert SCORED_AT_ONCE == TOKENS_AT_ONCE


def test_a_gpu_holds_a_copy_of_the_matrices_in_the_compute_type_of_full() -> None:
    assert estimate(small(), replace(SETTING, is_cuda=True, compute_bytes=2)).weights == 4 * 1352 + 2 * 1152


@pytest.mark.parametrize(
    ("changed", "peak"),
    [
        ({}, 1000 + 500 + 90 + 70),
        ({"layer": 400, "logits": 900}, 1000 + 100 + 900 + 70),
        ({"gradients": 800}, 1000 + 800 + 30),
        ({"accumulates": True}, 1000 + 500 + 90 + 200),
        ({"is_cuda": False}, 1000 + 500 + 90 + 200 + 30),
        ({"is_cuda": False, "logits": 900, "layer": 400}, 1000 + 500 + 90 + 900 + 70),
    ],
)
def test_the_peak_is_that_of_the_worst_moment(changed: dict[str, object], peak: int) -> None:
    memory = Memory(
        weights=600, constants=0, adapter=100, gradients=200, output_gradient=70, optimizer=300, activations=500,
        layer=0, logits=40, transient=90, update=30, reserve=5, accumulates=False, is_cuda=True,
    )  # fmt: skip
    assert replace(memory, **changed).peak == peak + 5  # type: ignore[arg-type]


LORAS = [
    {},
    {"r": 3, "target_modules": "attention-qv"},
    {"target_modules": ["self_attn.o_proj", "down_proj"]},
    {"use_dora": True},
    {"bias": "lora_only", "target_modules": "attention"},
    {"bias": "all", "target_modules": "attention-qv"},
]


def llama(layers: int = 2, **changed: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    values = SHAPE.model_dump(exclude={"model_type"}) | {"num_hidden_layers": layers} | changed
    return LlamaForCausalLM(LlamaConfig(**values))


def params_of(method: str, **lora: object) -> Params:
    changed: dict[str, object] = {"train": DEFAULT.train.model_copy(update={"method": method})}
    assert DEFAULT.lora is not None
    changed["lora"] = DEFAULT.lora.model_copy(update={"r": 4} | lora) if method != "full" else None
    return DEFAULT.model_copy(update=changed | ({} if method == "qlora" else {"quantization": None}))


@pytest.mark.parametrize("lora", LORAS, ids=str)
def test_the_trained_weights_are_those_that_peft_makes(lora: dict[str, Any]) -> None:
    adapted = adapt(llama(attention_bias=True, mlp_bias=True), params_of("lora", **lora), [])
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    biased = SHAPE.model_copy(update={"attention_bias": True, "mlp_bias": True})
    assert adapter_weights(biased, DEFAULT_LORA.model_copy(update={"r": 4} | lora)) == trained


def kept_bytes(model: torch.nn.Module, *, autocast: bool) -> int:
    """Bytes of all tensors with a row for each token, or for each row, that a forward pass keeps."""
    ids = torch.ones(ROWS, LENGTH, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, -1] = 0
    given = {"attention_mask": mask} if autocast else {}  # on a CPU the trainer gives none
    kept: dict[int, tuple[int, weakref.ref[torch.Tensor]]] = {}
    weights = {weight.data_ptr() for weight in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights and tensor.shape[:1] in {(ROWS,), (ROWS * LENGTH,)}:
            kept[place] = (tensor.untyped_storage().nbytes(), weakref.ref(tensor))
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        out = model.train()(input_ids=ids, use_cache=False, **given).logits
    sizes = [size for size, tensor in kept.values() if tensor() is not None]
    assert out.requires_grad
    return sum(sizes)


def build(method: str, layers: int, folder: Path, dtype: torch.dtype, **lora: object) -> torch.nn.Module:
    place = folder / f"{layers}"
    llama(layers).save_pretrained(place)
    params = params_of(method, **lora)
    model = load_base(place, params.quantization, torch.float32 if method == "full" else dtype)
    if dtype is torch.float32:  # as on a CPU
        keep_less(model)
    return adapt(model, params, [])


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("full", {}),
    ("lora", {}),
    ("qlora", {}),
    ("qlora", {"use_dora": True}),
    ("qlora", {"target_modules": "attention-qv"}),
    ("lora", {"target_modules": ["o_proj", "down_proj"]}),
]


@pytest.mark.parametrize(
    ("method", "lora", "is_cuda"),
    [(*kind, is_cuda) for kind in KINDS for is_cuda in (False, True)] + [("lora", {"lora_dropout": 0.1}, False)],
    ids=str,
)
def test_a_block_keeps_what_the_formula_says_to_the_byte(
    method: str, lora: dict[str, Any], is_cuda: bool, tmp_path: Path
) -> None:
    dtype = torch.bfloat16 if is_cuda else torch.float32
    few, more = (kept_bytes(build(method, layers, tmp_path, dtype, **lora), autocast=is_cuda) for layers in (2, 3))
    asked = DEFAULT_LORA.model_copy(update={"r": 4} | lora)
    setting = replace(SETTING, method=method, is_cuda=is_cuda, compute_bytes=2 if is_cuda else 4, lora=asked)  # type: ignore[arg-type]
    assert more - few == ROWS * LENGTH * kept_by_a_block(SHAPE, setting)


def test_checkpointing_keeps_one_tensor_a_block_and_the_work_on_one() -> None:
    lora = replace(SETTING, method="lora", is_checkpointed=True)
    two, three = (
        estimate(SHAPE.model_copy(update={"num_hidden_layers": layers}), lora).activations for layers in (2, 3)
    )
    assert three - two == ROWS * LENGTH * 64 * 4
    assert estimate(SHAPE, lora).layer == ROWS * LENGTH * kept_by_a_block(SHAPE, lora)


@pytest.mark.parametrize(
    ("dtype", "is_cuda", "size"), [("auto", False, 4), ("auto", True, 2), ("bfloat16", False, 2), ("float32", True, 4)]
)
def test_the_compute_type_follows_the_device_unless_it_is_named(dtype: str, is_cuda: bool, size: int) -> None:
    params = DEFAULT.model_copy(update={"compute": DEFAULT.compute.model_copy(update={"dtype": dtype})})
    assert setting_of(params, is_cuda=is_cuda).compute_bytes == size
