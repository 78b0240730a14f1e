import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import ftfy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.clean_batch import CleaningTools, clean_batch
from tasks.clean_changes import CONTROL, REPAIR, repaired
from tasks.records import Example, LedgerEntry, Message
from tests.unit.cleaning import tools_with
from tests.unit.rows import conversation, example

USER, ANSWER, SYSTEM, TOOL = ("user", "a question"), ("assistant", "yes"), ("system", "s"), ("tool", "t")
CALL = json.dumps([{"type": "function", "function": {"name": "track", "arguments": {"to": "ann@mail.org"}}}])


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> CleaningTools:
    return tools_with(tmp_path_factory.mktemp("tokenizer"))


def reason(row: Example, tools: CleaningTools) -> tuple[str, str] | None:
    cleaned = clean_batch([row], tools)
    dropped = [(entry.rule, entry.value) for entry in cleaned.entries if entry.fate == "dropped"]
    assert len(cleaned.kept) + len(dropped) == 1
    assert [(row.rule, row.value) for row in cleaned.quarantined] == dropped
    return dropped[0] if dropped else None


def change(prompt: str, tools: CleaningTools) -> tuple[str, list[tuple[str, str]]]:
    cleaned = clean_batch([example("a", prompt)], tools)
    return cleaned.kept[0].prompt, [(entry.rule, entry.value) for entry in cleaned.entries]


def calling(template_row: Example, calls: str = CALL, tools: str | None = None) -> Example:
    turns = (
        *template_row.messages[:-1],
        Message(role="assistant", content="", tool_calls=calls),
        Message(role="tool", content="on its way"),
        template_row.messages[-1],
    )
    return template_row.model_copy(update={"messages": turns, "tools": tools})


def test_a_good_row_stays_as_it_is_without_an_entry_but_with_its_tokens(tools: CleaningTools) -> None:
    cleaned = clean_batch([example("a")], tools)
    counted = example("a").model_copy(update={"tokens": 48})
    assert (cleaned.kept, cleaned.entries, cleaned.quarantined) == ([counted], [], [])


def test_every_row_that_stays_has_its_own_tokens_whatever_is_dropped_between(tools: CleaningTools) -> None:
    rows = [example("a"), example("b", "   "), example("c", "Where is my parcel now?")]
    assert [(row.id, row.tokens) for row in clean_batch(rows, tools).kept] == [("a", 48), ("c", 52)]


@pytest.mark.parametrize(
    ("prompt", "completion", "rule"),
    [
        ("   ", "yes", "empty_prompt"),
        ("a question", " \n", "empty_completion"),
        ("abcd", "yes", "prompt_too_short"),
        ("abcde", "yes", None),
        ("x" * 200, "yes", None),
        ("x" * 201, "yes", "prompt_too_long"),
        ("a question", "x" * 50, None),
        ("a question", "x" * 51, "completion_too_long"),
        ("the parcel never [...] ", "yes", "truncated"),
        ("the parcel never…", "yes", "truncated"),
        ("the parcel never [...]\nImpact: none", "yes", "truncated"),
        ("the parcel… never", "yes", None),
        ("a <|im_end|> question", "yes", "special_token"),
        ("a <pad> question", "yes", "special_token"),
        ("a ＜|im_end|＞ question", "yes", "special_token"),
        ("a <|im_\u200bend|> question", "yes", "special_token"),
        ("a &lt;|im_end|&gt; question", "yes", "special_token"),
        ("a question", "yes<|im_end|>", "special_token"),
        ("my token hf_" + "a1" * 17, "yes", "secret"),
        ("-----BEGIN RSA PRIVATE KEY-----", "yes", "secret"),
        ("a question", "hf_" + "a1" * 17, "secret"),
        ("a question", "ask ann@mail.org", "pii"),
    ],
)
def test_a_row_is_dropped_by_the_first_rule_it_breaks(
    prompt: str, completion: str, rule: str | None, tools: CleaningTools
) -> None:
    found = reason(example("a", prompt, completion), tools)
    assert (found[0] if found else None) == rule


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ((USER, ANSWER), None),
        ((SYSTEM, USER, ANSWER), None),
        ((USER, ANSWER, USER, ANSWER), None),
        ((USER, ANSWER, TOOL, ANSWER), None),
        ((USER,), ("missing_answer", "no assistant turn")),
        ((ANSWER,), ("missing_prompt", "no user turn")),
        ((SYSTEM,), ("missing_prompt", "no user turn")),
        ((SYSTEM, ANSWER), ("missing_prompt", "no user turn")),
        ((USER, USER, ANSWER), ("role_order", "user after user")),
        ((USER, SYSTEM, ANSWER), ("role_order", "system_not_first")),
        ((USER, ANSWER, USER), ("role_order", "ends with user")),
    ],
)
def test_turns_come_in_an_order_that_can_be_learned(
    turns: tuple[tuple[str, str], ...], expected: tuple[str, str] | None, tools: CleaningTools
) -> None:
    assert reason(conversation("a", *turns), tools) == expected


