"""The drop rules of cleaning, in order: each looks at one example and gives the value that broke it, or None.

They see a row after every change of `clean_changes`. The cheap ones come first; the chat template and the tokenizer
are asked last.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tasks import credentials
from tasks.chat_tokens import TemplateFailed
from tasks.clean_tools import CleaningTools
from tasks.records import Example
from tasks.repetition import repetition

Rule = Callable[[Example, CleaningTools], str | None]

FOLLOWERS = {
    "start": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}
CURLY = str.maketrans("\u2018\u2019", "''")


class Reason(NamedTuple):
    """Why a row is dropped: the first rule that it breaks, and the value that broke it."""

    rule: str
    value: str


def judge(examples: Sequence[Example], tools: CleaningTools) -> list[Reason | int]:
    """For every example the reason to drop it, or the tokens of the one that stays."""
    looked_at = [_rendered(example, tools) for example in examples]
    counts = iter(tools.chat.count([found for found in looked_at if isinstance(found, str)]))
    limit = tools.params.max_tokens
    return [found if isinstance(found, Reason) else _within(next(counts), limit) for found in looked_at]


def _within(tokens: int, limit: int | None) -> Reason | int:
    return tokens if limit is None or tokens <= limit else Reason("too_many_tokens", f"{tokens} tokens")


def _rendered(example: Example, tools: CleaningTools) -> Reason | str:
    """What the chat template makes of an example that breaks no rule before."""
    for rule, broken in RULES.items():
        value = broken(example, tools)
        if value is not None:
            return Reason(rule, value)
    try:
        rendered = tools.chat.render(example)
    except TemplateFailed as failed:
        return Reason("not_rendered", f"the template failed: {failed}")
    lost = lost_part(example, rendered)
    return rendered if lost is None else Reason("not_rendered", lost)


def missing_prompt(example: Example, _tools: CleaningTools) -> str | None:
    """No user turn: system turns alone, or an answer to nothing."""
    return None if any(turn.role == "user" for turn in example.messages) else "no user turn"


def missing_answer(example: Example, _tools: CleaningTools) -> str | None:
    """No assistant turn: there is nothing to learn."""
    return None if any(turn.role == "assistant" for turn in example.messages) else "no assistant turn"


def role_order(example: Example, _tools: CleaningTools) -> str | None:
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


def empty_prompt(example: Example, _tools: CleaningTools) -> str | None:
    """A user turn without text."""
    return "0 characters" if any(not text.strip() for text in _texts(example, "user")) else None


def empty_completion(example: Example, _tools: CleaningTools) -> str | None:
    """An assistant turn without text that calls no tool either."""
    silent = (turn for turn in example.messages if turn.role == "assistant" and not turn.tool_calls)
    return "0 characters" if any(not turn.content.strip() for turn in silent) else None


def prompt_too_short(example: Example, tools: CleaningTools) -> str | None:
    """Fewer characters than `min_prompt_chars`, space around them not counted."""
    return _outside(len(example.prompt.strip()), least=tools.params.min_prompt_chars)


def prompt_too_long(example: Example, tools: CleaningTools) -> str | None:
    """More characters than `max_prompt_chars`."""
    return _outside(len(example.prompt), most=tools.params.max_prompt_chars)


def completion_too_short(example: Example, tools: CleaningTools) -> str | None:
    """Fewer characters than `min_completion_chars` in the last assistant turn, tool calls counted, space around not."""
    return _outside(len(example.completion.strip()), least=tools.params.min_completion_chars)


def completion_too_long(example: Example, tools: CleaningTools) -> str | None:
    """More characters than `max_completion_chars` in one assistant turn, its tool calls included."""
    turns = (turn for turn in example.messages if turn.role == "assistant")
    count = max((len(turn.content) + len(turn.tool_calls or "") for turn in turns), default=0)
    return _outside(count, most=tools.params.max_completion_chars)


def truncated(example: Example, tools: CleaningTools) -> str | None:
    """A line of the prompt ends with a mark that exports leave where they cut."""
    ends = [line.rstrip() for line in example.prompt.splitlines()]
    marks = (mark for mark in tools.params.truncation_marks if any(end.endswith(mark) for end in ends))
    return next((f"ends with {mark}" for mark in marks), None)


def special_token(example: Example, tools: CleaningTools) -> str | None:
    """A special token stands in a text, a tool or a call, as it is or once compatibility characters are folded."""
    for where, text in _parts(example):
        if token := tools.special_tokens.first(text):
            return f"{token} in {where}"
    return None


def secret(example: Example, tools: CleaningTools) -> str | None:
    """A credential stands in a text, a tool or a call; the value names its kind only."""
    if tools.params.secrets is None:
        return None
    for where, text in _parts(example):
        if kinds := credentials.find(text):
            return f"{kinds[0]} in {where}"
    return None


def pii(example: Example, tools: CleaningTools) -> str | None:
    """Personal data stands in a text or a call; the value counts it by kind."""
    if tools.pii is None:
        return None
    for where, text in _parts(example, with_tools=False):
        if counts := tools.pii.find(text):
            return " ".join(f"{kind}={count}" for kind, count in sorted(counts.items())) + f" in {where}"
    return None


def refusal(example: Example, tools: CleaningTools) -> str | None:
    """An assistant turn holds a phrase of `refusal_phrases`."""
    return _phrase(_texts(example, "assistant"), tools.params.refusal_phrases)


def boilerplate(example: Example, tools: CleaningTools) -> str | None:
    """A user or assistant turn holds a phrase of `boilerplate_phrases`."""
    texts = (turn.content for turn in example.messages if turn.role in {"user", "assistant"})
    return _phrase(texts, tools.params.boilerplate_phrases)


def repetitive(example: Example, tools: CleaningTools) -> str | None:
    """An assistant turn repeats itself beyond Gopher's bounds."""
    if (params := tools.params.repetition) is None:
        return None
    return next((value for text in _texts(example, "assistant") if (value := repetition(text, params))), None)


