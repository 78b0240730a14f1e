"""Other thresholds for a verdict that is recomputed: `KEY=VALUE` into the section `gate` of the parameters."""

import copy
import json
from collections.abc import Sequence

from pydantic import JsonValue, ValidationError

from tasks.errors import ParamsInvalid
from tasks.params_gate import GateParams

NAMED_BY = ("benchmark", "figure")
"""What the entries of a list are called by, besides their place."""


def changed(section: JsonValue, settings: Sequence[str]) -> GateParams:
    """The parsed section with every setting applied.

    Args:
        section: the section `gate` as a run's record has it.
        settings: such as `confidence=0.9`, `rules.ticket_routing.min_value=0.5`, `rules.0.min_value=null`.

    Raises:
        ParamsInvalid: a key is unknown, a value does not parse or does not fit, or the section is of another version.
    """
    mutable = copy.deepcopy(section)
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign or not key.strip():
            raise ParamsInvalid(f"--set {setting}: expected KEY=VALUE, such as --set rules.0.min_value=0.5")
        _assign(mutable, key.strip().removeprefix("gate.").split("."), _parsed(value), setting)
    try:
        return GateParams.model_validate(mutable)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, issue['loc'])) or 'gate'}: {issue['msg']}" for issue in error.errors()]
        where = f"--set {' '.join(settings)}" if settings else "the run's parameters are of another version of tunegate"
        raise ParamsInvalid(f"{where}: " + "; ".join(problems).replace("Value error, ", "")) from None


def _parsed(text: str) -> JsonValue:
    """A number, true, false, null or a list as JSON has them; anything else is text."""
    try:
        value: JsonValue = json.loads(text, parse_constant=lambda name: name)
    except ValueError:
        return text
    return value


def _assign(section: JsonValue, keys: list[str], value: JsonValue, setting: str) -> None:
    node = section
    for depth, key in enumerate(keys):
        place = _place(node, key, ".".join(keys[:depth]), setting)
        if depth + 1 < len(keys):
            node = node[place]  # type: ignore[index]  # `_place` has looked
        else:
            node[place] = value  # type: ignore[index]


def _place(node: JsonValue, key: str, above: str, setting: str) -> str | int:
    """Where `key` is in a mapping, or in a list by number or by name."""
    if isinstance(node, dict):
        known = list(node)
        if key in node:
            return key
    elif isinstance(node, list):
        known = [str(place) for place in range(len(node))]
        if key in known:
            return int(key)
        names = [next((entry[name] for name in NAMED_BY if name in entry), "") for entry in map(_mapping, node)]
        if names.count(key) == 1:
            return names.index(key)
        known += [str(name) for name in names if names.count(name) == 1]
    else:
        raise ParamsInvalid(f"--set {setting}: gate.{above} is a value, there is no {key!r} in it")
    raise ParamsInvalid(
        f"--set {setting}: gate{'.' + above if above else ''} has no {key!r}; it has {', '.join(known)}"
    )


def _mapping(entry: JsonValue) -> dict[str, JsonValue]:
    return entry if isinstance(entry, dict) else {}
