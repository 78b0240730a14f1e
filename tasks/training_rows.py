"""Examples as rows of token ids and labels: what carries loss is what the assistant says, in every turn of it.

Labels are found in the text that the chat template renders, so that no template needs marks for generation. A turn of
the assistant reaches from where the template hands over to it up to its stop token, which is learned too.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase

from tasks.errors import TrainingInvalid
from tasks.records import Example
from tasks.workers import with_progress

IGNORED = -100  # the label of a token without loss, torch.nn.CrossEntropyLoss's default
FEATURES = Features(
    {
        "example": List(Value("int32")),
        "input_ids": List(Value("int32")),
        "labels": List(Value("int32")),
    }
)


class Span(NamedTuple):
    """A part of a text, in characters."""

    start: int
    end: int


class Rendered(NamedTuple):
    """A conversation as the chat template writes it, and the parts of it that the assistant says."""

    text: str
    spans: tuple[Span, ...]


def render(example: Example, tokenizer: PreTrainedTokenizerBase) -> Rendered:
    """The text of a conversation with the spans of its assistant turns, their stop tokens included.

    Raises:
        TrainingInvalid: the template leaves a turn out, or changes it.
    """
    messages = [message.for_template() for message in example.messages]
    tools = None if example.tools is None else json.loads(example.tools)

    def written(count: int, *, is_prompt: bool) -> str:
        return str(
            tokenizer.apply_chat_template(
                messages[:count], tools=tools, tokenize=False, add_generation_prompt=is_prompt
            )
        )

    text, spans, end = written(len(messages), is_prompt=False), [], 0
    for number, message in enumerate(example.messages):
        if message.role != "assistant":
            continue
        prompt = written(number, is_prompt=True)
        span = _between(text, prompt, written(number + 1, is_prompt=False))
        if span is None:  # what was asked may hold the same words: look behind all that the prompt has in common
            start = max(end, _common(text, prompt))
            span = _around(text, message.content.strip(), start, str(tokenizer.eos_token))
        if span is None:
            raise TrainingInvalid(
                f"example {example.id}: the chat template does not write turn {number + 1} as it is; "
                "`tunegate data why` shows the row, take it out or change the template"
            )
        spans.append(span)
        end = span.end
    return Rendered(text, tuple(spans))


def _between(text: str, before: str, after: str) -> Span | None:
    """What a turn adds to the text; None where the template writes earlier turns anew once later ones follow."""
    return Span(len(before), len(after)) if after.startswith(before) and text.startswith(after) else None


def _common(one: str, other: str) -> int:
    """How many characters the beginnings of two texts share."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def _around(text: str, content: str, start: int, stop: str) -> Span | None:
    """Where the content reaches beyond `start`, or stands after it, with the stop token behind it."""
    if not content:
        return None
    # The prompt may begin a thought as the answer begins, `<think>` and `<b>`: then the answer starts a little before.
    shared = range(start, max(start - len(content), -1), -1)
    at = next((place for place in shared if text.startswith(content, place)), text.find(content, start))
    if at < 0:
        return None
    end = at + len(content)
    stop_at = text.find(stop, end)
    return Span(at, end if stop_at < 0 else stop_at + len(stop))


def labelled(rendered: Rendered, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The token ids of a rendered conversation, and their labels: the id itself within a span, else `IGNORED`.

    A token that begins before a span belongs to the prompt, which is how the model meets it when it answers.
    """
    encoded: Any = tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)
    ids, labels = encoded["input_ids"], []
    waiting = list(reversed(rendered.spans))
    for token, (start, end) in zip(ids, encoded["offset_mapping"], strict=True):
        while waiting and start >= waiting[-1].end:
            waiting.pop()
        labels.append(token if waiting and start >= waiting[-1].start and end > start else IGNORED)
    return ids, labels


def build_rows(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """A datasets.Dataset with `input_ids` and `labels`, at most `max_length` long; an example is there `repeat` times.

    `example` is the example's number, for every token, so that it survives packing.
    """
    return Dataset.from_list(list(_rows(examples, tokenizer, max_length)), features=FEATURES)


def _rows(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[dict[str, list[int]]]:
    numbered: Iterable[tuple[int, Example]] = enumerate(examples)
    for number, example in with_progress(numbered, "train: tokens", len(examples), lambda _: 1):
        ids, labels = (part[:max_length] for part in labelled(render(example, tokenizer), tokenizer))
        row = {"example": [number] * len(ids), "input_ids": ids, "labels": labels}
        yield from [row] * example.repeat