@pytest.mark.parametrize(
    ("changed", "row", "expected"),
    [
        ({"max_tokens": 28}, example("a", "hello", "ok"), None),
        ({"max_tokens": 27}, example("a", "hello", "ok"), ("too_many_tokens", "28 tokens")),
        ({"min_completion_chars": 4}, example("a", completion=" yes "), ("completion_too_short", "3 characters")),
        (
            {"refusal_phrases": ["i'm sorry, but i can't"]},
            example("a", completion="I’m sorry, but I can’t."),
            ("refusal", "i'm sorry, but i can't"),
        ),
        (
            {"boilerplate_phrases": ["all rights reserved"]},
            example("a", "All Rights Reserved?"),
            ("boilerplate", "all rights reserved"),
        ),
        (
            {"language": {"allowed": ["en"], "min_confidence": 0.5, "min_chars": 20}},
            example("a", "Wo bleibt mein Paket? Es wurde letzte Woche verschickt.", "Versand"),
            ("language", "de"),
        ),
        (
            {"pii": {"kinds": ["email"], "in_prompt": "drop", "in_completion": "mask"}},
            example("a", "Mail ann@mail.org and bob@mail.org"),
            ("pii", "email=2 in user turn"),
        ),
    ],
)
def test_a_rule_that_is_switched_on_names_its_value(
    changed: dict[str, Any], row: Example, expected: tuple[str, str] | None, tmp_path: Path
) -> None:
    found = reason(row, tools_with(tmp_path, **changed))
    assert found == expected or (found is not None and expected is not None and found[1].startswith(expected[1] + " "))


@pytest.mark.parametrize(
    ("changed", "row"),
    [
        ({"secrets": None}, example("a", "my token hf_" + "a1" * 17)),
        ({"pii": None}, example("a", "Mail ann@mail.org")),
        ({"repair_unicode": False}, example("a", "The cafÃ© is closed")),
        ({"remove_control_characters": False}, example("a", "Where\u200b is it?")),
        ({"normalization": None, "repair_unicode": False}, example("a", "The cafe\u0301 is closed")),
        ({"min_prompt_chars": None}, example("a", "Hm?")),
        ({"max_prompt_chars": None}, example("a", "Why? " * 99)),
        ({"min_completion_chars": None}, example("a", completion=".")),
        ({"max_completion_chars": None}, example("a", completion="So. " * 99)),
        ({"max_tokens": None}, example("a", "Why? " * 40)),
    ],
)
def test_a_rule_that_is_off_leaves_the_row(changed: dict[str, Any], row: Example, tmp_path: Path) -> None:
    cleaned = clean_batch([row], tools_with(tmp_path, **changed))
    assert ([kept.messages for kept in cleaned.kept], cleaned.entries) == ([row.messages], [])


@pytest.mark.parametrize(
    ("prompt", "changed", "entries"),
    [
        ("The cafÃ© is closed", "The café is closed", [("unicode_repaired", "turns=1")]),
        ("“Ｗhere” is it?", "“Ｗhere” is it?", []),
        ("Where\u200b is\u202e it?\x00", "Where is it?", [("control_removed", "U+0000=1 U+200B=1 U+202E=1")]),
        ("The cafe\u0301 is closed", "The café is closed", [("normalised", "turns=1")]),
        ("Write to ann@mail.org or bob@mail.org", "Write to [EMAIL] or [EMAIL]", [("pii_masked", "email=2")]),
    ],
)
def test_a_change_is_named_and_counted(
    prompt: str, changed: str, entries: list[tuple[str, str]], tools: CleaningTools
) -> None:
    assert change(prompt, tools) == (changed, entries)


def test_joiners_stay_where_a_script_or_an_emoji_needs_them(tools: CleaningTools) -> None:
    family = "our \U0001f468\u200d\U0001f469\u200d\U0001f467 and می\u200cخواهم"
    assert change(family, tools) == (family, [])


def test_answers_are_repaired_too(tools: CleaningTools) -> None:
    cleaned = clean_batch([example("a", completion="cafÃ©\u200b")], tools)
    assert cleaned.kept[0].completion == "café"
    assert [entry.rule for entry in cleaned.entries] == ["unicode_repaired", "control_removed"]


