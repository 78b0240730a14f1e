"""The way of one row through the data stages: where it came from, what each stage did to it, and where it is now."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flows.outputs import Outputs
from flows.row_tables import ends_with, field, rows_where, rows_with_text, starts_with
from flows.rules import meaning
from flows.wording import cut
from tasks import paths
from tasks.errors import TunegateError
from tasks.records import LedgerEntry, Message, Partition, Record

FOLDERS = {"ingest": paths.INGEST, "clean": paths.CLEAN, "dedup": paths.DEDUP, "split": paths.SPLIT}
"""The stages that keep a ledger, in the order in which a row meets them."""
PARTITION_FILES: dict[Partition, Path] = {
    "train": paths.TRAIN_EXAMPLES,
    "validation": paths.VALIDATION_EXAMPLES,
    "test": paths.TEST_EXAMPLES,
}
SHOWN_MATCHES = 10
SHOWN_ANSWER = 100
PLACE = ["id", "source", "file", "line"]
_SIMILARITY = re.compile(r"(?:similarity|cosine) (\d\.\d+)")
_ID = re.compile(r"[0-9a-f]{16}\b")


class RowNotFound(TunegateError):
    """No row, or more than one, is what was asked for."""


class Neighbour(Record):
    """The kept row that is most like another one; `similarity` is None where nobody compared the two directly."""

    id: str
    similarity: float | None
    file: str
    line: int
    prompt: str


class Contradiction(Record):
    """A row that asks the same as another one and has another answer."""

    id: str
    file: str
    line: int
    answer: str


class RowStory(Record):
    """Everything that is known about one row.

    `of` says whose row it is, `partition` is None unless it was kept, `stage` is the last one that it came out of.
    `text` is what was set aside of a row that could not be read; `messages` are its turns otherwise. `contradictions`
    are the first rows with the same question and another short answer.
    """

    of: str
    id: str
    source: str
    file: str
    line: int
    entries: tuple[LedgerEntry, ...]
    cluster: str | None
    cluster_rows: int
    nearest_kept: Neighbour | None
    contradictions: tuple[Contradiction, ...]
    partition: Partition | None
    repeat: int
    stage: str
    messages: tuple[Message, ...]
    text: str
    sentence: str


def find_row(outputs: Outputs, wanted: str) -> dict[str, Any]:
    """The id, source, file and line of the row that `wanted` names: an id, the beginning of one, or FILE:LINE.

    Raises:
        RowNotFound: no row, or more than one, is named so.
    """
    file, _, line = wanted.rpartition(":")
    of_file = (field("file") == file) | ends_with("file", f"/{file}")
    is_place = bool(file) and line.isdecimal()
    where = of_file & (field("line") == int(line)) if is_place else starts_with("id", wanted)
    found: dict[str, dict[str, Any]] = {}
    for path in _tables_with_every_row(outputs):
        found |= {row["id"]: row for row in rows_where(path, PLACE, where)}
    if not found:
        known = _rows_of_file(outputs, of_file) if is_place else ""
        raise RowNotFound(
            f"{outputs.name} has no row {wanted!r}{known}; give an id or its beginning, FILE:LINE, or --text with "
            "words of it"
        )
    if len(found) > 1:
        shown = [f"  {row['id']}  {row['file']}:{row['line']}" for _, row in sorted(found.items())[:SHOWN_MATCHES]]
        more = [f"  and {len(found) - SHOWN_MATCHES:,} more"] if len(found) > SHOWN_MATCHES else []
        raise RowNotFound("\n".join([f"{len(found):,} rows are named {wanted!r}; give more of the id:", *shown, *more]))
    return next(iter(found.values()))


def _rows_of_file(outputs: Outputs, of_file: Any) -> str:
    """What is known of the rows of a file, for who named a line that it does not have."""
    lines: dict[str, int] = {}
    for path in _tables_with_every_row(outputs):
        lines |= {row["id"]: int(row["line"]) for row in rows_where(path, ["id", "line"], of_file)}
    if not lines:
        return ": it has read no file of this name"
    return f": it has {len(lines):,} rows of this file, from line {min(lines.values())} to {max(lines.values())}"


def search_rows(outputs: Outputs, text: str, most: int) -> list[dict[str, Any]]:
    """Up to `most` rows that have `text` in a turn or, of rows set aside, in their text; each with where it stands."""
    rows = []
    if (examples := outputs.path(paths.INGEST / paths.EXAMPLES)) is not None:
        rows = rows_with_text(examples, text, most)
    if (aside := outputs.path(paths.INGEST / paths.QUARANTINE)) is not None and len(rows) < most:
        broken = rows_where(aside, [*PLACE, "text"], None)
        rows += [row for row in broken if text.casefold() in row["text"].casefold()][: most - len(rows)]
    return rows


def tell(outputs: Outputs, row: dict[str, Any]) -> RowStory:
    """The story of a row of `find_row`."""
    row_id = str(row["id"])
    entries = tuple(read_entries(outputs, row_id))
    final = next((entry for entry in entries if entry.fate != "changed"), None)
    cluster, members = read_cluster(outputs, row_id)
    nearest = nearest_kept(outputs, row_id, entries, members)
    contradicting = tuple(contradictions(outputs, row_id, final, members))
    stage, example = last_example(outputs, row_id)
    partition = final.rule if final is not None and final.fate == "kept" else None
    repeat = int(example.get("repeat", 1)) if example else 1
    return RowStory.model_validate(
        {
            "of": outputs.name,
            **row,
            "entries": entries,
            "cluster": cluster,
            "cluster_rows": len(members),
            "nearest_kept": nearest,
            "contradictions": contradicting,
            "partition": partition,
            "repeat": repeat,
            "stage": stage,
            "messages": tuple(example["messages"]) if example else (),
            "text": "" if example else set_aside(outputs, row_id),
            "sentence": sentence(final, nearest, contradicting, stage, repeat),
        }
    )


def read_entries(outputs: Outputs, row_id: str) -> Iterable[LedgerEntry]:
    """What the ledgers say of a row, in the order of the stages."""
    for folder in FOLDERS.values():
        if (path := outputs.path(folder / paths.LEDGER)) is not None:
            yield from map(
                LedgerEntry.model_validate, rows_where(path, list(LedgerEntry.model_fields), field("id") == row_id)
            )


def read_cluster(outputs: Outputs, row_id: str) -> tuple[str | None, list[str]]:
    """The cluster of a row and all rows in it; None and none for a row that was never compared."""
    path = outputs.path(paths.DEDUP / paths.CLUSTERS)
    own = rows_where(path, ["cluster"], field("id") == row_id) if path is not None else []
    if path is None or not own:
        return None, []
    cluster = str(own[0]["cluster"])
    return cluster, sorted(row["id"] for row in rows_where(path, ["id"], field("cluster") == cluster))


def nearest_kept(
    outputs: Outputs, row_id: str, entries: Sequence[LedgerEntry], members: Sequence[str]
) -> Neighbour | None:
    """The most similar of the kept rows that `row_id` was compared with, or shares a cluster with."""
    known: dict[str, float | None] = dict.fromkeys(members)
    if (path := outputs.path(paths.DEDUP / paths.PAIRS)) is not None:
        where = (field("left") == row_id) | (field("right") == row_id)
        for pair in rows_where(path, ["left", "right", "similarity"], where):
            other = pair["right"] if pair["left"] == row_id else pair["left"]
            known[other] = float(pair["similarity"])
    for entry in entries:
        named = _ID.match(entry.value) if entry.fate == "dropped" and entry.stage in {"dedup", "split"} else None
        if named is not None and known.get(named[0]) is None:
            said = _SIMILARITY.search(entry.value)
            known[named[0]] = float(said[1]) if said else 1.0 if entry.rule == "exact_duplicate" else None
    known.pop(row_id, None)
    kept = kept_rows(outputs, list(known))
    if not kept:
        return None
    best = min(kept, key=lambda name: (-(known[name] or 0.0), name))
    _, row = last_example(outputs, best)
    prompt = "\n".join(turn["content"] for turn in row.get("messages", ()) if turn["role"] == "user")
    return Neighbour(id=best, similarity=known[best], file=row.get("file", ""), line=row.get("line", 0), prompt=prompt)


def contradictions(
    outputs: Outputs, row_id: str, final: LedgerEntry | None, members: Sequence[str]
) -> Iterator[Contradiction]:
    """The first rows that ask what `row_id` asks and have another short answer.

    Of the rows with one answer only the first is compared with those that have another: what it was dropped for, the
    others of its cluster were too.
    """
    if (path := outputs.path(paths.DEDUP / paths.CONFLICTS)) is None:
        return
    is_dropped_for_it = final is not None and final.rule == "conflicting_answers"
    asked = list(members) if is_dropped_for_it else [row_id]
    columns = ["left", "right", "left_completion", "right_completion"]
    answers: dict[str, str] = {}
    for pair in rows_where(path, columns, field("left").isin(asked) | field("right").isin(asked)):
        answers |= {pair["left"]: pair["left_completion"], pair["right"]: pair["right_completion"]}
    _, own = last_example(outputs, row_id)
    answer = answers.get(row_id) or next((turn["content"] for turn in reversed(own.get("messages", ()))), None)
    others = [other for other in sorted(answers) if other != row_id and answers[other] != answer]
    for other in others[:SHOWN_MATCHES]:
        _, row = last_example(outputs, other)
        yield Contradiction(id=other, file=row.get("file", ""), line=row.get("line", 0), answer=answers[other])


def kept_rows(outputs: Outputs, ids: list[str]) -> list[str]:
    """Those of `ids` that were kept by split or, where it did not run, by dedup."""
    if not ids:
        return []
    if (ledger := outputs.path(paths.SPLIT / paths.LEDGER)) is not None:
        rows = rows_where(ledger, ["id"], field("id").isin(ids) & (field("fate") == "kept"))
    elif (examples := outputs.path(paths.DEDUP / paths.EXAMPLES)) is not None:
        rows = rows_where(examples, ["id"], field("id").isin(ids))
    else:
        rows = []
    return sorted({row["id"] for row in rows})


def last_example(outputs: Outputs, row_id: str) -> tuple[str, dict[str, Any]]:
    """The last stage that a row came out of, and the row as it left it; ("", {}) for one that was never an example."""
    files = [("split", path) for path in PARTITION_FILES.values()]
    files += [(stage, FOLDERS[stage] / paths.EXAMPLES) for stage in ("dedup", "clean", "ingest")]
    for stage, file in files:
        if (path := outputs.path(file)) is not None:
            rows = rows_where(path, ["file", "line", "messages", "repeat"], field("id") == row_id)
            if rows:
                return stage, rows[0]
    return "", {}


def set_aside(outputs: Outputs, row_id: str) -> str:
    """The text of a row in quarantine, or nothing."""
    for folder in (paths.CLEAN, paths.INGEST):
        if (path := outputs.path(folder / paths.QUARANTINE)) is not None:
            rows = rows_where(path, ["text"], field("id") == row_id)
            if rows:
                return str(rows[0]["text"])
    return ""


def sentence(
    final: LedgerEntry | None,
    nearest: Neighbour | None,
    contradicting: Sequence[Contradiction],
    stage: str,
    repeat: int,
) -> str:
    """The row's fate in one sentence."""
    if final is None:
        return f"It came out of {stage}, the last data stage that ran; its fate is still open."
    if final.fate == "kept":
        seen = "once" if repeat == 1 else f"{repeat} times"
        return f"It is in {final.rule}" + (f", seen {seen} in an epoch." if final.rule == "train" else ".")
    told = meaning(final.rule)
    why = f"{final.rule} ({told})" if told else final.rule
    like = ""
    if nearest is not None:
        alike = "" if nearest.similarity is None else f", similarity {nearest.similarity:.3f}"
        like = f"; the nearest row that is kept is {nearest.id} at {nearest.file}:{nearest.line}{alike}"
    elif final.rule == "conflicting_answers" and contradicting:
        other = contradicting[0]
        like = f"; {other.id} at {other.file}:{other.line} answers {cut(other.answer, SHOWN_ANSWER)}"
    return f"It was dropped by {final.stage}: {why}{like}."


def _tables_with_every_row(outputs: Outputs) -> list[Path]:
    """The ledgers, which name every row once; and, when split did not run, the rows that it would have named."""
    found = [outputs.path(folder / paths.LEDGER) for folder in FOLDERS.values()]
    if found[-1] is None:
        found += [outputs.path(FOLDERS[stage] / paths.EXAMPLES) for stage in ("dedup", "clean", "ingest")]
    return [path for path in found if path is not None]
