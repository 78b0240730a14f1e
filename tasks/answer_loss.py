"""The loss over a large vocabulary in portions, its gradient computed at once: the scores are never there as a whole.

The sum of cross entropies and its gradient need nothing of each other's rows, so each portion of scores is turned into
its gradient in place (as Liger's fused linear cross entropy does on a GPU; Hsu et al. 2024). The products are as many
as before.
"""

from typing import Any

import torch

TOKENS_AT_ONCE = 32
"""Rows of scores that are there at once: 6 MB with a vocabulary of 49,152, which stays in a processor's cache."""


def can_be_fused(output_layer: torch.nn.Module) -> bool:
    """Whether the layer is a plain, frozen product in float32, whose own gradient nobody asks for."""
    return (
        type(output_layer) is torch.nn.Linear
        and output_layer.bias is None
        and not output_layer.weight.requires_grad
        and output_layer.weight.dtype == torch.float32
    )


def summed_loss(hidden: torch.Tensor, output_layer: torch.nn.Linear, labels: torch.Tensor) -> torch.Tensor:
    """The sum of the token losses, a scalar.

    Args:
        hidden: what the output layer reads, of shape (tokens, hidden size), in float32.
        output_layer: one that `can_be_fused`.
        labels: of shape (tokens,), none of them ignored.
    """
    loss: torch.Tensor = _SummedLoss.apply(hidden, output_layer.weight, labels)  # type: ignore[no-untyped-call]
    return loss


class _SummedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        gradient = torch.empty_like(hidden)
        total = hidden.new_zeros(())
        for first in range(0, len(hidden), TOKENS_AT_ONCE):
            rows = slice(first, first + TOKENS_AT_ONCE)
            wanted = labels[rows, None]
            scores = hidden[rows] @ weight.T
            scores -= scores.logsumexp(dim=1, keepdim=True)
            total -= scores.gather(1, wanted).sum()
            scores.exp_().scatter_add_(1, wanted, scores.new_full(wanted.shape, -1.0))
            torch.mm(scores, weight, out=gradient[rows])
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0], None, None
