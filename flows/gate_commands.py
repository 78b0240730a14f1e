"""What `tunegate gate` does: say why in plain sentences, and compute a verdict again."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows.commands import EXIT_CODES, ended_run
from flows.explanation import explanation
from flows.gate_story import Kept, replay
from flows.git import repository_root
from flows.record import CANDIDATE_SAMPLES, read_run
from flows.run_record import RunRecord
from flows.wording import cut, result_line
from tasks.digests import digest_text
from tasks.errors import EXIT_REFUSED, RunNotFound
from tasks.files import dump_json
from tasks.telling_items import TellingItem, telling_items
from tasks.verdict_records import Verdict

SHOWN_ITEMS = 10
SHOWN_CHARS = 400


def judged_run(start: Path, wanted: str | None) -> tuple[Path, RunRecord, Verdict]:
    """A run whose gate came to a verdict.

    Raises:
        RunNotFound: there is no such run, or it has no verdict.
    """
    root = repository_root(start)
    record = read_run(root, ended_run(root, wanted))
    if record.verdict is None:
        raise RunNotFound(
            f"run {record.run_id} has no verdict: it ended as {record.status}; `tunegate audit show {record.run_id}`"
        )
    return root, record, record.verdict


def explain_command(start: Path, wanted: str | None) -> None:
    """Say in plain sentences why, and show the most telling items."""
    root, record, verdict = judged_run(start, wanted)
    console = Console(soft_wrap=True)
    for line in explanation(record, verdict):
        console.print(Text(line))
    kept = Kept(root, record.run_id)
    items = telling_items(verdict, kept.samples("base_samples.jsonl.gz"), kept.samples(CANDIDATE_SAMPLES), SHOWN_ITEMS)
    if not items:
        console.print(Text("\nThe run kept no texts of items to show."))
        return
    console.print(Text(f"\nThe {len(items)} most telling items", style="bold"))
    for item in items:
        for line in item_lines(item):
            console.print(Text(line))


def item_lines(item: TellingItem) -> Iterator[str]:
    """One item: what was asked, what is right, what both models said."""
    was, now = item.base.metrics[item.metric], item.candidate.metrics[item.metric]
    yield f"\n{item.candidate.benchmark}, item {item.candidate.item}: {item.what} ({item.metric} {was:g}, now {now:g})"
    texts = {
        "asked": item.candidate.prompt, "right": item.candidate.target, "base said": item.base.answer,
        "candidate said": item.candidate.answer,
    }  # fmt: skip
    for name, text in texts.items():
        yield f"  {name + ':':<16}{cut(' '.join(text.split()), SHOWN_CHARS) or '(nothing)'}"


def replay_command(start: Path, wanted: str | None, settings: Sequence[str], *, as_json: bool) -> int:
    """Compute a run's verdict again.

    Returns:
        Without settings 0 when it is the recorded one byte for byte and 3 when it is not; with settings what the new
        verdict comes to: 0 passed, 3 refused, 4 inconclusive.
    """
    root, record, recorded = judged_run(start, wanted)
    verdict = replay(root, record, settings)
    text = dump_json(verdict)
    if as_json:
        print(text, end="")
        return EXIT_CODES[verdict.verdict] if settings else _compared(root, record, text)[0]
    console = Console(soft_wrap=True)
    for result in verdict.results:
        console.print(Text(result_line(result)))
    if settings:
        console.print(Text(f"verdict: {verdict.verdict.upper()} with {', '.join(settings)}"))
        console.print(Text(f"recorded: {recorded.verdict.upper()}; nothing on record was changed"))
        return EXIT_CODES[verdict.verdict]
    code, said = _compared(root, record, text)
    console.print(Text(f"verdict: {verdict.verdict.upper()}"))
    console.print(Text(said))
    return code


def _compared(root: Path, record: RunRecord, text: str) -> tuple[int, str]:
    kept = Kept(root, record.run_id).text("verdict.json")
    if kept == text:
        return 0, f"the same bytes as the recorded verdict, sha256 {digest_text(text)[:12]}"
    return EXIT_REFUSED, (
        f"NOT the bytes of the recorded verdict: sha256 {digest_text(text)[:12]}, recorded {digest_text(kept)[:12]}; "
        "it was computed by another version of tunegate or on another kind of processor, or the record was changed"
    )
