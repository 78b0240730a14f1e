"""Parity: base plus adapter and a merged model on the same held-out prompts, measured, not assumed.

Positions of the answers that people wrote are compared by their whole distributions, and what base plus adapter writes
by itself by the first token at which the merged model would write another. Prompts are read once, as many at a time
as the logits of their answers have room for.
"""

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from tasks.files import need_disk
from tasks.params import MergeParams
from tasks.records import CandidateParity, Example, MergedFrom

FLOAT_BYTES = 4
PROMPTS_AT_ONCE = 8
LOGIT_BYTES = 2**28
"""Of the answers of the prompts that are read at once, padded; a single long answer may take more."""

POSITIONS_AT_ONCE = 64
"""How many positions are compared at once: several arrays of positions x vocabulary are in memory for it."""

GREEDY_TOKENS = 32


@dataclass
class Drift:
    """Running sums of the difference between two models: over answer positions, and over greedy texts.

    `divergences` are the tokens, counted from 1, at which greedy texts part; `texts` is how many were compared.
    """

    positions: int = 0
    kl: float = 0.0
    max_kl: float = 0.0
    agreed: int = 0
    difference: float = 0.0
    max_difference: float = 0.0
    texts: int = 0
    divergences: list[int] = field(default_factory=list)

    def add(self, reference: torch.Tensor, merged: torch.Tensor) -> None:
        """Add one example's logits, each of shape (positions, vocabulary), in float32."""
        for start in range(0, len(reference), POSITIONS_AT_ONCE):
            part = slice(start, start + POSITIONS_AT_ONCE)
            self._add_positions(reference[part], merged[part])

    def _add_positions(self, reference: torch.Tensor, merged: torch.Tensor) -> None:
        expected, found = reference.log_softmax(-1), merged.log_softmax(-1)
        kl = (expected.exp() * (expected - found)).sum(-1)
        gap = (reference - merged).abs()
        self.positions += len(kl)
        self.kl += kl.sum().item()
        self.max_kl = max(self.max_kl, kl.max().item())
        self.agreed += int((reference.argmax(-1) == merged.argmax(-1)).sum())
        self.difference += gap.mean(-1).sum().item()
        self.max_difference = max(self.max_difference, gap.max().item())

    def add_text(self, text: torch.Tensor, merged: torch.Tensor) -> None:
        """Add a greedy text of the reference, shape (tokens,), and the merged model's logits before each of its tokens.

        Up to the first token that differs the merged model has read what it would have written itself.
        """
        differs = (merged.argmax(-1) != text).nonzero()
        self.texts += 1
        if len(differs):
            self.divergences.append(int(differs[0]) + 1)


@dataclass(frozen=True)
class Prompts:
    """Some conversations: their prompts, padded on the left, shape (prompts, tokens), and the tokens of each answer."""

    ids: torch.Tensor
    mask: torch.Tensor
    answers: tuple[torch.Tensor, ...]


