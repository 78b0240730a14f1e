"""Rows of the named layouts as conversations: what stands where in a row, and the named reason why it does not fit."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from tasks.records import Message
from tasks.tool_calls import BrokenRow, kind_of, names_by_id, parse_calls, parse_tools

Row = Mapping[str, object]

PROMPT_PAIRS = (("prompt", "completion"), ("prompt", "response"), ("question", "answer"), ("input", "output"))
ROLES = {**{role: role for role in get_args(Message.model_fields["role"].annotation)}, "function": "tool"}
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}
_PLAIN_LABEL = re.compile(r"[A-Za-z_-]{1,24}")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a row says: its turns, the tools they may call as a JSON list, and the columns that hold no part of it."""

    messages: tuple[Message, ...]
    tools: str | None = None
    unread: frozenset[str] = frozenset()


Parser = Callable[[Row], Conversation]


def _messages(row: Row) -> Conversation:
    turns = _conversation(row, "messages")
    return Conversation(_with_own_system(row, turns), parse_tools(row.get("tools"), "tools"))


def _sharegpt(row: Row) -> Conversation:
    turns = _list(row, "conversations")
    messages = tuple(_sharegpt_turn(turn, f"conversations[{index}]") for index, turn in enumerate(turns))
    return Conversation(_with_own_system(row, messages), parse_tools(row.get("tools"), "tools"))


def _alpaca(row: Row) -> Conversation:
    parts = [text_in(row, "instruction"), _optional_text(row, "input")]
    turns = prompt_and_answer("\n\n".join(part for part in parts if part), text_in(row, "output"))
    return Conversation(_with_own_system(row, (*_history(row), *turns)))


def _prompt_completion(row: Row) -> Conversation:
    prompt, completion = prompt_pair(row)
    if isinstance(row[prompt], list):
        turns = (*_conversation(row, prompt), *_conversation(row, completion))
    else:
        turns = prompt_and_answer(text_in(row, prompt), text_in(row, completion))
    return Conversation(_with_own_system(row, (*_history(row), *turns)), parse_tools(row.get("tools"), "tools"))


PARSERS: dict[str, Parser] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
}


def prompt_pair(row: Row) -> tuple[str, str]:
    """The two columns of a prompt and its completion.

    Raises:
        BrokenRow: the row has no such pair.
    """
    for names in PROMPT_PAIRS:
        if all(name in row for name in names):
            return names
    raise BrokenRow("missing_column", next((names[1] for names in PROMPT_PAIRS if names[0] in row), "prompt"))


def _history(row: Row) -> tuple[Message, ...]:
    """Earlier turns: pairs of what was asked and answered."""
    history = row.get("history") or []
    if not isinstance(history, list):
        raise BrokenRow("wrong_type", f"history: {kind_of(history)}, expected a list of pairs")
    turns: list[Message] = []
    for index, pair in enumerate(history):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise BrokenRow("wrong_type", f"history[{index}]: expected a pair of texts")
        turns += prompt_and_answer(*pair)
    return tuple(turns)


def _sharegpt_turn(turn: object, place: str) -> Message:
    turn = _object(turn, place, {"from", "value"})
    name, text = _column(turn, "from", place), _column(turn, "value", place)
    role = _role(name, SHAREGPT_ROLES, f"{place}.from")
    if name == "function_call":
        return _message(role, "", parse_calls(text, f"{place}.value"))
    if not isinstance(text, str):
        raise BrokenRow("wrong_type", f"{place}.value: {kind_of(text)}, expected text")
    return _message(role, text)


def _conversation(row: Row, column: str) -> tuple[Message, ...]:
    """Turns with role and content, as the chat API of OpenAI has them."""
    open_calls: list[tuple[str, str]] = []
    return tuple(_turn(turn, f"{column}[{index}]", open_calls) for index, turn in enumerate(_list(row, column)))


def _turn(turn: object, place: str, open_calls: list[tuple[str, str]]) -> Message:
    """One turn; `open_calls` are the ids and names of calls that no turn has answered yet."""
    turn = _object(turn, place, {"role", "content", "name", "tool_calls", "tool_call_id"})
    role = _role(_column(turn, "role", place), ROLES, f"{place}.role")
    calls = turn.get("tool_calls") or None
    content = turn.get("content") if calls is not None else _column(turn, "content", place)
    text = "" if content is None and calls is not None else _content(content, f"{place}.content")
    name = turn.get("name")
    if name is not None and not isinstance(name, str):
        raise BrokenRow("wrong_type", f"{place}.name: {kind_of(name)}, expected text")
    if role != "assistant" and calls is not None:
        raise BrokenRow("bad_keys", f"{place}: tool_calls in a turn of {role}")
    if turn.get("tool_call_id") is not None:
        answered = _answered(turn["tool_call_id"], role, place, open_calls)
        name = name or answered
    if calls is None:
        return _message(role, text, name=name)
    canonical = parse_calls(calls, f"{place}.tool_calls")
    open_calls += names_by_id(calls)
    return _message(role, text, canonical, name)


