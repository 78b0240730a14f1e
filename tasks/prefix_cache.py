"""Texts that begin alike are read once: the keys and values of what they share are computed for one row and repeated.

A causal model's keys and values of a token depend on the tokens before it alone, so that what is shared may be reused.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache

MIN_PREFIX_TOKENS = 4
"""A pass over fewer tokens costs more than it saves."""


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with; 0 for one sequence, which shares nothing."""
    if len(sequences) < 2:
        return 0
    ordered = sorted(map(tuple, sequences))
    first, last = ordered[0], ordered[-1]  # these two differ first
    same = (place for place, (left, right) in enumerate(zip(first, last, strict=False)) if left != right)
    return next(same, min(len(first), len(last)))


def padded(
    sequences: Sequence[torch.Tensor], device: torch.device, *, side: str = "right"
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sequences as one tensor, and its attention mask: two of shape (sequences, longest)."""
    mask = pad_sequence([torch.ones_like(one) for one in sequences], batch_first=True, padding_side=side)
    return pad_sequence(list(sequences), batch_first=True, padding_side=side).to(device), mask.to(device)


def read_once(model: Any, contexts: Sequence[Sequence[int]]) -> tuple[DynamicCache, torch.Tensor]:
    """The keys and values of all contexts, padded on the right behind what they share, and their attention mask."""
    cache, shared = _shared(model, contexts, common_prefix(contexts))
    rest = [torch.tensor(context[shared:], dtype=torch.long) for context in contexts]
    ids, mask = padded(rest, model.device)
    mask = torch.cat([mask.new_ones(len(contexts), shared), mask], dim=1)
    if ids.shape[1]:
        positions = shared + torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
    return cache, mask


def _shared(model: Any, contexts: Sequence[Sequence[int]], shared: int) -> tuple[DynamicCache, int]:
    """The cache of the first `shared` tokens, a row for each context, and how many they are: none of too few."""
    cache = DynamicCache(config=model.config)
    if shared < MIN_PREFIX_TOKENS:
        return cache, 0
    ids = torch.tensor([contexts[0][:shared]], device=model.device)
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(len(contexts))
    return cache, shared


@torch.no_grad()
def generate_greedily(
    model: Any, contexts: Sequence[Sequence[int]], max_tokens: int, has_ended: Callable[[list[int]], bool]
) -> list[list[int]]:
    """The likeliest token after each context, again and again; a context leaves the batch when its answer has ended."""
    cache, shared = _shared(model, contexts, min(common_prefix(contexts), min(map(len, contexts)) - 1))
    ids, mask = padded([torch.tensor(context[shared:]) for context in contexts], model.device, side="left")
    mask = torch.cat([mask.new_ones(len(contexts), shared), mask], dim=1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, shared:]
    answers: list[list[int]] = [[] for _ in contexts]
    rows = torch.arange(len(contexts), device=ids.device)
    for step in range(1, max_tokens + 1):
        logits = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        ).logits  # fmt: skip
        tokens = logits[:, -1].float().argmax(dim=-1)
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            answers[row].append(token)
        going = [place for place, row in enumerate(rows.tolist()) if not has_ended(answers[row])]
        if not going or step == max_tokens:
            break
        if len(going) < len(rows):
            left = torch.tensor(going, device=ids.device)
            cache.batch_select_indices(left)
            rows, tokens, mask, positions = rows[left], tokens[left], mask[left], positions[left]
        ids, positions = tokens.unsqueeze(1), positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
    return answers