def tokenize(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens of a conversation's prompt and of its answer."""
    messages = [message.for_template() for message in example.messages]
    tools = None if example.tools is None else json.loads(example.tools)
    prompt = tokenizer.apply_chat_template(messages[:-1], tools=tools, add_generation_prompt=True, tokenize=False)
    text = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    length = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    return ids[:length], ids[length:]


def build_prompts(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> list[Prompts]:
    """The held-out conversations in their order, at most `PROMPTS_AT_ONCE` at a time, fewer where answers are long."""
    most = LOGIT_BYTES // (FLOAT_BYTES * len(tokenizer))
    groups: list[list[tuple[torch.Tensor, torch.Tensor]]] = []
    for pair in (tokenize(example, tokenizer) for example in examples):
        if not groups or not _has_room(groups[-1], pair, most):
            groups.append([])
        groups[-1].append(pair)
    return [_pad(group) for group in groups]


def _has_room(
    group: Sequence[tuple[torch.Tensor, torch.Tensor]], pair: tuple[torch.Tensor, torch.Tensor], most: int
) -> bool:
    longest = max(len(answer) for _, answer in [*group, pair])
    return len(group) < PROMPTS_AT_ONCE and (len(group) + 1) * longest <= most


def _pad(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Prompts:
    longest = max(len(prompt) for prompt, _ in pairs)
    ids = torch.zeros(len(pairs), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (prompt, _) in enumerate(pairs):
        ids[row, longest - len(prompt) :], mask[row, longest - len(prompt) :] = prompt, 1
    return Prompts(ids, mask, tuple(answer for _, answer in pairs))


class Reader:
    """A model that has read some prompts: it can be asked more than once how it goes on."""

    @torch.no_grad()
    def __init__(self, model: Any, prompts: Prompts) -> None:
        self.model = model
        self.place = next(model.parameters()).device
        self.mask = prompts.mask.to(self.place)
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)
        read = model(
            input_ids=prompts.ids.to(self.place), attention_mask=self.mask, position_ids=positions, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        self.cache = read.past_key_values
        self.first = read.logits[:, -1].float()

    @torch.no_grad()
    def logits_before(self, texts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The logits before each token of a text for each prompt, shape (tokens, vocabulary), float32 on the CPU."""
        longest = max(len(text) for text in texts) - 1
        rows = [self.first[:, None]]
        if longest > 0:
            ids = torch.zeros(len(texts), longest, dtype=torch.long)
            for row, text in enumerate(texts):
                ids[row, : len(text) - 1] = text[:-1]
            rows.append(self._go_on(ids.to(self.place), copy.deepcopy(self.cache), 0).float())
        logits = torch.cat(rows, dim=1).cpu()
        return [logits[row, : len(text)] for row, text in enumerate(texts)]

    @torch.no_grad()
    def greedy(self, stops: set[int], most: int = GREEDY_TOKENS) -> list[torch.Tensor]:
        """What the model writes, always taking its first choice, up to a stop token or `most` tokens."""
        cache, logits = copy.deepcopy(self.cache), self.first
        written: list[torch.Tensor] = []
        has_ended = torch.zeros(len(self.mask), dtype=torch.bool)
        while len(written) < most and not has_ended.all():
            chosen = logits.argmax(-1)
            written.append(chosen.cpu())
            has_ended |= torch.tensor([int(token) in stops for token in chosen])
            logits = self._go_on(chosen[:, None], cache, len(written) - 1)[:, -1].float()
        return [_until(row, stops) for row in torch.stack(written, dim=1)]

    def _go_on(self, ids: torch.Tensor, cache: Any, already: int) -> torch.Tensor:
        width = already + ids.shape[1]
        mask = torch.cat([self.mask, torch.ones(len(ids), width, dtype=self.mask.dtype, device=self.place)], dim=1)
        positions = self.mask.sum(-1)[:, None] + torch.arange(already, width, device=self.place)
        read = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        logits: torch.Tensor = read.logits
        return logits


def _until(text: torch.Tensor, stops: set[int]) -> torch.Tensor:
    ends = [at for at, token in enumerate(text.tolist()) if token in stops]
    return text[: ends[0] + 1] if ends else text


@dataclass(frozen=True)
class Reference:
    """What base plus adapter answered: logits in files, one for each group of prompts, and its greedy texts."""

    prompts: list[Prompts]
    files: list[Path]
    texts: list[list[torch.Tensor]]


def measure_reference(model: Any, prompts: list[Prompts], stops: set[int], folder: Path) -> Reference:
    """Let base plus adapter answer; its logits are kept in `folder`, so that one model at a time is in memory.

    Raises:
        DiskFull: there is no room for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reference, started = Reference(prompts, [], []), time.monotonic()
    for count, group in enumerate(prompts, start=1):
        reader = Reader(model, group)
        if count == 1:
            positions = sum(len(answer) for each in prompts for answer in each.answers)
            need_disk(folder, positions * reader.first.shape[-1] * FLOAT_BYTES)
        path = folder / f"{count}.safetensors"
        logits = reader.logits_before(group.answers)
        save_file({str(row): found.contiguous() for row, found in enumerate(logits)}, path)
        reference.files.append(path)
        reference.texts.append(reader.greedy(stops))
        _tell("base plus adapter", prompts[:count], prompts, started)
    return reference


def measure_drift(model: Any, reference: Reference, label: str) -> Drift:
    """How far a merged model is from what base plus adapter answered."""
    drift, started = Drift(), time.monotonic()
    parts = zip(reference.prompts, reference.files, reference.texts, strict=True)
    for count, (group, path, texts) in enumerate(parts, start=1):
        reader, expected = Reader(model, group), load_file(path)
        for row, found in enumerate(reader.logits_before(group.answers)):
            drift.add(expected[str(row)], found)
        for text, found in zip(texts, reader.logits_before(texts), strict=True):
            drift.add_text(text, found)
        _tell(label, reference.prompts[:count], reference.prompts, started)
    return drift


def _tell(label: str, done: Sequence[Prompts], of: Sequence[Prompts], started: float) -> None:
    read, total = (sum(len(group.answers) for group in groups) for groups in (done, of))
    rate = read / max(time.monotonic() - started, 1e-6)
    print(
        f"merge: parity of {label}: {read}/{total} prompts  {rate:.1f} prompts/s  {(total - read) / rate:.0f} s left",
        flush=True,
    )


def judge(drift: Drift, merged_from: MergedFrom, params: MergeParams, merged_digest: str) -> CandidateParity:
    """The figures of one candidate; it passes within params.max_mean_kl and params.min_top1_agreement."""
    mean_kl, agreement = drift.kl / drift.positions, drift.agreed / drift.positions
    return CandidateParity(
        merged_from=merged_from,
        positions=drift.positions,
        mean_kl=mean_kl,
        max_kl=drift.max_kl,
        top1_agreement=agreement,
        mean_abs_logit_difference=drift.difference / drift.positions,
        max_abs_logit_difference=drift.max_difference,
        greedy_texts=drift.texts,
        greedy_texts_equal=drift.texts - len(drift.divergences),
        first_divergence=min(drift.divergences, default=None),
        passed=mean_kl <= params.max_mean_kl and agreement >= params.min_top1_agreement,
        merged_digest=merged_digest,
    )


def choose(candidates: Sequence[CandidateParity]) -> CandidateParity:
    """The candidate that ships: of those within the limits, else of all, the one of the least mean KL.

    Of equal ones it is the first, which is the one that was asked for first.
    """
    return min(candidates, key=lambda candidate: (not candidate.passed, candidate.mean_kl))
