"""Strict JSON: what Python's own reader lets through (NaN, duplicate keys, lone surrogates, depth) has a rule here."""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 20
MAX_PARSED_DEPTH = 200  # a file deeper than this is not parsed at all: Python's reader would end in a RecursionError
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Broken:
    """Why a text is no row: the rule, and a detail without the text itself."""

    rule: str
    value: str


_TOO_DEEP = Broken("json_too_deep", f"more than {MAX_DEPTH} levels")


@dataclass
class _Problems:
    found: list[Broken] = field(default_factory=list)

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Build an object, noting a key that comes twice."""
        row = dict(pairs)
        if len(row) < len(pairs):
            self.found.append(Broken("json_duplicate_key", f"{len(pairs) - len(row)} key(s) come twice"))
        return row

    def number(self, text: str) -> float:
        """Read a float, noting one that is not finite."""
        value = float(text)
        if not math.isfinite(value):
            self.found.append(Broken("json_non_finite", "a number beyond the range of a float"))
        return value

    def constant(self, name: str) -> float:
        """Note NaN and the infinities."""
        self.found.append(Broken("json_non_finite", name))
        return math.nan

    def integer(self, text: str) -> int:
        """Read an integer, noting one of absurd length."""
        if len(text) > 40:
            self.found.append(Broken("json_value", f"an integer of {len(text)} digits"))
            return 0
        return int(text)


def parse_row(text: str) -> dict[str, Any] | Broken:
    """Parse one JSON object that fills `text`."""
    if depth_of(text) > MAX_DEPTH:
        return _TOO_DEEP
    problems = _Problems()
    try:
        value = _decoder(problems).decode(text)
    except json.JSONDecodeError as error:
        return Broken("json_syntax", f"{error.msg} at column {error.colno}")
    return _judged(value, problems)


def parse_elements(text: str) -> list[tuple[str, int, dict[str, Any] | Broken]]:
    """Parse a JSON array: for each element its own text, the offset where it starts, and the row or the reason.

    Raises:
        json.JSONDecodeError: it is not an array, or its syntax breaks off: what follows cannot be found.
    """
    position = _after_space(text, 0)
    if text[position : position + 1] != "[":
        raise json.JSONDecodeError("expected an array of objects", text, position)
    if depth_of(text) > MAX_PARSED_DEPTH:
        raise json.JSONDecodeError(f"nested deeper than {MAX_PARSED_DEPTH} levels", text, 0)
    position = _after_space(text, position + 1)
    elements: list[tuple[str, int, dict[str, Any] | Broken]] = []
    while text[position : position + 1] != "]":
        if elements:
            position = _after_space(text, _expect(text, position, ","))
        problems = _Problems()
        value, end = _decoder(problems).raw_decode(text, position)
        raw = text[position:end]
        deep = depth_of(raw) > MAX_DEPTH
        elements.append((raw, position, _TOO_DEEP if deep else _judged(value, problems)))
        position = _after_space(text, end)
    if (rest := _after_space(text, position + 1)) != len(text):
        raise json.JSONDecodeError("something follows the array", text, rest)
    return elements


def depth_of(text: str) -> int:
    """How deep brackets nest outside strings."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0  # cannot be too deep: almost every row ends here
    depth = deepest = 0
    for sign in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if sign in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def has_lone_surrogate(value: object) -> bool:
    """Whether some text in `value`, keys included, holds half of a surrogate pair."""
    if isinstance(value, str):
        return not value.isascii() and _SURROGATE.search(value) is not None
    if isinstance(value, dict):
        return any(has_lone_surrogate(key) or has_lone_surrogate(item) for key, item in value.items())
    return isinstance(value, list) and any(has_lone_surrogate(item) for item in value)


def _decoder(problems: _Problems) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=problems.pairs,
        parse_float=problems.number,
        parse_int=problems.integer,
        parse_constant=problems.constant,
    )


def _judged(value: object, problems: _Problems) -> dict[str, Any] | Broken:
    if not isinstance(value, dict):
        return Broken("not_an_object", type(value).__name__)
    if problems.found:
        return problems.found[0]
    if has_lone_surrogate(value):
        return Broken("lone_surrogate", "half of a surrogate pair in a text")
    return value


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _expect(text: str, position: int, sign: str) -> int:
    if text[position : position + 1] != sign:
        raise json.JSONDecodeError(f"expected {sign!r} or the end of the array", text, position)
    return position + 1
