from typing import Any

import pytest

from tasks.errors import SourceInvalid
from tasks.layouts import build_parser, layout_of, recognise
from tasks.params_data import NamedLayout, TemplateLayout
from tasks.tool_calls import BrokenRow

TEMPLATE = TemplateLayout(
    kind="template",
    system="Route it.",
    prompt="{text}",
    completion='{{"queue": "{queue}"}}',
    required=["text"],
    allowed={"queue": ["billing", "repair"]},
)


def layout(kind: str, system: str = "", tools: str = "native") -> NamedLayout:
    return NamedLayout.model_validate({"kind": kind, "system": system, "tools": tools})


def turns(kind: str, row: dict[str, Any], system: str = "") -> list[tuple[str, str]]:
    messages = build_parser(layout(kind, system), kind)(row).messages
    return [(message.role, message.content) for message in messages]


def rule_of(kind: str, row: dict[str, Any]) -> str:
    with pytest.raises(BrokenRow) as caught:
        build_parser(layout(kind), kind)(row)
    return caught.value.rule


def chat(*turns: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(turns)}


def test_a_template_fills_columns_and_keeps_doubled_braces() -> None:
    found = build_parser(TEMPLATE, "template")({"text": "It broke {again}", "queue": "repair", "other": 1})
    assert [(message.role, message.content) for message in found.messages] == [
        ("system", "Route it."),
        ("user", "It broke {again}"),
        ("assistant", '{"queue": "repair"}'),
    ]
    assert found.unread == {"other"}


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
        ({"prompt": "", "response": ""}, "prompt_completion"),
        ({"question": "", "answer": ""}, "prompt_completion"),
        ({"input": "", "output": ""}, "prompt_completion"),
        ({"prompt": "", "prompt_id": "", "messages": []}, "messages"),
    ],
)
def test_a_layout_is_recognised_by_its_columns(row: dict[str, Any], kind: str) -> None:
    assert recognise([row, row, {"noise": 1}], "rows.jsonl") == kind


def test_an_unknown_layout_lists_what_was_found_and_what_is_known() -> None:
    with pytest.raises(SourceInvalid, match=r"rows\.jsonl.*found columns: text, category; expected messages: messages"):
        recognise([{"text": "a", "category": "b"}], "rows.jsonl")


def test_a_dpo_layout_is_refused_by_name() -> None:
    with pytest.raises(SourceInvalid, match="DPO preference layout"):
        recognise([{"conversations": [], "chosen": {}, "rejected": {}}], "rows.jsonl")


def test_a_kto_layout_is_refused_by_name() -> None:
    with pytest.raises(SourceInvalid, match="KTO preference layout"):
        recognise([{"messages": [], "label": True}], "rows.jsonl")


def test_text_and_label_columns_get_a_template_to_paste() -> None:
    rows = [{"text": "Where is my card?", "category": "card"}, {"text": "How do I pay?", "category": "card"}]
    with pytest.raises(SourceInvalid) as caught:
        recognise(rows, "rows.csv")
    assert str(caught.value).endswith(
        """make a conversation of your columns with a template, such as
      layout:
        kind: template
        system: ""
        prompt: "{text}"
        completion: "{category}"
        required: [text, category]
        allowed: {}"""
    )


def test_columns_without_two_texts_get_no_template_to_paste() -> None:
    with pytest.raises(SourceInvalid, match=r"or set `layout\.kind: template`"):
        recognise([{"text": "a", "label": 1}], "rows.csv")


def test_a_row_of_another_layout_is_broken_where_the_layout_is_recognised() -> None:
    parse = build_parser(layout("auto"), "prompt_completion")
    with pytest.raises(BrokenRow) as caught:
        parse({"messages": [], "prompt": "a", "completion": "b"})
    assert caught.value.rule == "other_layout"
    assert caught.value.value == "found messages, expected prompt_completion as in the first rows"


def test_a_row_of_another_layout_is_read_where_the_layout_is_given() -> None:
    assert turns("prompt_completion", {"prompt": "a", "completion": "b", "instruction": ""})[0] == ("user", "a")


@pytest.mark.parametrize("row", [{"chosen": {}, "rejected": {}}, {"messages": [], "kto_tag": False}])
def test_one_preference_row_among_others_is_known_as_such(row: dict[str, Any]) -> None:
    assert layout_of(row) in ("dpo", "kto")


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("alpaca", {"instruction": "a", "output": "b", "tools": "[...]"}),
        ("alpaca", {"instruction": "a", "output": "b", "images": ["x.png"]}),
        ("prompt_completion", {"question": "a", "answer": "b", "context": "c"}),
        ("messages", {"messages": [{"role": "user", "content": "a"}], "functions": ["f"]}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "a"}], "chosen": "x"}),
    ],
)
def test_a_column_that_holds_a_part_of_the_conversation_is_never_left_out(kind: str, row: dict[str, Any]) -> None:
    assert rule_of(kind, row) == "unknown_field"


def test_other_columns_are_told_as_not_read() -> None:
    row = {"question": "a", "answer": "b", "id": 7, "context": ""}
    assert build_parser(layout("auto"), "prompt_completion")(row).unread == {"id", "context"}


def test_alpaca_history_becomes_earlier_turns() -> None:
    row = {"instruction": "And now?", "output": "Rain.", "history": [["Hi.", "Hello."]], "system": "Be brief."}
    assert turns("alpaca", row) == [
        ("system", "Be brief."),
        ("user", "Hi."),
        ("assistant", "Hello."),
        ("user", "And now?"),
        ("assistant", "Rain."),
    ]


