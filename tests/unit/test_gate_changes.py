import json
from typing import Any

import pytest

from tasks.errors import ParamsInvalid
from tasks.gate_changes import changed
from tasks.params import load_params
from tests.contract.imports import ROOT

SECTION: Any = json.loads(load_params(ROOT / "params.yaml").gate.model_dump_json())


@pytest.mark.parametrize(
    "setting",
    ["rules.0.min_value=0.5", "gate.rules.0.min_value=0.5", "rules.ticket_routing.min_value=0.5"],
)
def test_a_rule_is_addressed_by_place_or_by_the_name_of_its_benchmark(setting: str) -> None:
    assert changed(SECTION, [setting]).rules[0].min_value == 0.5
    assert SECTION["rules"][0]["min_value"] == 0.33


def test_several_settings_and_kinds_of_values() -> None:
    found = changed(SECTION, ["tie=champion", "rules.0.min_value=null", "measured.pii_share.max=1", "confidence=0.9"])
    assert (found.tie, found.rules[0].min_value, found.measured[2].max, found.confidence) == ("champion", None, 1, 0.9)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("confidence", "--set confidence: expected KEY=VALUE, such as --set rules.0.min_value=0.5"),
        ("=1", "--set =1: expected KEY=VALUE"),
        ("confidense=0.9", r"--set confidense=0\.9: gate has no 'confidense'; it has rules, measured, tie, confidence"),
        ("rules.2.min_value=1", r"gate\.rules has no '2'; it has 0, 1, ticket_routing, general_knowledge"),
        ("rules.0.floor=1", r"gate\.rules\.0 has no 'floor'; it has benchmark, metric"),
        ("confidence.x=1", r"gate\.confidence is a value, there is no 'x' in it"),
        ("confidence=high", "--set confidence=high: confidence: Input should be a valid number"),
        ("confidence=NaN", "confidence: Input should be a valid number"),
        ("confidence=1.5", "confidence: Input should be less than 1"),
        ("rules.0.min_value=2", r"rules\.0: min_value 2 lies outside range, 0 to 1"),
        ("tie=nobody", "tie: Input should be 'candidate' or 'champion'"),
        ("rules=[]", "rules: List should have at least 1 item"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(setting: str, said: str) -> None:
    with pytest.raises(ParamsInvalid, match=said) as error:
        changed(SECTION, [setting])
    assert "\n" not in str(error.value)


def test_two_rules_of_one_benchmark_are_addressed_by_place_only() -> None:
    doubled = SECTION | {"rules": [*SECTION["rules"], SECTION["rules"][0]]}
    with pytest.raises(ParamsInvalid, match=r"gate\.rules has no 'ticket_routing'; it has 0, 1, 2, general_knowledge"):
        changed(doubled, ["rules.ticket_routing.min_value=0.5"])


def test_parameters_of_an_earlier_version_are_said_to_be_such() -> None:
    old = {key: value for key, value in SECTION.items() if key != "tie"}
    with pytest.raises(ParamsInvalid, match=r"the run's parameters are of another version of tunegate: tie: Field req"):
        changed(old, [])
