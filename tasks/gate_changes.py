"""Other thresholds for a verdict that is recomputed: `KEY=VALUE` into the section `gate` of the parameters."""

import copy
import json
from collections.abc import Sequence

from pydantic import JsonValue, ValidationError

from tasks.errors import ParamsInvalid
from tasks.params_changes import assign
from tasks.params_gate import GateParams


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
        assign(mutable, key.strip().removeprefix("gate."), _parsed(value), top="gate", setting=setting)
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
