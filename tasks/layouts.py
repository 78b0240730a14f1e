"""Layouts: how a row of somebody's file becomes a conversation, or the named reason why it does not."""

import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import get_args

from tasks.errors import SourceInvalid
from tasks.params import NamedLayout, TemplateLayout
from tasks.records import Message

Row = Mapping[str, object]
Parser = Callable[[Row], tuple[Message, ...]]

COLUMNS: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
}
ROLES = get_args(Message.model_fields["role"].annotation)
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}
_PLAIN_LABEL = re.compile(r"[A-Za-z_-]{1,24}")


class BrokenRow(Exception):
    """A row that does not fit its layout: the rule it broke, and the column and problem without the row's text."""

    def __init__(self, rule: str, value: str) -> None:
        super().__init__(rule, value)
        self.rule = rule
        self.value = value


def build_parser(layout: TemplateLayout | NamedLayout, kind: str) -> Parser:
    """The function from a row to its messages; `kind` is the layout's, or what `recognise` found.

    Raises:
        SourceInvalid: a template has more in its braces than a column's name.
    """
    parse = _template_parser(layout) if isinstance(layout, TemplateLayout) else _PARSERS[kind]
    return lambda row: _with_system(parse(row), layout.system)


def recognise(rows: Sequence[Row], place: str) -> str:
    """The layout that most of the first `rows` have.

    Raises:
        SourceInvalid: a preference layout (DPO, KTO), or no known layout.
    """
    columns = sorted({name for row in rows for name in row})
    if preference := _preference_layout(rows):
        raise SourceInvalid(
            f"{place}: recognised {preference}; preference data cannot train this line, which needs one good answer "
            f"a row. Export the chosen answers as prompt and completion (found columns: {', '.join(columns)})"
        )
    counts = {kind: sum(all(name in row for name in names) for row in rows) for kind, names in COLUMNS.items()}
    kind = max(counts, key=lambda name: counts[name])
    if not counts[kind] * 2 > len(rows):
        known = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in COLUMNS.items())
        raise SourceInvalid(
            f"{place}: layout not recognised, found columns: {', '.join(columns) or 'none'}; expected {known}; "
            "or set `layout.kind: template` with a prompt and a completion made of your columns"
        )
    return kind


def template_columns(template: str) -> tuple[str, ...]:
    """The columns that a template names, in order.

    Raises:
        SourceInvalid: something else than a column's name stands in braces, or a brace is alone.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise SourceInvalid(f"template {template!r}: {error}; write `{{{{` and `}}}}` for braces") from None
    for _, column, form, conversion in parts:
        if column is not None and (form or conversion or not re.fullmatch(r"[A-Za-z_][\w -]*", column)):
            raise SourceInvalid(
                f"template {template!r}: found {{{column}}} with more than a name, expected {{column}} alone; "
                "write `{{` and `}}` for braces"
            )
    return tuple(column for _, column, _, _ in parts if column is not None)


def _preference_layout(rows: Sequence[Row]) -> str | None:
    pairs = sum("chosen" in row and "rejected" in row for row in rows)
    judged = sum(isinstance(row.get("label", row.get("kto_tag")), bool) for row in rows)
    if pairs * 2 > len(rows):
        return "a DPO preference layout (chosen, rejected)"
    if judged * 2 > len(rows):
        return "a KTO preference layout (an answer with a true or false label)"
    return None


def _template_parser(layout: TemplateLayout) -> Parser:
    named = (*template_columns(layout.prompt), *template_columns(layout.completion))
    columns = dict.fromkeys((*named, *layout.allowed, *layout.required))

    def parse(row: Row) -> tuple[Message, ...]:
        values = {column: _text(row, column) for column in columns}
        for column in layout.required:
            if not values[column].strip():
                raise BrokenRow("empty", f"{column}: blank, expected text")
        for column, allowed in layout.allowed.items():
            if values[column] not in allowed:
                raise BrokenRow("label_unknown", f"{column}: {_label(values[column])}, not one of {len(allowed)}")
        return _turns(layout.prompt.format_map(values), layout.completion.format_map(values))

    return parse


def _messages(row: Row) -> tuple[Message, ...]:
    return _conversation(row, "messages", "role", "content", {role: role for role in ROLES})


def _sharegpt(row: Row) -> tuple[Message, ...]:
    turns = _conversation(row, "conversations", "from", "value", SHAREGPT_ROLES)
    return _with_system(turns, _optional_text(row, "system"))


def _alpaca(row: Row) -> tuple[Message, ...]:
    parts = [_text(row, "instruction"), _optional_text(row, "input")]
    turns = _turns("\n\n".join(part for part in parts if part), _text(row, "output"))
    if row.get("history"):
        raise BrokenRow("unknown_field", "history: earlier turns are read from the messages layout only")
    return _with_system(turns, _optional_text(row, "system"))


def _prompt_completion(row: Row) -> tuple[Message, ...]:
    if isinstance(row.get("prompt"), list):
        by_role = {role: role for role in ROLES}
        prompt = _conversation(row, "prompt", "role", "content", by_role)
        return prompt + _conversation(row, "completion", "role", "content", by_role)
    return _turns(_text(row, "prompt"), _text(row, "completion"))


_PARSERS: dict[str, Parser] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
}


def _conversation(row: Row, column: str, role: str, content: str, roles: Mapping[str, str]) -> tuple[Message, ...]:
    turns = _column(row, column)
    if not isinstance(turns, list):
        raise BrokenRow("wrong_type", f"{column}: {_kind(turns)}, expected a list")
    if not turns:
        raise BrokenRow("bad_length", f"{column}: no turns")
    return tuple(_turn(turn, f"{column}[{index}]", role, content, roles) for index, turn in enumerate(turns))


def _turn(turn: object, place: str, role: str, content: str, roles: Mapping[str, str]) -> Message:
    if not isinstance(turn, dict):
        raise BrokenRow("wrong_type", f"{place}: {_kind(turn)}, expected an object")
    extra = {name for name, value in turn.items() if value is not None} - {role, content}
    if extra:
        raise BrokenRow("bad_keys", f"{place}: {len(extra)} key(s) besides {role} and {content}")
    name, text = _column(turn, role, place), _column(turn, content, place)
    for key, value in ((role, name), (content, text)):
        if not isinstance(value, str):
            raise BrokenRow("wrong_type", f"{place}.{key}: {_kind(value)}, expected text")
    if name not in roles:
        raise BrokenRow("unknown_role", f"{place}.{role}: {_label(str(name))}")
    return Message.model_validate({"role": roles[str(name)], "content": text})


def _turns(prompt: str, completion: str) -> tuple[Message, ...]:
    return (Message(role="user", content=prompt), Message(role="assistant", content=completion))


def _with_system(messages: tuple[Message, ...], system: str) -> tuple[Message, ...]:
    if not system or any(message.role == "system" for message in messages):
        return messages
    return (Message(role="system", content=system), *messages)


def _column(row: Row, column: str, place: str = "") -> object:
    if column not in row:
        raise BrokenRow("missing_column", f"{place}.{column}".lstrip("."))
    return row[column]


def _text(row: Row, column: str) -> str:
    value = _column(row, column)
    if not isinstance(value, str):
        raise BrokenRow("wrong_type", f"{column}: {_kind(value)}, expected text")
    return value


def _optional_text(row: Row, column: str) -> str:
    return "" if row.get(column) is None else _text(row, column)


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__


def _label(value: str) -> str:
    """A label as it may be shown: one plain word, otherwise only its length, for it may be somebody's text."""
    return repr(value) if _PLAIN_LABEL.fullmatch(value) else f"a text of {len(value)} characters"
