"""Stage `clean`: data/ingest/examples.parquet -> data/clean/{examples,ledger}.parquet, summary.json.

Changes come first (broken encodings, control characters, personal data), then the drop rules of `clean_rules`.
Assistant turns are never changed: what the model learns to say is what the source says, or the row goes.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import ftfy

from tasks import paths
from tasks.clean_rules import reason_to_drop
from tasks.entry import run_stage
from tasks.files import write_json
from tasks.params import CleanParams, load_params
from tasks.pii import mask
from tasks.records import Example, LedgerEntry
from tasks.summaries import ledger_entry, print_summary, summarise
from tasks.tables import read_examples, write_examples, write_ledger

Change = tuple[str, dict[str, int]]
"""A changed text, and what was changed in it, by kind."""

REPAIR = ftfy.TextFixerConfig(
    uncurl_quotes=False,  # a writer's quotes are no damage
    fix_latin_ligatures=False,
    fix_character_width=False,  # fullwidth letters stay: folding them could make a special token
    remove_control_chars=False,  # a rule of our own, so that it has its own entry in the ledger
    normalization="NFC",
)
CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # C0 without tab and line ends, C1
    "|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # bidirectional marks
    "|[\u00ad\u180e\u200b\u2060-\u2064\ufeff]"  # zero width
    "|[\u200c\u200d](?![^\x00-\x7f])|(?<![^\x00-\x7f])[\u200c\u200d]"  # joiners, outside scripts that need them
    "|[\U000e0000-\U000e007f]"  # tags: text that no reader sees
    "|[\ufdd0-\ufdef\ufffe\uffff]"  # noncharacters
)


def main() -> None:
    """Clean the ingested examples."""
    examples = read_examples(paths.INGEST / paths.EXAMPLES)
    kept, entries = clean(examples, load_params().clean)
    summary = summarise("clean", len(examples), entries, kept=Counter(example.source for example in kept))
    write_examples(paths.CLEAN / paths.EXAMPLES, kept)
    write_ledger(paths.CLEAN / paths.LEDGER, entries)
    write_json(paths.CLEAN / paths.SUMMARY, summary)
    print_summary(summary)


def clean(examples: Iterable[Example], params: CleanParams) -> tuple[list[Example], list[LedgerEntry]]:
    """The examples that stay, changed where a rule says so, and an entry for every change and every drop."""
    kept: list[Example] = []
    entries: list[LedgerEntry] = []
    for example in examples:
        changed, changes = apply_changes(example, params)
        entries += changes
        if reason := reason_to_drop(changed, params):
            entries.append(ledger_entry(example, "clean", "dropped", *reason))
        else:
            kept.append(changed)
    return kept, entries


def apply_changes(example: Example, params: CleanParams) -> tuple[Example, list[LedgerEntry]]:
    """The example after every change rule, with one entry for each rule that changed something."""
    entries: list[LedgerEntry] = []
    for rule, change in _changes(params):
        example, counts = _change_turns(example, change)
        if counts:
            value = " ".join(f"{kind}={count}" for kind, count in sorted(counts.items()))
            entries.append(ledger_entry(example, "clean", "changed", rule, value))
    return example, entries


def repaired(text: str) -> Change:
    """`text` with broken encodings repaired by ftfy, counted as one turn."""
    fixed = ftfy.fix_text(text, REPAIR)
    return fixed, {"turns": 1} if fixed != text else {}


def without_control(text: str) -> Change:
    """`text` without control, bidirectional, zero-width and tag characters, counted by code point."""
    found = Counter(f"U+{ord(sign):04X}" for sign in CONTROL.findall(text))
    return (CONTROL.sub("", text), dict(found)) if found else (text, {})


def _changes(params: CleanParams) -> Sequence[tuple[str, Callable[[str], Change]]]:
    changes: list[tuple[str, Callable[[str], Change]]] = []
    if params.repair_unicode:
        changes.append(("unicode_repaired", repaired))
    changes.append(("control_removed", without_control))
    if params.mask_pii:
        changes.append(("pii_masked", lambda text: mask(text, params.mask_pii)))
    return changes


def _change_turns(example: Example, change: Callable[[str], Change]) -> tuple[Example, Counter[str]]:
    counts: Counter[str] = Counter()
    messages = []
    for message in example.messages:
        if message.role == "assistant":
            messages.append(message)
            continue
        text, found = change(message.content)
        counts.update(found)
        messages.append(message.model_copy(update={"content": text}) if found else message)
    return (example.model_copy(update={"messages": tuple(messages)}), counts) if counts else (example, counts)


if __name__ == "__main__":
    run_stage(main)
