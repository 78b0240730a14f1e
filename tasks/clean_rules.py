"""The drop rules of cleaning, in order: each looks at one example and gives the value that broke it, or None."""

import re
import unicodedata
from collections.abc import Callable, Iterator

from tasks.params import CleanParams
from tasks.records import Example

Rule = Callable[[Example, CleanParams], str | None]

SECRETS = {
    "Hugging Face token": re.compile(r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{20,}"),
    "AWS access key": re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![A-Za-z0-9])"),
    "GitHub token": re.compile(r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})"),
    "private key": re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
}
FOLLOWERS = {
    "start": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}


def reason_to_drop(example: Example, params: CleanParams) -> tuple[str, str] | None:
    """The first rule that `example` breaks and the value that broke it, or None to keep it."""
    for rule, broken in RULES.items():
        value = broken(example, params)
        if value is not None:
            return rule, value
    return None


def role_order(example: Example, _params: CleanParams) -> str | None:
    """One system turn at most and first; then user and assistant in turn, tools after the assistant; an answer last."""
    roles = [message.role for message in example.messages]
    if "system" in roles[1:]:
        return "system_not_first"
    before = "start"
    for role in roles[1:] if roles[:1] == ["system"] else roles:
        if role not in FOLLOWERS[before]:
            return f"{role} after {before}"
        before = role
    return None if before == "assistant" else f"ends with {before}"


def empty_prompt(example: Example, _params: CleanParams) -> str | None:
    """A user turn without text."""
    return "0 characters" if any(not text.strip() for text in _texts(example, "user")) else None


def empty_completion(example: Example, _params: CleanParams) -> str | None:
    """An assistant turn without text."""
    return "0 characters" if any(not text.strip() for text in _texts(example, "assistant")) else None


def prompt_too_short(example: Example, params: CleanParams) -> str | None:
    """Fewer characters than `min_prompt_chars`, space around them not counted."""
    count = len(example.prompt.strip())
    return f"{count} characters" if count < params.min_prompt_chars else None


def prompt_too_long(example: Example, params: CleanParams) -> str | None:
    """More characters than `max_prompt_chars`."""
    count = len(example.prompt)
    return f"{count} characters" if count > params.max_prompt_chars else None


def completion_too_long(example: Example, params: CleanParams) -> str | None:
    """More characters than `max_completion_chars` in one assistant turn."""
    count = max((len(text) for text in _texts(example, "assistant")), default=0)
    return f"{count} characters" if count > params.max_completion_chars else None


def truncated(example: Example, params: CleanParams) -> str | None:
    """A line of the prompt ends with a mark that exports leave where they cut."""
    ends = [line.rstrip() for line in example.prompt.splitlines()]
    marks = (mark for mark in params.truncation_marks if any(end.endswith(mark) for end in ends))
    return next((f"ends with {mark}" for mark in marks), None)


def special_token(example: Example, params: CleanParams) -> str | None:
    """A token of the chat template stands in a text, as it is or once compatibility characters are folded (NFKC)."""
    for message in example.messages:
        folded = unicodedata.normalize("NFKC", message.content)
        for token in params.special_tokens:
            if token in message.content or token in folded:
                return f"{token} in {message.role} turn"
    return None


def secret(example: Example, params: CleanParams) -> str | None:
    """A credential stands in a text; the value names its kind only."""
    if not params.drop_secrets:
        return None
    for message in example.messages:
        for kind, pattern in SECRETS.items():
            if pattern.search(message.content):
                return f"{kind} in {message.role} turn"
    return None


def _texts(example: Example, role: str) -> Iterator[str]:
    return (message.content for message in example.messages if message.role == role)


RULES: dict[str, Rule] = {
    "role_order": role_order,
    "empty_prompt": empty_prompt,
    "empty_completion": empty_completion,
    "prompt_too_short": prompt_too_short,
    "prompt_too_long": prompt_too_long,
    "completion_too_long": completion_too_long,
    "truncated": truncated,
    "special_token": special_token,
    "secret": secret,
}