def test_special_tokens_of_a_prompt_are_escaped_and_of_an_answer_are_not(tmp_path: Path) -> None:
    escaping = tools_with(tmp_path, special_tokens={"action": "escape", "extra": ["[INST]"]})
    assert change("[INST] and ＜|im_end|＞", escaping) == (
        "[ INST] and < |im_end|>",
        [("special_token_escaped", "tokens=2")],
    )
    assert reason(example("a", completion="[INST]"), escaping) == ("special_token", "[INST] in assistant turn")


def test_folding_makes_nothing_that_slips_past_a_check(tmp_path: Path) -> None:
    folding = tools_with(tmp_path, normalization="NFKC")
    assert change("Write to ann＠mail.org", folding)[0] == "Write to [EMAIL]"
    assert reason(example("a", "a ＜|im_end|＞ question"), folding) == ("special_token", "<|im_end|> in user turn")


def test_normalisation_makes_no_control_character() -> None:
    signs = (chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF)
    made = [sign for sign in signs if not CONTROL.search(sign) and CONTROL.search(unicodedata.normalize("NFKC", sign))]
    assert made == []


def test_secrets_are_masked_where_that_is_wanted(tmp_path: Path) -> None:
    masking = tools_with(tmp_path, secrets="mask")
    assert change("my token hf_" + "a1" * 17, masking) == (
        "my token [SECRET]",
        [("secret_masked", "Hugging_Face_Token=1")],
    )


def test_a_call_without_words_is_an_answer_and_its_strings_are_looked_at(tmp_path: Path) -> None:
    row = calling(example("a"), CALL.replace("ann@mail.org", "the door"))
    assert reason(row, tools_with(tmp_path, max_completion_chars=200)) is None
    assert reason(calling(example("a")), tools_with(tmp_path, max_completion_chars=200)) == (
        "pii",
        "email=1 in tool call of assistant turn",
    )
    marked = calling(example("a"), CALL.replace("ann@mail.org", "\\u003c|im_end|>"))
    assert reason(marked, tools_with(tmp_path, max_completion_chars=200)) == (
        "special_token",
        "<|im_end|> in tool call of assistant turn",
    )


def test_personal_data_in_a_call_is_masked_within_its_strings(tmp_path: Path) -> None:
    pii = {"kinds": ["email"], "in_prompt": "mask", "in_completion": "mask"}
    cleaned = clean_batch([calling(example("a"))], tools_with(tmp_path, max_completion_chars=200, pii=pii))
    assert json.loads(cleaned.kept[0].messages[1].tool_calls or "")[0]["function"]["arguments"] == {"to": "[EMAIL]"}


@pytest.mark.parametrize(
    ("template", "lost"),
    [
        ("{% for m in messages %}{{ m.role }} {{ m.content }}{% endfor %}", "tool call track of turn 2"),
        ("{{ messages[-1].content }}{{ messages[1].tool_calls }}", "content of turn 1 (user)"),
        ("{{ raise_exception('no tools') }}", "the template failed: TemplateError: no tools"),
        ("{% for m in messages %}{{ m.content }}{{ m.tool_calls }}{% endfor %}", "tool weather"),
        ("{{ tools }}{% for m in messages %}{{ m.content }}{{ m.tool_calls }}{% endfor %}", None),
        ("{{ tools }}{% for m in messages %}{{ m.content | tojson }}{{ m.tool_calls }}{% endfor %}", None),
    ],
)
def test_what_the_template_loses_is_named(template: str, lost: str | None, tmp_path: Path) -> None:
    weather = json.dumps([{"type": "function", "function": {"name": "weather"}}])
    row = calling(example("a", "Where\nis it?"), CALL.replace("ann@mail.org", "x"), tools=weather)
    found = reason(row, tools_with(tmp_path, template, max_completion_chars=200))
    assert found == (("not_rendered", lost) if lost else None)


def test_the_ledger_never_repeats_a_secret_and_the_quarantine_keeps_the_row(tools: CleaningTools) -> None:
    secret = "hf_" + "a1" * 17
    cleaned = clean_batch([example("a", f"ann@mail.org sent {secret}")], tools)
    assert all(secret not in entry.value and "ann@" not in entry.value for entry in cleaned.entries)
    assert cleaned.entries[-1] == LedgerEntry(
        id="a",
        source="tickets",
        file="tickets.jsonl",
        line=1,
        stage="clean",
        fate="dropped",
        rule="secret",
        value="Hugging Face Token in user turn",
    )
    assert json.loads(cleaned.quarantined[0].text)["messages"][0]["content"] == f"ann@mail.org sent {secret}"


@given(st.text(st.sampled_from("aé&;<>lt#60Ã©â€™ \r\n\x1b[0m'\"ﬁ") | st.characters(exclude_categories=["Cs"])))
def test_skipping_what_needs_no_repair_changes_nothing(text: str) -> None:
    assert repaired(text)[0] == ftfy.fix_text(text, REPAIR)
