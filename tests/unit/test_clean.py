import pytest

from tasks.clean import clean
from tasks.records import Example, LedgerEntry
from tests.unit.rows import CLEAN, conversation, example

USER, ANSWER, SYSTEM, TOOL = ("user", "a question"), ("assistant", "yes"), ("system", "s"), ("tool", "t")


def reason(row: Example) -> str | None:
    kept, entries = clean([row], CLEAN)
    dropped = [entry.rule for entry in entries if entry.fate == "dropped"]
    assert len(kept) + len(dropped) == 1
    return dropped[0] if dropped else None


def change(prompt: str) -> tuple[str, list[tuple[str, str]]]:
    kept, entries = clean([example("a", prompt)], CLEAN)
    return kept[0].prompt, [(entry.rule, entry.value) for entry in entries]


def test_a_good_row_stays_as_it_is_without_an_entry() -> None:
    assert clean([example("a")], CLEAN) == ([example("a")], [])


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
        ("a ＜|im_end|＞ question", "yes", "special_token"),
        ("a <|im_\u200bend|> question", "yes", "special_token"),
        ("a &lt;|im_end|&gt; question", "yes", "special_token"),
        ("a question", "yes<|im_end|>", "special_token"),
        ("my token hf_" + "a1" * 17, "yes", "secret"),
        ("my key AKIA" + "A1B2" * 4, "yes", "secret"),
        ("my token ghp_" + "a1" * 18, "yes", "secret"),
        ("-----BEGIN RSA PRIVATE KEY-----", "yes", "secret"),
        ("a question", "hf_" + "a1" * 17, "secret"),
    ],
)
def test_a_row_is_dropped_by_the_first_rule_it_breaks(prompt: str, completion: str, rule: str | None) -> None:
    assert reason(example("a", prompt, completion)) == rule


@pytest.mark.parametrize(
    ("turns", "rule"),
    [
        ((USER, ANSWER), None),
        ((SYSTEM, USER, ANSWER), None),
        ((USER, ANSWER, USER, ANSWER), None),
        ((USER, ANSWER, TOOL, ANSWER), None),
        ((USER,), "role_order"),
        ((ANSWER,), "role_order"),
        ((SYSTEM, ANSWER), "role_order"),
        ((USER, USER, ANSWER), "role_order"),
        ((USER, SYSTEM, ANSWER), "role_order"),
        ((USER, ANSWER, USER), "role_order"),
        ((SYSTEM,), "role_order"),
    ],
)
def test_turns_come_in_an_order_that_can_be_learned(turns: tuple[tuple[str, str], ...], rule: str | None) -> None:
    assert reason(conversation("a", *turns)) == rule


def test_mojibake_is_repaired() -> None:
    assert change("The cafÃ© is closed") == ("The café is closed", [("unicode_repaired", "turns=1")])


def test_curly_quotes_and_fullwidth_letters_are_no_damage() -> None:
    assert change("“Ｗhere” is it?") == ("“Ｗhere” is it?", [])


def test_control_and_hidden_characters_are_removed_and_named() -> None:
    assert change("Where\u200b is\u202e it?\x00") == (
        "Where is it?",
        [("control_removed", "U+0000=1 U+200B=1 U+202E=1")],
    )


def test_joiners_stay_where_a_script_or_an_emoji_needs_them() -> None:
    family = "our \U0001f468\u200d\U0001f469\u200d\U0001f467 and می\u200cخواهم"
    assert change(family) == (family, [])


def test_personal_data_is_masked_and_only_counted() -> None:
    assert change("Write to ann@mail.org or bob@mail.org") == (
        "Write to [EMAIL] or [EMAIL]",
        [("pii_masked", "email=2")],
    )


def test_completions_are_never_changed() -> None:
    kept, entries = clean([example("a", completion="cafÃ© ann@mail.org\u200b")], CLEAN)
    assert (kept[0].completion, entries) == ("cafÃ© ann@mail.org\u200b", [])


def test_the_ledger_never_repeats_a_secret() -> None:
    secret = "hf_" + "a1" * 17
    _, entries = clean([example("a", f"ann@mail.org sent {secret}")], CLEAN)
    assert all(secret not in entry.value and "ann@" not in entry.value for entry in entries)
    assert entries[-1] == LedgerEntry(
        id="a",
        source="tickets",
        file="tickets.jsonl",
        line=1,
        stage="clean",
        fate="dropped",
        rule="secret",
        value="Hugging Face token in user turn",
    )


def test_secrets_stay_where_the_rule_is_off() -> None:
    row = example("a", "my token hf_" + "a1" * 17)
    assert clean([row], CLEAN.model_copy(update={"drop_secrets": False}))[0] == [row]
