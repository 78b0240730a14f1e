"""Combinations that cannot work are refused with the parameters, each with the next move."""

from typing import Any

import pytest
from pydantic import ValidationError

from tasks.params import Params
from tests.method_matrix import CASES

METHODS = {case.name: case for case in CASES}


def changed(method: str, changes: dict[str, Any]) -> Params:
    """The parameters of a method of the matrix, with values at `section.key`."""
    values = METHODS[method].params().model_dump(by_alias=True)
    for place, value in changes.items():
        section, key = place.split(".")
        values[section][key] = value
    return Params.model_validate(values)


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("prefix_tuning", {"train.packing": True}, "train.packing: with PREFIX_TUNING rows of one pack .* write false"),
        ("shadow", {"train.packing": True}, "train.packing: with SHADOW rows of one pack would see each other"),
        ("prefix_tuning", {"train.activation_checkpointing": True}, "it drops the keys and values .* write false"),
        ("full", {"compute.dtype": "float16"}, "compute.dtype: method full trains in float32, or in bfloat16"),
        ("lora", {"train.lr_scheduler_type": "constant"}, "train.warmup_steps: .* write 0, or take `constant_with_war"),
        ("pissa", {"lora.bias": "all"}, "lora.bias: what pissa saves is a difference .* write none"),
        ("orthogonal", {"lora.r": 5}, r"lora.r \(5\): orthogonal needs an even rank"),
        ("ia3", {"adapter.feedforward_modules": ["up_proj"]}, "feedforward_modules: up_proj must be among adapter.tar"),
        ("dora", {"lora.init_lora_weights": "pissa"}, "lora.use_dora: DoRA starts from its own decomposition"),
        ("qlora", {"lora.init_lora_weights": "pissa"}, "pissa splits the base's weights.* take train.method lora"),
        ("lora", {"train.method": "qlora"}, "quantization: train.method qlora needs this section"),
        ("qlora", {"train.method": "lora"}, "quantization: train.method lora does not read this section; write"),
        ("qlora", {"validate.max_pii_share": 0.01}, r"pii_share at most 0 is below validate.max_pii_share \(0.01\)"),
    ],
)
def test_what_cannot_work_is_refused(method: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        changed(method, changes)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("lora", {"train.packing": True}),
        ("lora", {"compute.dtype": "float16"}),
        ("lora", {"train.lr_scheduler_type": "constant", "train.warmup_steps": 0}),
        ("lora", {"lora.bias": "all"}),
        ("orthogonal", {"lora.r": 6}),
        ("prefix_tuning", {}),
    ],
)
def test_what_can_work_beside_it_is_not(method: str, changes: dict[str, Any]) -> None:
    changed(method, changes)
