"""lm-eval's Hugging Face model as the line uses it: plain progress lines, and no context computed twice."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache, DynamicLayer

REPORT_EVERY_SECONDS = 5.0

Encoded = tuple[tuple[str, str], list[int], list[int]]
"""lm-eval's tokenised request: the texts of context and continuation, and the tokens of each."""
Answer = tuple[float, bool]
"""lm-eval's answer: the log-likelihood of the continuation, and whether greedy decoding would give it."""
Group = list[tuple[int, Encoded]]
"""Requests with one and the same context, each with its place in the order of the answers."""


class HarnessModel(HFLM):  # type: ignore[misc]  # lm-eval is not typed
    """lm-eval's Hugging Face model, with plain progress lines instead of bars.

    The choices of a question share its text: that is computed once, and the choices continue from its cache.
    """

    done = 0
    total = 0
    started = 0.0
    reported = 0.0

    def loglikelihood(self, requests: Sequence[Any], **options: Any) -> Any:
        """Count the requests, then answer them."""
        self._begin(len(requests))
        return super().loglikelihood(requests, **options | {"disable_tqdm": True})

    def generate_until(self, requests: Sequence[Any], **options: Any) -> Any:
        """Count the requests, then answer them."""
        self._begin(len(requests))
        return super().generate_until(requests, **options | {"disable_tqdm": True})

    def _loglikelihood_tokens(self, requests: list[Encoded], **options: Any) -> list[Answer]:
        """Answer the requests that share a context together, the others as lm-eval does."""
        groups = list(self._shared_contexts(requests)) if self._continues_from_cache() else []
        answers: dict[int, Answer] = {}
        for batch in in_batches(groups, self.batch_size):
            answers |= self._answer_groups(batch)
        alone = [place for place in range(len(requests)) if place not in answers]
        rest = super()._loglikelihood_tokens([requests[place] for place in alone], **options) if alone else []
        answers |= dict(zip(alone, rest, strict=True))
        return [answers[place] for place in range(len(requests))]

    def _continues_from_cache(self) -> bool:
        """Whether the model keeps plain keys and values, one row for each sequence."""
        plain = DynamicCache(config=self.model.config)
        return self.backend == "causal" and all(type(layer) is DynamicLayer for layer in plain.layers)

    def _shared_contexts(self, requests: list[Encoded]) -> Iterator[Group]:
        """Groups of two requests or more with one context, the longest context first."""
        groups: dict[tuple[int, ...], Group] = {}
        for place, request in enumerate(requests):
            _, context, continuation = request
            if len(context) > 1 and len(context) + len(continuation) <= self.max_length:
                groups.setdefault(tuple(context), []).append((place, request))
        yield from sorted(
            (group for group in groups.values() if len(group) > 1), key=lambda group: -len(group[0][1][1])
        )

    @torch.no_grad()
    def _answer_groups(self, groups: list[Group]) -> dict[int, Answer]:
        """The contexts without their last token in one pass, then that token and every continuation in a second one."""
        contexts = [torch.tensor(group[0][1][1][:-1]) for group in groups]
        ids, mask = padded(contexts, self.device)
        cache = self.model(input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=1).past_key_values
        members = [(row, place, request) for row, group in enumerate(groups) for place, request in group]
        rows = torch.tensor([row for row, _, _ in members], device=self.device)
        cache.batch_select_indices(rows)
        inputs = [torch.tensor([context[-1], *continuation[:-1]]) for _, _, (_, context, continuation) in members]
        ids, continued = padded(inputs, self.device)
        positions = mask.sum(dim=1)[rows].unsqueeze(1) + torch.arange(ids.shape[1], device=self.device)
        logits = self.model(
            input_ids=ids,
            attention_mask=torch.cat([mask[rows], continued], dim=1),
            position_ids=positions,
            past_key_values=cache,
        ).logits
        answers = {}
        for scores, (_, place, (texts, _, continuation)) in zip(logits, members, strict=True):
            target = torch.tensor(continuation, device=self.device)
            likelihoods = scores[: len(target)].log_softmax(dim=-1, dtype=self.softmax_dtype)
            total = likelihoods.gather(1, target.unsqueeze(1)).sum()
            answers[place] = (float(total), bool((likelihoods.argmax(dim=-1) == target).all()))
            self.cache_hook.add_partial("loglikelihood", texts, answers[place])
        self._advance(len(members))
        return answers

    def _model_call(self, inps: torch.Tensor, *rest: Any, **options: Any) -> Any:
        answer = super()._model_call(inps, *rest, **options)
        self._advance(len(inps))
        return answer

    def _model_generate(self, context: torch.Tensor, *rest: Any, **options: Any) -> Any:
        answer = super()._model_generate(context, *rest, **options)
        self._advance(len(context))
        return answer

    def _begin(self, total: int) -> None:
        self.done, self.total = 0, total
        self.started = self.reported = time.monotonic()

    def _advance(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.reported < REPORT_EVERY_SECONDS and self.done < self.total:
            return
        self.reported = now
        rate = self.done / max(now - self.started, 1e-6)
        left = max(self.total - self.done, 0) / rate
        print(f"evaluate: {self.done}/{self.total} requests  {rate:.1f}/s  {left:.0f} s left", flush=True)


def padded(sequences: list[torch.Tensor], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The sequences as one tensor, padded on the right, and its attention mask: two of shape (sequences, longest)."""
    mask = pad_sequence([torch.ones_like(sequence) for sequence in sequences], batch_first=True)
    return pad_sequence(sequences, batch_first=True).to(device), mask.to(device)


def in_batches(groups: list[Group], size: int) -> Iterator[list[Group]]:
    """As many groups at a time as hold no more than `size` requests; one at least."""
    batch: list[Group] = []
    for group in groups:
        if batch and sum(map(len, batch)) + len(group) > size:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch
