"""What is advised where training does not fit: the first change in the documented order, with the figure it reaches."""

from dataclasses import replace

import pytest

from tasks.memory import DEFAULT_LORA, Setting, estimate
from tasks.memory_advice import advise, changes
from tasks.model_shape import read_shape
from tests.contract.imports import ROOT

SHAPE = read_shape(ROOT / "params/shapes/llama-3.1-8b.json")
LORA = Setting(
    method="lora", is_cuda=True, compute_bytes=2, rows=4, batch=4, may_split=False, length=1024, accumulation=2,
    is_checkpointed=False, optim="adamw_torch", lora=DEFAULT_LORA, is_double_quantized=True,
)  # fmt: skip


def test_the_order_of_changes_is_the_documented_one() -> None:
    assert [change.words for change in changes(LORA)] == [
        "train.activation_checkpointing: true",
        "train.per_device_train_batch_size: 2, train.gradient_accumulation_steps: 4",
        "train.per_device_train_batch_size: 1, train.gradient_accumulation_steps: 8",
        "train.max_length and clean.max_tokens: 512",
        "train.max_length and clean.max_tokens: 256",
        "train.max_length and clean.max_tokens: 128",
        "train.method: qlora",
        "train.optim: paged_adamw_8bit",
        "lora.r: 8",
        "lora.r: 4",
    ]


def test_where_a_batch_can_be_split_its_portions_become_smaller_and_the_batch_stays() -> None:
    words = [change.words for change in changes(replace(LORA, may_split=True))]
    assert words[1:3] == ["train.micro_batch_tokens: 2048", "train.micro_batch_tokens: 1024"]
    assert not any("batch_size" in word for word in words)


def test_full_may_become_lora_and_has_no_r() -> None:
    words = [change.words for change in changes(replace(LORA, method="full"))]
    assert words[-3:] == ["train.method: lora", "train.method: qlora", "train.optim: paged_adamw_8bit"]


def test_a_paged_optimizer_is_no_advice_without_a_gpu() -> None:
    assert not any("paged" in change.words for change in changes(replace(LORA, is_cuda=False)))


def test_the_first_change_that_is_enough_is_the_only_one() -> None:
    found = advise(SHAPE, LORA, 40 * 10**9)
    assert found.changes == ("train.activation_checkpointing: true",)
    assert found.peak == estimate(SHAPE, replace(LORA, is_checkpointed=True)).peak < 40 * 10**9


def test_one_change_that_is_enough_goes_before_two() -> None:
    checkpointed = replace(LORA, is_checkpointed=True, rows=1)
    found = advise(SHAPE, checkpointed, 12 * 10**9)
    assert found.changes == ("train.method: qlora",)
    assert found.fits


def test_changes_are_taken_together_where_none_is_enough() -> None:
    found = advise(SHAPE, replace(LORA, length=4096), 9 * 10**9)
    assert found.fits
    assert found.changes[:2] == (
        "train.activation_checkpointing: true",
        "train.per_device_train_batch_size: 1, train.gradient_accumulation_steps: 8",
    )
    assert "train.method: qlora" in found.changes
    assert found.peak <= 9 * 10**9


def test_what_never_fits_is_said_with_the_least_that_it_takes() -> None:
    found = advise(SHAPE, LORA, 4 * 10**9)
    assert not found.fits
    assert found.changes[-1] == "lora.r: 4"
    assert found.peak == pytest.approx(6.5e9, rel=0.2)