def language(example: Example, tools: CleaningTools) -> str | None:
    """The user's and assistant's turns together are surely in a language that is not allowed."""
    params = tools.params.language
    if params is None or tools.language is None:
        return None
    text = "\n".join(turn.content for turn in example.messages if turn.role in {"user", "assistant"})
    if len(text) < params.min_chars:
        return None
    found, confidence = tools.language.identify(text)
    return f"{found} {confidence:.2f}" if found not in params.allowed and confidence >= params.min_confidence else None


def lost_part(example: Example, rendered: str) -> str | None:
    """The first part of the row that `rendered` lacks, so that nothing is flattened silently.

    Turns must stand in their order, but for the system turn, which some templates write later. A template may strip
    a text, or write it as JSON.
    """
    at = 0
    for number, message in enumerate(example.messages, start=1):
        start = 0 if message.role == "system" else at
        end = _end_of(message.content, rendered, start)
        if end < 0:
            return f"content of turn {number} ({message.role})"
        for name in _names(message.tool_calls):
            if rendered.find(name, start) < 0:
                return f"tool call {name} of turn {number}"
        at = at if message.role == "system" else end
    missing = (name for name in _names(example.tools) if name not in rendered)
    return next((f"tool {name}" for name in missing), None)


def _end_of(content: str, rendered: str, start: int) -> int:
    text = content.strip()
    for form in (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]):
        if (at := rendered.find(form, start)) >= 0:
            return at + len(form)
    return -1


def _names(written: str | None) -> Iterator[str]:
    """The names in a JSON list of tools or calls, with or without OpenAI's `function` around them."""
    for item in json.loads(written) if written else ():
        described = item.get("function", item) if isinstance(item, dict) else {}
        name = described.get("name") if isinstance(described, dict) else None
        if isinstance(name, str):
            yield name


def _outside(chars: int, *, least: int | None = None, most: int | None = None) -> str | None:
    """The count, where it lies outside the bound; a bound of None is none."""
    is_outside = (least is not None and chars < least) or (most is not None and chars > most)
    return f"{chars} characters" if is_outside else None


def _phrase(texts: Iterator[str], phrases: list[str]) -> str | None:
    if not phrases:
        return None
    for text in texts:
        folded = text.translate(CURLY).casefold()
        for phrase in phrases:
            if phrase.casefold() in folded:
                return phrase
    return None


def _parts(example: Example, *, with_tools: bool = True) -> Iterator[tuple[str, str]]:
    """Every text of the row that reaches the template, with where it stands; JSON as it reads once decoded."""
    for message in example.messages:
        yield f"{message.role} turn", message.content
        if message.name:
            yield f"name of {message.role} turn", message.name
        if message.tool_calls:
            yield f"tool call of {message.role} turn", _decoded(message.tool_calls)
    if with_tools and example.tools:
        yield "tools", _decoded(example.tools)


def _decoded(written: str) -> str:
    return json.dumps(json.loads(written), ensure_ascii=False)


def _texts(example: Example, role: str) -> Iterator[str]:
    return (message.content for message in example.messages if message.role == role)


RULES: dict[str, Rule] = {
    "missing_prompt": missing_prompt,
    "missing_answer": missing_answer,
    "role_order": role_order,
    "empty_prompt": empty_prompt,
    "empty_completion": empty_completion,
    "prompt_too_short": prompt_too_short,
    "prompt_too_long": prompt_too_long,
    "completion_too_short": completion_too_short,
    "completion_too_long": completion_too_long,
    "truncated": truncated,
    "special_token": special_token,
    "secret": secret,
    "pii": pii,
    "refusal": refusal,
    "boilerplate": boilerplate,
    "repetition": repetitive,
    "language": language,
}
