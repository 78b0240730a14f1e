"""The text of a model card around its figures: what people wrote is kept, chats are rendered, tables stay tables."""

import json
import re
from pathlib import Path

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks.errors import FileInvalid
from tasks.records import Message, Record

BEGIN = "<!-- tunegate:begin -->"
END = "<!-- tunegate:end -->"

_KEY = re.compile(r"""["']?([A-Za-z_][\w-]*)["']?[ \t]*:(?:\s|$)""")


class ChatFormat(Record):
    """How the released model is spoken to: its template, its special tokens and one conversation with its answer."""

    template: str
    special_tokens: dict[str, str]
    prompt: tuple[Message, ...]
    answer: str


def read_chat_format(model: Path, prompt: tuple[Message, ...], answer: str) -> ChatFormat:
    """The chat format of the model at `model`, shown with one example.

    Raises:
        FileInvalid: the model has no chat template, or its tokenizer's configuration is torn.
    """
    try:
        template = (model / "chat_template.jinja").read_text(encoding="utf-8")
        config = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileInvalid(f"{model}: no chat format: {error}; run `dvc repro merge` again") from None
    tokens = {key: value for key, value in config.items() if key.endswith("_token") and isinstance(value, str)}
    return ChatFormat(template=template, special_tokens=tokens, prompt=prompt, answer=answer)


def rendered_prompt(chat: ChatFormat) -> str | None:
    """What the model reads, character by character, or None where the template needs more than plain jinja2."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    messages = [message.model_dump() for message in chat.prompt]
    try:
        template = environment.from_string(chat.template)
        return template.render(messages=messages, add_generation_prompt=True, **chat.special_tokens)
    except TemplateError:
        return None


def merge_card(existing: str, generated: str) -> str:
    """`generated` with what people wrote into `existing` kept: text outside the marked block, and keys of their own.

    Merging twice gives the same text as merging once. A `generated` without the marks becomes the marked block whole.
    """
    their_metadata, their_body = _split(existing)
    metadata, block = _split(generated)
    ours = _by_key(metadata)
    kept = [lines for key, lines in _by_key(their_metadata).items() if key not in ours]
    if BEGIN not in block:
        block = f"{BEGIN}\n{block.strip()}\n{END}"
    before, after = _outside(their_body)
    body = "\n\n".join(part for part in (before, block.strip(), after) if part)
    return f"---\n{metadata}{''.join(kept)}---\n\n{body}\n"


def _split(card: str) -> tuple[str, str]:
    """The text of the front matter and the text after it."""
    text = card.replace("\r\n", "\n")
    if text.startswith("---\n") and (end := text.find("\n---\n", 3)) >= 0:
        return text[4 : end + 1], text[end + 5 :]
    return "", text


def _outside(body: str) -> tuple[str, str]:
    """What stands before and after the marked block; a card without one is all somebody's own, and follows it."""
    begin, end = body.find(BEGIN), body.rfind(END)
    if begin < 0 or end < begin:
        return "", _unmarked(body)
    return _unmarked(body[:begin]), _unmarked(body[end + len(END) :])


def _unmarked(text: str) -> str:
    """`text` without stray marks, which would make the next reading of the card find another block."""
    return text.replace(BEGIN, "").replace(END, "").strip()


def _by_key(front_matter: str) -> dict[str, str]:
    """The lines of every top-level key, as they are written; a line that starts no key belongs to the one before."""
    lines_of: dict[str, str] = {}
    key = ""
    for line in front_matter.splitlines(keepends=True):
        if match := _KEY.match(line):
            key = match.group(1)
        if key:
            lines_of[key] = lines_of.get(key, "") + line
    return lines_of


def cell(text: object) -> str:
    """`text` as it can stand in a cell of a markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def fenced(text: str, language: str = "text") -> str:
    """`text` as a code block whose fence is longer than any run of backticks in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip(chr(10))}\n{fence}"