@pytest.mark.parametrize("history", ["text", [["one"]], [["a", 1]], [{"a": "b"}]])
def test_a_history_of_another_shape_is_broken(history: object) -> None:
    assert rule_of("alpaca", {"instruction": "a", "output": "b", "history": history}) == "wrong_type"


def test_prompt_and_completion_may_be_lists_of_turns() -> None:
    row = {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}
    assert turns("prompt_completion", row) == [("user", "a"), ("assistant", "b")]


def test_a_row_without_any_pair_says_which_column_it_lacks() -> None:
    with pytest.raises(BrokenRow) as caught:
        build_parser(layout("prompt_completion"), "prompt_completion")({"question": "a"})
    assert (caught.value.rule, caught.value.value) == ("missing_column", "answer")


def test_a_system_column_beside_a_system_turn_is_broken() -> None:
    row = {"conversations": [{"from": "system", "value": "a"}, {"from": "human", "value": "b"}], "system": "c"}
    assert rule_of("sharegpt", row) == "bad_keys"


def test_sharegpt_calls_and_observations_survive() -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "How far is it?"},
            {"from": "function_call", "value": '{"name": "distance", "arguments": {"to": "Köln"}}'},
            {"from": "observation", "value": '{"km": 12}'},
            {"from": "gpt", "value": "12 km."},
        ],
        "tools": '[{"name": "distance", "parameters": {"type": "object"}}]',
    }
    found = build_parser(layout("auto"), "sharegpt")(row)
    assert [message.role for message in found.messages] == ["user", "assistant", "tool", "assistant"]
    assert found.messages[1].content == ""
    assert found.messages[1].tool_calls == (
        '[{"type": "function", "function": {"name": "distance", "arguments": {"to": "Köln"}}}]'
    )
    assert found.tools == '[{"type": "function", "function": {"name": "distance", "parameters": {"type": "object"}}}]'


@pytest.mark.parametrize("value", ["no json", "[]", "7", '{"arguments": {}}', '{"name": "f", "arguments": [1]}', None])
def test_a_malformed_call_is_broken(value: object) -> None:
    assert rule_of("sharegpt", {"conversations": [{"from": "function_call", "value": value}]}) == "bad_tool_call"


@pytest.mark.parametrize("tools", ["no json", "7", "[7]", '[{"description": "x"}]', '[{"name": " "}]'])
def test_malformed_tools_are_broken(tools: str) -> None:
    assert rule_of("sharegpt", {"conversations": [{"from": "human", "value": "a"}], "tools": tools}) == "bad_tools"


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
ASKS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
ANSWERS = {"role": "tool", "tool_call_id": "c1", "content": "2"}


def test_openai_calls_are_taken_and_their_answers_get_the_name_of_the_function() -> None:
    asks, answers = build_parser(layout("auto"), "messages")(chat(ASKS, ANSWERS)).messages
    assert (asks.content, asks.tool_calls) == (
        "",
        '[{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]',
    )
    assert (answers.role, answers.content, answers.name) == ("tool", "2", "f")


@pytest.mark.parametrize(
    ("turns", "rule"),
    [
        ((ANSWERS,), "bad_tool_call_id"),
        ((ASKS, ANSWERS, ANSWERS), "bad_tool_call_id"),
        (({**ASKS, "tool_calls": [CALL, {**CALL, "id": "c2"}]}, {**ANSWERS, "tool_call_id": "c2"}), "bad_tool_call_id"),
        (({**ASKS, "role": "user"},), "bad_keys"),
        (({**ASKS, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}]},), "bad_tool_call"),
        (({**ASKS, "tool_calls": [{**CALL, "function": {"name": "f", "code": "x"}}]},), "bad_tool_call"),
        (({"role": "user", "content": "a", "name": 7},), "wrong_type"),
        (({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},), "not_text"),
    ],
)
def test_a_turn_that_would_lose_something_is_broken(turns: tuple[dict[str, Any], ...], rule: str) -> None:
    assert rule_of("messages", chat(*turns)) == rule


def test_content_in_text_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert turns("messages", chat({"role": "user", "content": parts})) == [("user", "one two")]


def test_keys_that_are_null_are_no_keys() -> None:
    turn = {"role": "user", "content": "a", "tool_calls": None, "weight": None}
    assert turns("messages", chat(turn)) == [("user", "a")]


def test_tools_as_text_stand_in_the_system_turn_and_in_the_content() -> None:
    row = {**chat({"role": "system", "content": "Be brief."}, ASKS, ANSWERS), "tools": [{"name": "f"}]}
    found = build_parser(layout("auto", tools="text"), "messages")(row)
    system, asks, answers = found.messages
    assert found.tools is None
    assert system.content.startswith("Be brief.\n\nYou may call one or more of these functions")
    assert '<tools>\n{"name": "f"}\n</tools>' in system.content
    assert (asks.content, asks.tool_calls) == ('<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>', None)
    assert (answers.content, answers.name) == ('{"name": "f", "content": "2"}', None)


def test_tools_as_text_change_nothing_in_a_conversation_without_tools() -> None:
    row = chat({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
    native, text = (build_parser(layout("auto", tools=tools), "messages")(row) for tools in ("native", "text"))
    assert native == text
