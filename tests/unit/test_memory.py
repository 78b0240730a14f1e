"""The memory of a training, from the shape alone: figures worked out by hand, and a real model's."""

import dataclasses
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model

from tasks.errors import FileInvalid
from tasks.memory import adapter_weights, estimate, quantization_constants, setting_of, trained_weights
from tasks.memory_advice import advise
from tasks.model_shape import ModelShape, parse_shape, read_shape
from tests.method_matrix import PARAMS
from tests.unit.tiny_model import make_model


@pytest.fixture
def shape(tmp_path: Path) -> ModelShape:
    make_model(hidden_size=64).config.save_pretrained(tmp_path)
    return read_shape(tmp_path / "config.json")


def test_the_weights_are_those_of_the_model(shape: ModelShape) -> None:
    assert shape.weights == sum(weight.numel() for weight in make_model(hidden_size=64).parameters())


@pytest.mark.parametrize("modules", ["all-linear", "attention-qv"])
def test_the_adapter_has_the_weights_that_peft_gives_it(shape: ModelShape, modules: str) -> None:
    assert PARAMS.lora is not None
    lora = PARAMS.lora.model_copy(update={"target_modules": modules, "r": 4})
    names = "all-linear" if modules == "all-linear" else ["q_proj", "v_proj"]
    made = get_peft_model(make_model(hidden_size=64), LoraConfig(r=4, target_modules=names, task_type="CAUSAL_LM"))
    assert adapter_weights(shape, lora) == made.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize(
    ("weights", "is_double", "size"),
    [(64, False, 4), (65, False, 8), (64, True, 1 + 4), (64 * 256, True, 256 + 4), (64 * 257, True, 257 + 8)],
)
def test_the_constants_of_four_bits_are_counted_by_block(weights: int, is_double: bool, size: int) -> None:
    assert quantization_constants(weights, is_double_quantized=is_double) == size


def test_four_bits_take_less_than_sixteen_and_these_less_than_all_weights_trained(shape: ModelShape) -> None:
    setting = setting_of(PARAMS, is_cuda=True)
    parts = [estimate(shape, dataclasses.replace(setting, method=method)) for method in ("qlora", "lora", "full")]
    weights = [part.weights for part in parts]
    assert weights[0] < weights[1] < weights[2]
    full = dataclasses.replace(setting, method="full")
    assert trained_weights(shape, full) == shape.weights
    assert parts[2].optimizer == 8 * shape.weights
    assert parts[2].gradients == 4 * shape.weights


def test_the_first_change_that_fits_is_checkpointing_and_it_reaches_what_it_says(shape: ModelShape) -> None:
    setting = dataclasses.replace(setting_of(PARAMS, is_cuda=True), is_checkpointed=False)
    whole = estimate(shape, setting).peak
    found = advise(shape, setting, whole - 1)
    assert found.changes == ("train.activation_checkpointing: true",)
    assert found.peak == estimate(shape, dataclasses.replace(setting, is_checkpointed=True)).peak < whole


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "no config.json that sizes can be read from"), ("{}", "hidden_size"), ('{"hidden_size": "many"}', "hidden")],
)
def test_a_configuration_that_says_no_shape_is_refused(text: str, said: str) -> None:
    with pytest.raises(FileInvalid, match=said):
        parse_shape(text, "config.json")
