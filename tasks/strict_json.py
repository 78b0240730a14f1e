"""Strict JSON: what Python's own reader lets through (NaN, duplicate keys, lone surrogates, depth) has a rule here."""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 20
_STRING = re.compile(r'"(?>[^"\\]+|\\.)*+(?:"|\\?\Z)', re.DOTALL)  # one that breaks off too, once: in linear time
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


_PROBLEMS = _Problems()
_DECODER = json.JSONDecoder(
    object_pairs_hook=_PROBLEMS.pairs,
    parse_float=_PROBLEMS.number,
    parse_int=_PROBLEMS.integer,
    parse_constant=_PROBLEMS.constant,
)


def parse_row(text: str) -> dict[str, Any] | Broken:
    """Parse one JSON object that fills `text`."""
    value = _parsed(text)
    if isinstance(value, Broken):
        return value
    if not isinstance(value, dict):
        return Broken("not_an_object", type(value).__name__)
    return _problem(value, text) or value


def parse_value(text: str) -> object:
    """Parse JSON of any kind that fills `text`, as in a text that holds a tool call; a `Broken` says why not."""
    value = _parsed(text)
    return value if isinstance(value, Broken) else _problem(value, text) or value


def _parsed(text: str) -> object:
    if depth_of(text) > MAX_DEPTH:
        return _TOO_DEEP
    _PROBLEMS.found.clear()
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        return Broken("json_syntax", f"{error.msg.removesuffix(' at')} at column {error.colno}")


def _problem(value: object, text: str) -> Broken | None:
    """What is wrong with a value that Python's reader let through; only an escape can make a lone surrogate."""
    if _PROBLEMS.found:
        return _PROBLEMS.found[0]
    if (r"\u" in text or not is_utf8(text)) and has_lone_surrogate(value):
        return Broken("lone_surrogate", "half of a surrogate pair in a text")
    return None


def depth_of(text: str) -> int:
    """How deep brackets nest outside strings."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0  # cannot be too deep: almost every row ends here
    depth = deepest = 0
    for sign in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if sign in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def is_utf8(text: str) -> bool:
    """Whether `text` has an encoding in UTF-8: no half of a surrogate pair is in it."""
    return text.isascii() or _SURROGATE.search(text) is None


def has_lone_surrogate(value: object) -> bool:
    """Whether some text in `value`, keys included, holds half of a surrogate pair."""
    if isinstance(value, str):
        return not is_utf8(value)
    if isinstance(value, dict):
        return any(has_lone_surrogate(key) or has_lone_surrogate(item) for key, item in value.items())
    return isinstance(value, list) and any(has_lone_surrogate(item) for item in value)
