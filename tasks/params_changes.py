"""Other values in parsed parameters, each put where its dotted key says."""

import difflib
import json
from collections.abc import Iterable, MutableMapping, Sequence
from io import StringIO
from typing import Any

from pydantic import JsonValue
from ruamel.yaml import YAML

from tasks.errors import ParamsInvalid

NAMED_BY = ("benchmark", "figure", "name")
"""What the entries of a list are called by, besides their place."""


WIDTH = 4096
"""No line of a file is folded for its length."""


def with_values(text: str, values: Iterable[tuple[str, JsonValue]], *, top: str) -> str:
    """The text of a YAML file with other values; its comments stay.

    Raises:
        ParamsInvalid: it has no such key.
    """
    yaml = YAML()
    yaml.width = WIDTH
    document: Any = yaml.load(text)
    for key, value in values:
        assign(document, key, value, top=top, setting=f"{key}={written(value)}")
    out = StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def written(value: JsonValue) -> str:
    """A value as it stands behind `--set KEY=`."""
    return value if isinstance(value, str) else json.dumps(value)


def assign(document: JsonValue, key: str, value: JsonValue, *, top: str, setting: str) -> None:
    """Put `value` where `key` says; nothing new is made.

    Args:
        document: mappings and lists, changed in place.
        key: such as `rules.0.min_value`, or `rules.ticket_routing.min_value`: an entry of a list by place or by name.
        value: takes the place of what is there.
        top: what the document is called in messages.
        setting: how the change was written, for messages.

    Raises:
        ParamsInvalid: there is no such key; the message says what there is.
    """
    node, keys = document, key.split(".")
    for depth, part in enumerate(keys):
        place = _place(node, part, ".".join([top, *keys[:depth]]), setting)
        if depth + 1 < len(keys):
            node = node[place]  # type: ignore[index]  # `_place` has looked
        else:
            node[place] = value  # type: ignore[index]


def _place(node: JsonValue, key: str, above: str, setting: str) -> str | int:
    """Where `key` is in a mapping, or in a list by number or by name."""
    if isinstance(node, MutableMapping):
        known = list(node)
        if key in node:
            return key
    elif isinstance(node, Sequence) and not isinstance(node, str):
        known = [str(place) for place in range(len(node))]
        if key in known:
            return int(key)
        names = [_name(entry) for entry in node]
        if names.count(key) == 1:
            return names.index(key)
        known += [str(name) for name in names if names.count(name) == 1]
    else:
        raise ParamsInvalid(f"--set {setting}: {above} is a value, there is no {key!r} in it")
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ParamsInvalid(f"--set {setting}: {above} has no {key!r}; it has {', '.join(known)}{hint}")


def _name(entry: JsonValue) -> JsonValue:
    if not isinstance(entry, MutableMapping):
        return ""
    return next((entry[name] for name in NAMED_BY if name in entry), "")
