"""The changes of cleaning, in an order in which nothing that a later one makes slips past an earlier one.

First the encoding is repaired, which may write control characters; these go; then the text is normalised, which may
write the signs of addresses and marks; then secrets and personal data are masked and special tokens escaped. The drop
rules look at what comes out.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator

import ftfy

from tasks import credentials
from tasks.clean_tools import CleaningTools
from tasks.records import Example, LedgerEntry, Message
from tasks.summaries import ledger_entry

Change = Callable[[str], tuple[str, Counter[str]]]
"""From a text to the changed text, and what was changed in it, by kind."""

EVERY = frozenset({"system", "user", "assistant", "tool"})
REPAIR = ftfy.TextFixerConfig(
    uncurl_quotes=False,  # a writer's quotes are no damage
    fix_latin_ligatures=False,
    fix_character_width=False,  # fullwidth letters stay: folding them could make a special token
    fix_line_breaks=False,
    remove_control_chars=False,  # a rule of our own, so that it has its own entry in the ledger
    remove_terminal_escapes=False,  # likewise
    fix_surrogates=False,  # ingest lets none in
    normalization=None,  # a rule of our own
)
DAMAGED = re.compile("[^\x00-\x7f]|&[A-Za-z#][A-Za-z0-9]*;")
"""What ftfy could repair: it changes nothing in plain ASCII but HTML entities."""
CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # C0 without tab and line ends, C1
    "|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # bidirectional marks
    "|[\u00ad\u180e\u200b\u2060-\u2064\ufeff]"  # zero width
    "|[\u200c\u200d](?![^\x00-\x7f])|(?<![^\x00-\x7f])[\u200c\u200d]"  # joiners, outside scripts that need them
    "|[\U000e0000-\U000e007f]"  # tags: text that no reader sees
    "|[\ufdd0-\ufdef\ufffe\uffff]"  # noncharacters
)
ASCII_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
NOTHING: Counter[str] = Counter()


def apply_changes(example: Example, tools: CleaningTools) -> tuple[Example, list[LedgerEntry]]:
    """The example after every change rule, with one entry for each rule that changed something."""
    entries: list[LedgerEntry] = []
    for rule, change, roles in changes(tools):
        messages, counts = _change_turns(example.messages, change, roles)
        if counts:
            value = " ".join(f"{kind}={count}" for kind, count in sorted(counts.items()))
            entries.append(ledger_entry(example, "clean", "changed", rule, value))
            example = example.model_copy(update={"messages": messages})
    return example, entries


def changes(tools: CleaningTools) -> Iterator[tuple[str, Change, frozenset[str]]]:
    """The change rules that are on, in order: name, change, and the roles whose turns it changes."""
    params = tools.params
    if params.repair_unicode:
        yield "unicode_repaired", repaired, EVERY
    if params.remove_control_characters:
        yield "control_removed", without_control, EVERY
    if form := params.normalization:
        yield "normalised", lambda text: normalised(text, form), EVERY
    if params.secrets == "mask":
        yield "secret_masked", without_secrets, EVERY
    if params.pii and tools.pii:
        recogniser = tools.pii
        masked = {"assistant": params.pii.in_completion, **dict.fromkeys(EVERY - {"assistant"}, params.pii.in_prompt)}
        yield "pii_masked", recogniser.mask, frozenset(role for role, action in masked.items() if action == "mask")
    if params.special_tokens.action == "escape":
        yield "special_token_escaped", lambda text: _escaped(text, tools), EVERY - {"assistant"}


def repaired(text: str) -> tuple[str, Counter[str]]:
    """`text` with broken encodings and HTML entities repaired by ftfy, counted as one turn."""
    if not DAMAGED.search(text):
        return text, NOTHING
    fixed = ftfy.fix_text(text, REPAIR)
    return fixed, Counter(turns=1) if fixed != text else NOTHING


def without_control(text: str) -> tuple[str, Counter[str]]:
    """`text` without control, bidirectional, zero-width and tag characters, counted by code point."""
    if not (ASCII_CONTROL if text.isascii() else CONTROL).search(text):
        return text, NOTHING
    found = Counter(f"U+{ord(sign):04X}" for sign in CONTROL.findall(text))
    while CONTROL.search(text):  # a joiner that stood beside one may stand alone now
        text = CONTROL.sub("", text)
    return text, found


def normalised(text: str, form: str) -> tuple[str, Counter[str]]:
    """`text` in a Unicode normalisation form, counted as one turn."""
    if text.isascii():
        return text, NOTHING
    folded = unicodedata.normalize(form, text)  # type: ignore[arg-type]
    return folded, Counter(turns=1) if folded != text else NOTHING


def without_secrets(text: str) -> tuple[str, Counter[str]]:
    """`text` with credentials masked, counted by kind."""
    masked, kinds = credentials.mask(text)
    return masked, Counter(kind.replace(" ", "_") for kind in kinds)


def _escaped(text: str, tools: CleaningTools) -> tuple[str, Counter[str]]:
    escaped, count = tools.special_tokens.escape(text)
    return escaped, Counter(tokens=count) if count else NOTHING


def _change_turns(
    messages: tuple[Message, ...], change: Change, roles: frozenset[str]
) -> tuple[tuple[Message, ...], Counter[str]]:
    counts: Counter[str] = Counter()
    changed = []
    for message in messages:
        if message.role not in roles:
            changed.append(message)
            continue
        text, found = change(message.content)
        calls, in_calls = (None, NOTHING) if message.tool_calls is None else _in_json(message.tool_calls, change)
        if found or in_calls:
            counts += found + in_calls
            message = message.model_copy(update={"content": text, "tool_calls": calls})  # noqa: PLW2901
        changed.append(message)
    return tuple(changed), counts


def _in_json(written: str, change: Change) -> tuple[str, Counter[str]]:
    """JSON with every string in it changed, its keys and numbers as they are."""
    value, counts = _in_value(json.loads(written), change)
    return (json.dumps(value, ensure_ascii=False) if counts else written), counts


def _in_value(value: object, change: Change) -> tuple[object, Counter[str]]:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        results = {key: _in_value(part, change) for key, part in value.items()}
        return {key: part for key, (part, _) in results.items()}, sum((n for _, n in results.values()), Counter())
    if isinstance(value, list):
        parts = [_in_value(part, change) for part in value]
        return [part for part, _ in parts], sum((n for _, n in parts), Counter())
    return value, NOTHING
