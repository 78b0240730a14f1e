"""The base model's tokenizer and chat template, as training uses them: a row's rendered text, its tokens, the marks.

The owner of the tokenizer in the data stages. A folder whose tokenizer is the plain one of `tokenizers` is loaded
without `AutoTokenizer`, which would import torch into every worker (9 s where nothing is byte-compiled); both render
and count alike.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers.tokenization_utils_tokenizers import TokenizersBackend

from tasks.errors import FileInvalid
from tasks.records import Example

PLAIN = frozenset({"TokenizersBackend", "PreTrainedTokenizerFast"})


class TemplateFailed(Exception):
    """The chat template raised on a row; the message is the template's own."""


class ChatTokens:
    """What the chat template makes of a row, and how many tokens that is."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def render(self, example: Example) -> str:
        """The whole conversation as training sees it, byte for byte.

        Raises:
            TemplateFailed: the template does not take this row.
        """
        tools = None if example.tools is None else json.loads(example.tools)
        messages = [message.for_template() for message in example.messages]
        try:
            return str(self._tokenizer.apply_chat_template(messages, tools=tools, tokenize=False))
        except Exception as error:  # a template is a program of others: it may raise anything
            raise TemplateFailed(f"{type(error).__name__}: {_first_line(error)}") from error

    def count(self, rendered: Sequence[str]) -> list[int]:
        """Tokens of every rendered conversation; the template has written the special tokens already."""
        encodings = self._tokenizer.backend_tokenizer.encode_batch_fast(list(rendered), add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]

    def special_tokens(self) -> tuple[str, ...]:
        """The tokenizer's special tokens, sorted: marks that it obeys whoever wrote them.

        Added tokens that are not marked special (`<tool_call>`, `<think>`, runs of spaces) are text that answers need.
        """
        added = (str(token) for token in self._tokenizer.added_tokens_decoder.values() if token.special)
        return tuple(sorted({*self._tokenizer.all_special_tokens, *added} - {""}))


def load_chat_tokens(folder: Path) -> ChatTokens:
    """The tokenizer in `folder`, which the stage `base` wrote.

    Raises:
        FileInvalid: there is none, or it has no chat template.
    """
    try:
        written = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        tokenizer = _loader(written.get("tokenizer_class")).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise FileInvalid(
            f"{folder}: no tokenizer can be read there ({_first_line(error)}); run `dvc repro base`"
        ) from None
    if not tokenizer.chat_template:
        raise FileInvalid(f"{folder}: the tokenizer has no chat template; take a base model that is tuned for chat")
    return ChatTokens(tokenizer)


def _loader(tokenizer_class: object) -> Any:
    if tokenizer_class in PLAIN:
        return TokenizersBackend
    from transformers import AutoTokenizer  # noqa: PLC0415  imports torch; only a family with a class of its own needs it

    return AutoTokenizer


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no message"])[0]
