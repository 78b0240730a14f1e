"""Tools and tool calls: the shapes in which files hold them, and the one shape, canonical JSON, in which examples do.

A call is `{"type": "function", "function": {"name": …, "arguments": {…}}}`, a tool `{"type": "function", "function":
{"name": …, …}}`: what transformers hands to chat templates. For a template that knows neither, `written_out` puts both
into the text, in the form of Hermes: tools between `<tools>` marks in the system turn, a call between `<tool_call>`
marks in the assistant's, and a tool's answer, where its name is known, as a JSON object of name and content.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tasks.records import Message
from tasks.strict_json import Broken, parse_value

TOOLS_TEXT = """\
You may call one or more of these functions, whose signatures stand between <tools></tools> as JSON, one a line:
<tools>
{tools}
</tools>
A call is a JSON object with name and arguments between marks of its own:
<tool_call>
{{"name": <name>, "arguments": <arguments>}}
</tool_call>"""


class BrokenRow(Exception):
    """A row that does not fit its layout: the rule it broke, and the column and problem without the row's text."""

    def __init__(self, rule: str, value: str) -> None:
        super().__init__(rule, value)
        self.rule = rule
        self.value = value


def parse_calls(value: object, place: str) -> str:
    """The calls at `place` as canonical JSON; they may stand there as a text that holds JSON, and without the wrapping.

    Raises:
        BrokenRow: one has no name, arguments that are no object, or anything besides.
    """
    calls = _listed(value, "bad_tool_call", place)
    if not calls:
        raise BrokenRow("bad_tool_call", f"{place}: no call")
    return dump([_call(call, f"{place}[{index}]") for index, call in enumerate(calls)])


def parse_tools(value: object, place: str) -> str | None:
    """The tools at `place` as canonical JSON; None where there are none.

    Raises:
        BrokenRow: one is no object with a name.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    tools = [_tool(tool, f"{place}[{index}]") for index, tool in enumerate(_listed(value, "bad_tools", place))]
    return dump(tools) if tools else None


def names_by_id(value: object) -> list[tuple[str, str]]:
    """The ids of calls that `parse_calls` has taken, each with its function's name; a call without id is none."""
    calls = parse_value(value) if isinstance(value, str) else value
    found = []
    for call in calls if isinstance(calls, list) else [calls]:
        if isinstance(call, dict) and isinstance(call.get("id"), str):
            found.append((call["id"], call.get("function", call)["name"]))
    return found


def written_out(messages: Sequence[Message], tools: str | None) -> tuple[Message, ...]:
    """The same conversation without anything but text: tools in the system turn, calls in the assistant's."""
    turns = [_without_calls(message) for message in messages]
    if tools is None:
        return tuple(turns)
    text = TOOLS_TEXT.format(tools=_lines(tool["function"] for tool in json.loads(tools)))
    if turns and turns[0].role == "system":
        own = turns.pop(0).content
        text = f"{own}\n\n{text}" if own else text
    return (Message(role="system", content=text), *turns)


def dump(value: object) -> str:
    """Canonical JSON: keys as they came, since templates write them in that order."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _without_calls(message: Message) -> Message:
    if message.tool_calls is not None:
        calls = (call["function"] for call in json.loads(message.tool_calls))
        marked = [f"<tool_call>\n{dump(call)}\n</tool_call>" for call in calls]
        return Message(role=message.role, content="\n".join(part for part in (message.content, *marked) if part))
    if message.role == "tool" and message.name is not None:
        return Message(role="tool", content=dump({"name": message.name, "content": message.content}))
    return message


def _lines(values: Iterable[object]) -> str:
    return "\n".join(dump(value) for value in values)


def _listed(value: object, rule: str, place: str) -> list[Any]:
    parsed = parse_value(value) if isinstance(value, str) else value
    if isinstance(parsed, Broken):
        raise BrokenRow(rule, f"{place}: {parsed.rule}: {parsed.value}")
    if isinstance(parsed, dict):
        return [parsed]
    if not isinstance(parsed, list):
        raise BrokenRow(rule, f"{place}: {kind_of(parsed)}, expected a list of objects")
    return parsed


def _call(call: object, place: str) -> dict[str, object]:
    function = _unwrapped(call, "bad_tool_call", place, {"id", "index"})
    if extra := _given(function) - {"name", "arguments"}:
        raise BrokenRow("bad_tool_call", f"{place}: {len(extra)} key(s) besides name and arguments")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = parse_value(arguments) if arguments.strip() else {}
    if isinstance(arguments, Broken):
        raise BrokenRow("bad_tool_call", f"{place}.arguments: {arguments.rule}: {arguments.value}")
    if arguments is not None and not isinstance(arguments, dict):
        raise BrokenRow("bad_tool_call", f"{place}.arguments: {kind_of(arguments)}, expected an object")
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments or {}}}


def _tool(tool: object, place: str) -> dict[str, object]:
    return {"type": "function", "function": _unwrapped(tool, "bad_tools", place, set())}


def _unwrapped(value: object, rule: str, place: str, ignored: set[str]) -> dict[str, Any]:
    """The object with the function's name, out of `{"type": "function", "function": …}` if it is wrapped in that."""
    if not isinstance(value, dict):
        raise BrokenRow(rule, f"{place}: {kind_of(value)}, expected an object")
    function = value
    if isinstance(value.get("function"), dict):
        if value.get("type", "function") != "function" or _given(value) - {"type", "function", *ignored}:
            raise BrokenRow(rule, f"{place}: more than type and function")
        function = value["function"]
    if not isinstance(function.get("name"), str) or not function["name"].strip():
        raise BrokenRow(rule, f"{place}: no name")
    return {key: item for key, item in function.items() if key not in ignored} if function is value else function


def _given(row: dict[str, Any]) -> set[str]:
    return {key for key, value in row.items() if value is not None}


def kind_of(value: object) -> str:
    """The type of a JSON value as messages name it."""
    return "null" if value is None else type(value).__name__
