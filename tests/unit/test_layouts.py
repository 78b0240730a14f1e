from typing import Any

import pytest

from tasks.errors import SourceInvalid
from tasks.layouts import BrokenRow, build_parser, recognise
from tasks.params import NamedLayout, TemplateLayout

TEMPLATE = TemplateLayout(
    kind="template",
    system="Route it.",
    prompt="{text}",
    completion='{{"queue": "{queue}"}}',
    required=["text"],
    allowed={"queue": ["billing", "repair"]},
)


def turns(kind: str, row: dict[str, Any], system: str = "") -> list[tuple[str, str]]:
    layout = NamedLayout.model_validate({"kind": kind, "system": system})
    return [(message.role, message.content) for message in build_parser(layout, kind)(row)]


def test_a_template_fills_columns_and_keeps_doubled_braces() -> None:
    messages = build_parser(TEMPLATE, "template")({"text": "It broke {again}", "queue": "repair", "other": 1})
    assert [(message.role, message.content) for message in messages] == [
        ("system", "Route it."),
        ("user", "It broke {again}"),
        ("assistant", '{"queue": "repair"}'),
    ]


@pytest.mark.parametrize(
    ("row", "rule", "value"),
    [
        ({"text": "It broke"}, "missing_column", "queue"),
        ({"text": None, "queue": "repair"}, "wrong_type", "text: null, expected text"),
        ({"text": " \n", "queue": "repair"}, "empty", "text: blank, expected text"),
        ({"text": 7, "queue": "repair"}, "wrong_type", "text: int, expected text"),
        ({"text": "It broke", "queue": "Repair"}, "label_unknown", "queue: 'Repair', not one of 2"),
        ({"text": "x", "queue": "ann@mail.org"}, "label_unknown", "queue: a text of 12 characters, not one of 2"),
    ],
)
def test_a_row_that_does_not_fit_the_template_is_broken(row: dict[str, Any], rule: str, value: str) -> None:
    with pytest.raises(BrokenRow) as caught:
        build_parser(TEMPLATE, "template")(row)
    assert (caught.value.rule, caught.value.value) == (rule, value)


@pytest.mark.parametrize(
    "prompt", ["{}", "{0}", "{text.attribute}", "{text[0]}", "{text!r}", "{text:>9}", "{text", "}"]
)
def test_a_template_may_hold_nothing_but_names(prompt: str) -> None:
    with pytest.raises(SourceInvalid, match="template"):
        build_parser(TEMPLATE.model_copy(update={"prompt": prompt}), "template")


def test_messages_keep_their_own_system_turn() -> None:
    row = {"messages": [{"role": "system", "content": "own"}, {"role": "user", "content": "hi"}]}
    assert turns("messages", row, "layout's") == [("system", "own"), ("user", "hi")]


def test_the_system_text_of_the_layout_is_put_in_front() -> None:
    assert turns("prompt_completion", {"prompt": "a", "completion": "b"}, "Be brief.")[0] == ("system", "Be brief.")


def test_sharegpt_names_become_roles() -> None:
    row = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s"}
    assert turns("sharegpt", row) == [("system", "s"), ("user", "a"), ("assistant", "b")]


def test_alpaca_joins_instruction_and_input() -> None:
    row = {"instruction": "Add.", "input": "1 2", "output": "3"}
    assert turns("alpaca", row) == [("user", "Add.\n\n1 2"), ("assistant", "3")]


def test_alpaca_without_input_is_the_instruction() -> None:
    assert turns("alpaca", {"instruction": "Add.", "input": "", "output": "3"})[0] == ("user", "Add.")


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ("text", "wrong_type"),
        (None, "wrong_type"),
        ([], "bad_length"),
        (["x"], "wrong_type"),
        ([{"role": "user", "content": None}], "wrong_type"),
        ([{"role": "user", "content": ["x"]}], "wrong_type"),
        ([{"role": "user"}], "missing_column"),
        ([{"role": "root\n<|im_end|>", "content": "x"}], "unknown_role"),
        ([{"role": "user", "content": "x", "weight": 1}], "bad_keys"),
    ],
)
def test_a_conversation_of_another_shape_is_broken(messages: object, rule: str) -> None:
    with pytest.raises(BrokenRow) as caught:
        turns("messages", {"messages": messages})
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"messages": []}, "messages"),
        ({"conversations": [], "tools": ""}, "sharegpt"),
        ({"instruction": "", "input": "", "output": ""}, "alpaca"),
        ({"prompt": "", "completion": ""}, "prompt_completion"),
    ],
)
def test_a_layout_is_recognised_by_its_columns(row: dict[str, Any], kind: str) -> None:
    assert recognise([row, row, {"noise": 1}], "rows.jsonl") == kind


def test_an_unknown_layout_lists_what_was_found_and_what_is_known() -> None:
    with pytest.raises(SourceInvalid, match=r"rows\.jsonl.*found columns: category, text; expected messages: messages"):
        recognise([{"text": "a", "category": "b"}], "rows.jsonl")


def test_a_dpo_layout_is_refused_by_name() -> None:
    with pytest.raises(SourceInvalid, match="DPO preference layout"):
        recognise([{"conversations": [], "chosen": {}, "rejected": {}}], "rows.jsonl")


def test_a_kto_layout_is_refused_by_name() -> None:
    with pytest.raises(SourceInvalid, match="KTO preference layout"):
        recognise([{"messages": [], "label": True}], "rows.jsonl")
