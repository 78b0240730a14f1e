"""The supervision audit: what carries loss in the very batches that train. Nothing trains before it holds.

A normal-looking run can train nothing (every label masked or cut off), or a model that never stops (its stop token
never carried loss, or is unknown to generation). Both are seen here, before step one, with the trainer's own collator.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.text import Text

from tasks.digests import digest_text
from tasks.errors import TrainingInvalid
from tasks.records import Example, SupervisedExample, SupervisionAudit, SupervisionCheck
from tasks.training_rows import IGNORED

SHOWN_EXAMPLES = 5
PRINTED_EXAMPLES = 3
NAMED_ROWS = 20
BATCH = 64


class _Row:
    """One row as the collator hands it to the model: its tokens, and which of them carry loss."""

    def __init__(self, name: str, ids: Sequence[int], labels: Sequence[int]) -> None:
        self.id = name
        self.masked = [token for token, label in zip(ids, labels, strict=True) if label == IGNORED]
        self.taught = [token for token, label in zip(ids, labels, strict=True) if label != IGNORED]

    def ends_in(self, stop_token: int, tokenizer: Any) -> bool:
        """Whether the last token with loss is `stop_token`; white space that a template writes after it is passed."""
        for token in reversed(self.taught):
            if token == stop_token:
                return True
            if str(tokenizer.decode([token])).strip():
                return False
        return False


def audit(examples: Sequence[Example], trainer: Any, base_template_digest: str, folder: Path) -> SupervisionAudit:
    """Count and check what the batches of `trainer` teach.

    Args:
        examples: what the rows of the trainer were made of (`training_rows`).
        trainer: a trl.SFTTrainer; its data set, packed or not, its collator and its tokenizer are looked at.
        base_template_digest: the digest of the chat template that the base model's record names.
        folder: the base model's folder, for its generation configuration.
    """
    tokenizer = trainer.processing_class
    counts: list[int] = []
    empty: list[str] = []
    endless: list[str] = []
    shown: list[SupervisedExample] = []
    for row in _rows(trainer, examples):
        counts.append(len(row.taught))
        if not row.taught:
            empty.append(row.id)
        elif not row.ends_in(tokenizer.eos_token_id, tokenizer):
            endless.append(row.id)
        if len(shown) < SHOWN_EXAMPLES:
            shown.append(_shown(row, tokenizer))
    template_digest = digest_text(str(tokenizer.chat_template))
    stops = generation_stop_tokens(folder)
    return SupervisionAudit(
        rows=len(counts),
        max_length=trainer.args.max_length,
        trained_tokens=sum(counts),
        fewest_trained_tokens=min(counts, default=0),
        median_trained_tokens=float(median(counts or [0])),
        most_trained_tokens=max(counts, default=0),
        rows_without_trained_tokens=len(empty),
        rows_without_stop_token=len(empty) + len(endless),
        stop_token=str(tokenizer.eos_token),
        generation_stop_tokens=stops,
        template_digest=template_digest,
        checks=(
            _check_rows("every row has tokens that carry loss", empty, len(counts)),
            _check_rows("every row ends in its stop token, which carries loss", [*empty, *endless], len(counts)),
            SupervisionCheck(
                name="generation stops at the stop token",
                passed=tokenizer.eos_token_id in stops,
                found=f"token {tokenizer.eos_token_id} {tokenizer.eos_token!r}, generation config stops at {stops}",
            ),
            SupervisionCheck(
                name="the chat template is the base model's, with which it is evaluated and released",
                passed=template_digest == base_template_digest,
                found=f"training {template_digest[:12]}, base {base_template_digest[:12]}",
            ),
        ),
        examples=tuple(shown),
    )


def require_sound(found: SupervisionAudit) -> None:
    """Stop before step one when a check failed.

    Raises:
        TrainingInvalid: with every check that failed and the next move.
    """
    failed = [check for check in found.checks if not check.passed]
    if not failed:
        return
    lines = [f"  not so: {check.name}; found {check.found}" for check in failed]
    advice = (
        f"rows longer than train.max_length ({found.max_length} tokens) lose their end: raise it, or lower "
        "clean.max_tokens to it; a stop token that generation does not know belongs into the base model's "
        "generation_config.json (eos_token_id)"
    )
    raise TrainingInvalid("\n".join(["the supervision audit failed, nothing was trained:", *lines, advice]))


def generation_stop_tokens(folder: Path) -> tuple[int, ...]:
    """The ids that end generation, by the model folder's generation configuration, else by its configuration."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if path.is_file():
            stops = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            if stops is not None:
                return tuple(stops) if isinstance(stops, list) else (int(stops),)
    return ()


def print_audit(found: SupervisionAudit, console: Console | None = None) -> None:
    """Print the counts, and three rows with the part that carries loss in colour (or between marks in plain text)."""
    console = console or Console(soft_wrap=True)
    console.print(
        f"train: audit: {found.rows:,} rows, {found.trained_tokens:,} tokens carry loss "
        f"(a row {found.fewest_trained_tokens} to {found.most_trained_tokens}, median "
        f"{found.median_trained_tokens:g}); {found.rows_without_trained_tokens} rows have none, "
        f"{found.rows - found.rows_without_stop_token:,} end in {found.stop_token}",
        highlight=False,
        markup=False,
    )
    for example in found.examples[:PRINTED_EXAMPLES]:
        console.print(_coloured(example, in_colour=console.color_system is not None))


def _coloured(example: SupervisedExample, *, in_colour: bool) -> Text:
    before, after = ("", "") if in_colour else ("»", "«")
    masked, taught = (text.replace("\n", "⏎") for text in (example.masked_text, example.supervised_text))
    return Text.assemble(
        ("  " + masked, "dim"), (f"{before}{taught}{after}", "bold green"), f"  [{example.id}]", no_wrap=False
    )


def _rows(trainer: Any, examples: Sequence[Example]) -> Iterator[_Row]:
    dataset = trainer.train_dataset
    for start in range(0, len(dataset), BATCH):
        portion = [dataset[index] for index in range(start, min(start + BATCH, len(dataset)))]
        batch = trainer.data_collator(portion)
        is_real = batch["attention_mask"].bool() if "attention_mask" in batch else batch["input_ids"] >= 0
        tokens, labels = (iter(batch[name][is_real].tolist()) for name in ("input_ids", "labels"))
        for raw in portion:
            numbers = iter(raw["example"])
            for length in raw.get("seq_lengths") or [len(raw["input_ids"])]:
                number, *_ = islice(numbers, length)
                yield _Row(examples[number].id, list(islice(tokens, length)), list(islice(labels, length)))


def _shown(row: _Row, tokenizer: Any) -> SupervisedExample:
    return SupervisedExample(
        id=row.id,
        masked_text=str(tokenizer.decode(row.masked)),
        supervised_text=str(tokenizer.decode(row.taught)),
        tokens=len(row.masked) + len(row.taught),
        supervised_tokens=len(row.taught),
    )


def _check_rows(name: str, broken: Sequence[str], rows: int) -> SupervisionCheck:
    named = ", ".join(broken[:NAMED_ROWS]) + (" …" if len(broken) > NAMED_ROWS else "")
    found = f"{len(broken)} of {rows} rows without" + (f": {named}" if broken else "")
    return SupervisionCheck(name=name, passed=rows > 0 and not broken, found=found)
