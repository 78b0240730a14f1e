"""Sizes from config.json alone, against hand counts, published counts and what transformers builds."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tasks.errors import FileInvalid
from tasks.model_shape import ModelShape, parse_shape, read_shape
from tests.contract.imports import ROOT

SMALL = {
    "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 16, "vocab_size": 10,
}  # fmt: skip


def small(**changed: object) -> ModelShape:
    return parse_shape(json.dumps(SMALL | changed), "config.json")


def test_the_weights_of_a_small_model_by_hand() -> None:
    shape = small()
    assert {linear.name: linear.weights for linear in shape.linears} == {
        "q_proj": 64, "k_proj": 32, "v_proj": 32, "o_proj": 64, "gate_proj": 128, "up_proj": 128, "down_proj": 128,
    }  # fmt: skip
    assert (shape.linear_weights, shape.embedding_weights, shape.other_weights) == (1152, 160, 40)
    assert (shape.weights, small(tie_word_embeddings=True).weights) == (1352, 1272)


@pytest.mark.parametrize(("name", "weights"), [("llama-3.1-8b", 8_030_261_248), ("llama-3.1-70b", 70_553_706_496)])
def test_the_shipped_shapes_have_the_weights_that_their_publisher_counts(name: str, weights: int) -> None:
    assert read_shape(ROOT / f"params/shapes/{name}.json").weights == weights


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"tie_word_embeddings": True},
        {"attention_bias": True, "mlp_bias": True},
        {"head_dim": 6},
        {"model_type": "mistral"},
        {"model_type": "qwen2"},
        {"model_type": "qwen3", "attention_bias": True, "head_dim": 4},
    ],
    ids=str,
)
def test_the_count_is_that_of_the_model_which_transformers_builds(changed: dict[str, object]) -> None:
    values = SMALL | {"tie_word_embeddings": False} | changed
    kind = values.pop("model_type")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values))
    assert small(**changed).weights == model.num_parameters()
    names = {name.split(".")[-2] for name, _ in model.named_parameters() if "proj" in name}
    assert {linear.name for linear in small(**changed).linears} == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json: no config.json that sizes can be read from: file: Invalid JSON"),
        ("[]", "Input should be an object"),
        ("{}", "model_type: Field required; hidden_size: Field required; num_hidden_layers: Field required"),
        (json.dumps(SMALL | {"model_type": "gpt2"}), "model_type: Input should be 'llama', 'mistral', 'qwen2' or"),
        (json.dumps(SMALL | {"hidden_size": "8"}), "hidden_size: Input should be a valid integer"),
        (json.dumps(SMALL | {"num_hidden_layers": 0}), "num_hidden_layers: Input should be greater than or equal to 1"),
        (json.dumps(SMALL | {"num_attention_heads": 3}), "hidden_size is no multiple of num_attention_heads"),
        (json.dumps(SMALL | {"num_attention_heads": 4, "num_key_value_heads": 3}), "no multiple of num_key_value"),
    ],
)
def test_a_config_that_sizes_cannot_be_read_from_is_told_by_field(text: str, message: str) -> None:
    with pytest.raises(FileInvalid, match=message):
        parse_shape(text, "config.json")


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileInvalid, match=r"gone\.json: cannot be read: .*; give a model's config\.json"):
        read_shape(tmp_path / "gone.json")
