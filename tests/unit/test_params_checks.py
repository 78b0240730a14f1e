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


def with_benchmarks(roles: dict[str, str], **rules: dict[str, float]) -> Params:
    """The parameters with these benchmarks, and a rule for each name in `rules` that asks what stands there."""
    values = METHODS["lora"].params().model_dump(by_alias=True)
    values["evaluate"]["benchmarks"] = [{"name": name, "role": role, "num_fewshot": 0} for name, role in roles.items()]
    empty = dict.fromkeys(("min_value", "min_gain_over_base", "max_loss_from_base", "max_loss_from_champion"))
    values["gate"]["rules"] = [
        {"benchmark": name, "metric": "acc", "filter_name": "none", "range": [0, 1], **empty, **asked}
        for name, asked in rules.items()
    ]
    return Params.model_validate(values)


GAIN, LOSS = {"min_gain_over_base": 0.1}, {"max_loss_from_base": 0.1}


def test_a_target_a_guard_and_a_benchmark_that_is_only_shown() -> None:
    found = with_benchmarks({"a": "target", "b": "guard", "c": "report"}, a=GAIN, b=LOSS)
    assert [benchmark.role for benchmark in found.evaluate.benchmarks] == ["target", "guard", "report"]


@pytest.mark.parametrize(
    ("role", "rules", "message"),
    [
        (
            "target",
            {"a": LOSS | {"min_value": 0.4}},
            "'a' is a target, and no rule asks it to improve; give one min",
        ),
        ("guard", {"a": GAIN}, "'a' is a guard, and no rule limits its loss; give one max_loss_from_base"),
        ("target", {"b": GAIN}, "'a' is a target without a rule; give it one in gate.rules, or role `report`"),
        ("guard", {"b": GAIN}, "'a' is a guard without a rule; give it one in gate.rules, or role `report`"),
    ],
)
def test_a_role_that_no_rule_keeps_is_refused(role: str, rules: dict[str, dict[str, float]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        with_benchmarks({"a": role, "b": "report"}, **rules)


def test_a_benchmark_that_is_named_twice_is_refused() -> None:
    values = METHODS["lora"].params().model_dump(by_alias=True)
    values["evaluate"]["benchmarks"] *= 2
    with pytest.raises(ValidationError, match="'ticket_routing' is named more than once; write it once"):
        Params.model_validate(values)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("qlora", "vLLM cannot take this model: it quantises to 4 bits by settings of its own.*write hf"),
        ("ia3", "vLLM cannot take this model: of PEFT's adapters it loads LoRA alone; write hf"),
        ("dora", "vLLM cannot take this model: it does not load DoRA; write hf"),
    ],
)
def test_what_vllm_cannot_load_is_refused_with_the_parameters(method: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        changed(method, {"evaluate.backend": "vllm"})
