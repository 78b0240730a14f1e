"""The loss in portions is the loss, and its gradient the gradient."""

import pytest
import torch

from tasks.answer_loss import TOKENS_AT_ONCE, can_be_fused, summed_loss


def layer() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(8, 50, bias=False).requires_grad_(requires_grad=False)


@pytest.mark.parametrize("tokens", [0, 1, TOKENS_AT_ONCE, 2 * TOKENS_AT_ONCE + 5])
def test_the_loss_and_its_gradient_are_those_of_torch(tokens: int) -> None:
    output = layer()
    hidden = torch.randn(tokens, 8)
    labels = torch.randint(50, (tokens,))
    found = []
    for is_fused in (True, False):
        read = hidden.clone().requires_grad_()
        if is_fused:
            loss = summed_loss(read, output, labels)
        else:
            loss = torch.nn.functional.cross_entropy(output(read), labels, reduction="sum")
        (loss / 7).backward()  # type: ignore[no-untyped-call]
        found.append((loss.item(), read.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-6, rtol=1e-4)


def test_no_score_is_too_large_for_it() -> None:
    output = layer()
    hidden = (1e4 * torch.randn(3, 8)).requires_grad_()
    loss = summed_loss(hidden, output, torch.tensor([0, 1, 2]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()


def test_a_layer_that_learns_has_a_bias_or_another_type_is_left_to_torch() -> None:
    assert can_be_fused(layer())
    assert not can_be_fused(layer().requires_grad_())
    assert not can_be_fused(layer().to(torch.bfloat16))
    assert not can_be_fused(torch.nn.Linear(8, 50).requires_grad_(requires_grad=False))
    assert not can_be_fused(torch.nn.Sequential(layer()))