def _answered(call_id: object, role: str, place: str, open_calls: list[tuple[str, str]]) -> str:
    """The name of the function whose call a tool's turn answers; the order of calls has to be that of their answers."""
    found = [index for index, (known, _) in enumerate(open_calls) if known == call_id]
    if role != "tool" or not found:
        raise BrokenRow("bad_tool_call_id", f"{place}.tool_call_id: of no call before it")
    _, name = open_calls.pop(found[0])
    if name in [earlier for _, earlier in open_calls[: found[0]]]:
        raise BrokenRow("bad_tool_call_id", f"{place}.tool_call_id: an earlier call of the same function is unanswered")
    return name


def _content(content: object, place: str) -> str:
    """A text, or a list of parts that are all texts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise BrokenRow("wrong_type", f"{place}: {kind_of(content)}, expected text")
    for index, part in enumerate(content):
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise BrokenRow(
                "not_text", f"{place}[{index}]: {shown_label(str(part.get('type')))}, only text can be trained on"
            )
    return "".join(part["text"] for part in content)


def _list(row: Row, column: str) -> list[object]:
    turns = _column(row, column)
    if not isinstance(turns, list):
        raise BrokenRow("wrong_type", f"{column}: {kind_of(turns)}, expected a list")
    if not turns:
        raise BrokenRow("bad_length", f"{column}: no turns")
    return turns


def _object(turn: object, place: str, known: set[str]) -> dict[str, object]:
    if not isinstance(turn, dict):
        raise BrokenRow("wrong_type", f"{place}: {kind_of(turn)}, expected an object")
    extra = {name for name, value in turn.items() if value is not None} - known
    if extra:
        raise BrokenRow("bad_keys", f"{place}: {len(extra)} key(s) besides {', '.join(sorted(known))}")
    return turn


def _role(name: object, roles: Mapping[str, str], place: str) -> str:
    if not isinstance(name, str):
        raise BrokenRow("wrong_type", f"{place}: {kind_of(name)}, expected text")
    if name not in roles:
        raise BrokenRow("unknown_role", f"{place}: {shown_label(name)}")
    return roles[name]


def _message(role: str, content: str, tool_calls: str | None = None, name: str | None = None) -> Message:
    return Message.model_validate({"role": role, "content": content, "tool_calls": tool_calls, "name": name})


def prompt_and_answer(prompt: str, completion: str) -> tuple[Message, ...]:
    """A user's turn and the assistant's."""
    return (Message(role="user", content=prompt), Message(role="assistant", content=completion))


def _with_own_system(row: Row, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns below the system text that the row has in a column of its own."""
    system = _optional_text(row, "system")
    if system and any(message.role == "system" for message in messages):
        raise BrokenRow("bad_keys", "system: a column beside a system turn")
    return with_system(messages, system)


def with_system(messages: tuple[Message, ...], system: str) -> tuple[Message, ...]:
    """The turns below a system text; one that they have stays."""
    if not system or any(message.role == "system" for message in messages):
        return messages
    return (Message(role="system", content=system), *messages)


def _column(row: Row, column: str, place: str = "") -> object:
    if column not in row:
        raise BrokenRow("missing_column", f"{place}.{column}".lstrip("."))
    return row[column]


def text_in(row: Row, column: str) -> str:
    """The text in a column.

    Raises:
        BrokenRow: the column is missing, or holds no text.
    """
    value = _column(row, column)
    if not isinstance(value, str):
        raise BrokenRow("wrong_type", f"{column}: {kind_of(value)}, expected text")
    return value


def _optional_text(row: Row, column: str) -> str:
    return "" if row.get(column) is None else text_in(row, column)


def shown_label(value: str) -> str:
    """A label as it may be shown: one plain word, otherwise only its length, for it may be somebody's text."""
    return repr(value) if _PLAIN_LABEL.fullmatch(value) else f"a text of {len(value)} characters"
