"""lm-eval's Hugging Face model as the line uses it: plain progress lines, and no text computed twice.

What is scored is the same as in lm-eval's own code, in other batches: sums in another order move a log-likelihood in
its last digits, so that answers, not bits, are equal. All models of the line are measured by this one class.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers.cache_utils import DynamicCache, DynamicLayer

from tasks.prefix_cache import common_prefix, generate_greedily, padded, read_once
from tasks.records import Ending

REPORT_EVERY_SECONDS = 5.0
MIN_SHARED_TOKENS = 8
"""A single question goes through the cache too when all contexts begin with as many tokens or more."""
PLAIN_GENERATION = {
    *("_from_model_config", "bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "use_cache"),
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "max_length", "max_new_tokens"),
    *("output_attentions", "output_hidden_states", "return_dict_in_generate"),
}
"""Settings of a model's generation_config.json that leave greedy decoding what it is."""

Encoded = tuple[tuple[str, str], list[int], list[int]]
"""lm-eval's tokenised request: the texts of context and continuation, and the tokens of each."""
Answer = tuple[float, bool]
"""lm-eval's answer: the log-likelihood of the continuation, and whether greedy decoding would give it."""
Group = list[tuple[int, Encoded]]
"""Requests with one and the same context, each with its place in the order of the answers."""


class HarnessModel(HFLM):  # type: ignore[misc]  # lm-eval is not typed
    """lm-eval's Hugging Face model, with plain progress lines instead of bars.

    The choices of a question share its text, and the questions of a benchmark begin alike (system prompt, examples):
    each is computed once, and what follows continues from its cache. Of generated answers those that have ended leave
    the batch. `endings` says of the last requests how the answer to each prompt ended, where decoding was ours.
    """

    endings: Mapping[str, Ending] = {}
    prompts: Sequence[str] = ()
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
        self.endings = {}
        return super().generate_until(requests, **options | {"disable_tqdm": True})

    def tok_batch_encode(self, strings: Sequence[str], *rest: Any, **options: Any) -> Any:
        """The tokens of the prompts that are answered next, which are kept as texts."""
        self.prompts = list(strings)
        return super().tok_batch_encode(strings, *rest, **options)

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
        """Whether the model keeps plain keys and values, one row for each sequence, and none of an adapter's own."""
        plain = DynamicCache(config=self.model.config)
        adapter = getattr(self.model, "active_peft_config", None)
        has_own = adapter is not None and adapter.is_prompt_learning
        return self.backend == "causal" and not has_own and all(type(layer) is DynamicLayer for layer in plain.layers)

    def _shared_contexts(self, requests: list[Encoded]) -> Iterator[Group]:
        """Groups of requests with one context, the longest context first; of one request, when all begin alike."""
        groups: dict[tuple[int, ...], Group] = {}
        for place, request in enumerate(requests):
            _, context, continuation = request
            if len(context) > 1 and len(context) + len(continuation) <= self.max_length:
                groups.setdefault(tuple(context), []).append((place, request))
        fewest = 1 if common_prefix(list(groups)) >= MIN_SHARED_TOKENS else 2
        yield from sorted(
            (group for group in groups.values() if len(group) >= fewest), key=lambda group: -len(group[0][1][1])
        )

    @torch.no_grad()
    def _answer_groups(self, groups: list[Group]) -> dict[int, Answer]:
        """The contexts without their last token, then that token and every continuation from their cache."""
        cache, mask = read_once(self.model, [group[0][1][1][:-1] for group in groups])
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

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **options: Any) -> Any:
        """The contexts with what follows them; greedy decoding is ours, every other kind transformers' own."""
        if self._is_plain_greedy(options):
            answer = self._generate_greedily(context, options["attention_mask"], max_length - context.shape[1], stop)
        else:
            answer = super()._model_generate(context, max_length, stop, **options)
        self._advance(len(context))
        return answer

    def _is_plain_greedy(self, options: dict[str, Any]) -> bool:
        """Whether the likeliest token is taken, with nothing in the benchmark or the model that changes likelihoods."""
        config = self.model.generation_config.to_diff_dict()
        is_asked = set(options) == {"attention_mask", *(set(options) & {"do_sample", "temperature"})}
        is_greedy = not options.get("do_sample") and not options.get("temperature")
        return is_asked and is_greedy and set(config) <= PLAIN_GENERATION and self._continues_from_cache()

    def _generate_greedily(
        self, context: torch.Tensor, mask: torch.Tensor, max_tokens: int, stop: list[str]
    ) -> torch.Tensor:
        end = self.model.generation_config.eos_token_id
        ends = frozenset(end if isinstance(end, list) else [] if end is None else [end])

        def has_ended(tokens: list[int]) -> bool:
            texts = [self.tokenizer.decode(tokens, skip_special_tokens=skip) for skip in (True, False)]
            return tokens[-1] in ends or any(word and word in text for word in stop for text in texts)

        contexts = [row[kept.bool()].tolist() for row, kept in zip(context, mask, strict=True)]
        generated = generate_greedily(self.model, contexts, max_tokens, has_ended)
        told: list[Ending] = ["stopped" if has_ended(tokens) else "limit" for tokens in generated]
        self.endings = {**self.endings, **dict(zip(self.prompts, told, strict=True))}
        found = [torch.tensor(tokens) for tokens in generated]
        answers = torch.full((len(found), max(map(len, found))), self.tokenizer.pad_token_id, device=context.device)
        for row, tokens in zip(answers, found, strict=True):
            row[: len(tokens)] = tokens
        return torch.cat([context, answers], dim=1)

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
