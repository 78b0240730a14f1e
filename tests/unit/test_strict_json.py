import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.strict_json import Broken, parse_row, parse_value


def test_the_place_of_a_problem_is_said_once() -> None:
    assert parse_row('{"a": "x') == Broken("json_syntax", "Unterminated string starting at column 7")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("not json", "json_syntax"),
        ('{"a": 1} x', "json_syntax"),
        ("{'a': 1}", "json_syntax"),
        ('{"a": 1', "json_syntax"),
        ("[1]", "not_an_object"),
        ("7", "not_an_object"),
        ('{"a": 1, "a": 2}', "json_duplicate_key"),
        ('{"a": {"b": 1, "b": 2}}', "json_duplicate_key"),
        ('{"a": NaN}', "json_non_finite"),
        ('{"a": -Infinity}', "json_non_finite"),
        ('{"a": 1e400}', "json_non_finite"),
        ('{"a": ' + "9" * 5000 + "}", "json_value"),
        ('{"a": ' + "[" * 20 + "]" * 20 + "}", "json_too_deep"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "json_too_deep"),
        (r'{"a": "\ud800"}', "lone_surrogate"),
        (r'{"\ud800": 1}', "lone_surrogate"),
    ],
)
def test_a_row_that_python_would_let_through_has_a_rule(text: str, rule: str) -> None:
    row = parse_row(text)
    assert isinstance(row, Broken)
    assert row.rule == rule


def test_nesting_of_twenty_levels_is_read() -> None:
    assert parse_row('{"a": ' + "[" * 19 + "]" * 19 + "}") == {"a": json.loads("[" * 19 + "]" * 19)}


def test_brackets_in_a_text_do_not_count_as_depth() -> None:
    assert parse_row('{"a": "' + "[" * 50 + r" \" {" + '"}') == {"a": "[" * 50 + ' " {'}


@given(st.dictionaries(st.text(), st.text() | st.integers(-(10**9), 10**9) | st.none() | st.booleans()))
def test_every_plain_object_is_read_as_it_was_written(row: dict[str, object]) -> None:
    assert parse_row(json.dumps(row)) == row


@given(st.text())
def test_no_text_is_an_uncaught_exception(text: str) -> None:
    assert isinstance(parse_row(text), dict | Broken)


@pytest.mark.parametrize(("text", "value"), [("[1, 2]", [1, 2]), ('"a"', "a"), ("null", None)])
def test_a_value_of_any_kind_is_read(text: str, value: object) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("[NaN]", "json_non_finite"),
        ("[", "json_syntax"),
        (r'["\ud800"]', "lone_surrogate"),
        ("[" * 30, "json_too_deep"),
    ],
)
def test_a_broken_value_has_a_rule(text: str, rule: str) -> None:
    value = parse_value(text)
    assert isinstance(value, Broken)
    assert value.rule == rule


def test_a_broken_row_leaves_nothing_behind_for_the_next() -> None:
    assert isinstance(parse_row('{"a": NaN}'), Broken)
    assert parse_row('{"a": 1}') == {"a": 1}
