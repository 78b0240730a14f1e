"""Steps, products and disk by hand."""

from dataclasses import replace

import pytest

from tasks.memory import DEFAULT_LORA
from tasks.params import load_params
from tasks.training_cost import disk, flops_of_a_token, steps
from tests.contract.imports import ROOT
from tests.unit.test_memory import SETTING
from tests.unit.test_model_shape import small

DEFAULT = load_params(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("changed", "examples", "processes", "counted"),
    [
        ({}, 946, 1, 119),
        ({"num_train_epochs": 1.0}, 946, 1, 237),
        ({"num_train_epochs": 1.0, "gradient_accumulation_steps": 2}, 946, 1, 119),
        ({"num_train_epochs": 2.0}, 9, 2, 4),
        ({"max_steps": 7}, 946, 1, 7),
        ({}, 1, 1, 1),
    ],
)
def test_steps_are_counted_as_the_trainer_counts_them(
    changed: dict[str, object], examples: int, processes: int, counted: int
) -> None:
    assert steps(DEFAULT.train.model_copy(update=changed), examples, processes) == counted


def test_the_products_of_a_token_by_hand() -> None:
    # 1152 weights in blocks and 80 in the output layer; attention over 10 tokens: 4 x 10 x 8 x 2 blocks
    assert flops_of_a_token(small(), SETTING, 10) == 6 * 1232 + 3 * 640
    lora = replace(SETTING, method="lora", lora=DEFAULT_LORA.model_copy(update={"r": 1}))
    assert flops_of_a_token(small(), lora, 10) == 4 * 1232 + 6 * 256 + 3 * 640
    again = replace(lora, is_checkpointed=True)
    assert flops_of_a_token(small(), again, 10) == 6 * 1232 + 8 * 256 + 4 * 640


def test_the_disk_of_the_default_by_hand() -> None:
    lora = replace(SETTING, method="qlora", lora=DEFAULT_LORA.model_copy(update={"r": 1}))
    assert disk(small(), lora, DEFAULT) == {
        "base": 2 * 1352 + 845, "train": 4 * 256, "each trainer checkpoint": 12 * 256, "merge": 2704, "release": 2704,
    }  # fmt: skip
    assert disk(small(), SETTING, DEFAULT)["train"] == 2704
