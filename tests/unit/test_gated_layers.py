"""Gated feed-forward parts that keep less: the same bits, fewer bytes."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tasks.gated_layers import keep_less
from tests.unit.tiny_model import make_model


def loss_and_gradients(model: torch.nn.Module) -> tuple[float, dict[str, torch.Tensor]]:
    ids = torch.tensor([[2, 3, 4, 5], [6, 7, 8, 9]])
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss.item(), {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def kept_shapes(model: torch.nn.Module) -> list[tuple[int, ...]]:
    kept: dict[int, tuple[int, ...]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tuple(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model(input_ids=torch.tensor([[2, 3, 4, 5]])).logits
    assert out.requires_grad
    return list(kept.values())


def test_of_the_inner_size_only_two_products_are_kept() -> None:
    plain, less = make_model(), make_model()
    for model in (plain, less):
        for name, weight in model.named_parameters():
            weight.requires_grad = "embed" in name  # as under LoRA: what a frozen layer read is not kept
    keep_less(less)
    inner = (1, 4, 32)
    assert kept_shapes(plain).count(inner) == 3 * 2
    assert kept_shapes(less).count(inner) == 2 * 2


SIZES = {
    "vocab_size": 10,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_in_every_family_that_is_known_nothing_but_memory_changes(family: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES))
    loss, gradients = loss_and_gradients(model)
    model.zero_grad()
    assert keep_less(model) == 2
    again, others = loss_and_gradients(model)
    assert again == loss
    assert all(torch.equal(gradients[name], others[name]) for name in gradients)


def test_a_family_that_is_not_known_is_left_as_it_is() -> None:
    assert keep_less(torch.nn.Sequential(torch.nn.Linear(2, 2))) == 0
