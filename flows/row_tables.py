"""Rows of a run's Parquet tables by a condition, and counts over them; the one owner of pyarrow in flows.

Tables are read by column names and portion by portion: runs of old lack columns, and no table is held as a whole that
has texts in it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from tasks.errors import FileInvalid

MOST_IDS = 10
FATE_COLUMNS = ["id", "source", "stage", "fate", "rule"]


def field(name: str) -> Any:
    """A column in a condition."""
    return pc.field(name)


def starts_with(column: str, beginning: str) -> Any:
    """The condition that a text begins so."""
    return pc.starts_with(pc.field(column), beginning)


def ends_with(column: str, ending: str) -> Any:
    """The condition that a text ends so."""
    return pc.ends_with(pc.field(column), ending)


def rows_where(path: Path, columns: Sequence[str], where: Any) -> list[dict[str, Any]]:
    """The rows of a table that meet a condition; of `columns` those that the table has.

    Raises:
        FileInvalid: it is torn, or lacks a column of the condition.
    """
    with _opened(path) as table:
        known = [name for name in columns if name in table.schema.names]
        rows: list[dict[str, Any]] = table.to_table(columns=known, filter=where).to_pylist()
    return rows


def column(path: Path, name: str, where: Any = None) -> list[Any]:
    """One column of a table, of the rows that meet a condition."""
    return [row[name] for row in rows_where(path, [name], where)]


def rows_with_text(path: Path, text: str, most: int) -> list[dict[str, Any]]:
    """Up to `most` examples one of whose turns has `text` in it, upper and lower case alike, as id, source, file, line.

    Raises:
        FileInvalid: the table is torn, or none of examples.
    """
    found: list[dict[str, Any]] = []
    with _opened(path) as table:
        for batch in table.to_batches(columns=["id", "source", "file", "line", "messages"]):
            turns = batch.column("messages")
            parents = pc.list_parent_indices(turns)
            contents = pc.struct_field(pc.list_flatten(turns), "content")
            hits = pc.match_substring(contents, text, ignore_case=True)
            rows = pc.unique(parents.filter(hits))[: most - len(found)]
            texts = dict(zip(parents.filter(hits).to_pylist(), contents.filter(hits).to_pylist(), strict=True))
            places = batch.select(["id", "source", "file", "line"]).take(rows).to_pylist()
            found += [place | {"text": texts[row]} for place, row in zip(places, rows.to_pylist(), strict=True)]
            if len(found) >= most:
                break
    return found


def entries_table(ledgers: Sequence[Path], handed_on: tuple[str, Path] | None = None) -> Any:
    """The ledgers of a run one after the other, as a table of id, source, stage, fate and rule.

    Without the later ones some rows have no fate yet: `handed_on` is the last stage and its examples, which get one.
    """
    parts = []
    for path in ledgers:
        with _opened(path) as table:
            parts.append(table.to_table(columns=FATE_COLUMNS))
    if handed_on is not None:
        parts.append(_handed_on(*handed_on))
    whole = pa.concat_tables(parts) if parts else pa.table({name: pa.array([], pa.string()) for name in FATE_COLUMNS})
    for place, name in enumerate(FATE_COLUMNS):
        if name != "id":  # a few values each: their numbers are enough
            whole = whole.set_column(place, name, whole[name].dictionary_encode().unify_dictionaries())
    return whole


def _handed_on(stage: str, examples: Path) -> Any:
    with _opened(examples) as table:
        rows = table.to_table(columns=["id", "source"])
    for name, value in (("stage", stage), ("fate", "kept"), ("rule", f"what {stage} handed on")):
        column = pa.array([value] * rows.num_rows, pa.string())
        rows = rows.append_column(pa.field(name, pa.string(), nullable=False), column)
    return rows


def count_rows(path: Path) -> int:
    """How many rows a table has.

    Raises:
        FileInvalid: it is missing or torn.
    """
    with _opened(path) as table:
        return int(table.count_rows())


def count_final(entries: Any) -> tuple[int, int]:
    """How many final fates there are, and of how many different rows."""
    finals = _final(entries)
    return finals.num_rows, pc.count_distinct(finals["id"]).as_py()


def count_by_rule(entries: Any) -> dict[tuple[str, str, str], int]:
    """How many entries there are of every stage, fate and rule."""
    counts = entries.group_by(["stage", "fate", "rule"]).aggregate([([], "count_all")]).to_pylist()
    return {(row["stage"], row["fate"], row["rule"]): row["count_all"] for row in counts}


Move = tuple[str, str, int, list[str]]
"""A fate, another fate, how many rows went from one to the other, and some of their ids."""


def moves(before: Any, after: Any) -> list[Move]:
    """The rows whose final fate differs, by pair of fates; an empty fate is a row that one side does not have."""
    sides = [_fates(table) for table in (before, after)]
    joined = sides[0].join(sides[1], "id", join_type="full outer", right_suffix="_after")
    texts = [pc.fill_null(joined[name], "") for name in ("fate", "fate_after")]
    joined = pa.table({"id": joined["id"], "before": texts[0], "after": texts[1]})
    joined = joined.filter(pc.not_equal(joined["before"], joined["after"]))
    return _grouped(joined, ["before", "after"])


def changes(before: Any, after: Any) -> list[Move]:
    """The rows that a rule changed on one side only: the stage and rule, the side, how many, and some ids."""
    sides = [_changed(table) for table in (before, after)]
    found = []
    for one, other, side in ((sides[0], sides[1], "a"), (sides[1], sides[0], "b")):
        only = one.join(other, ["id", "rule"], join_type="left anti")
        only = only.append_column("side", pa.array([side] * only.num_rows, pa.string()))
        found += _grouped(only, ["rule", "side"])
    return sorted(found)


def _final(entries: Any) -> Any:
    return entries.filter(pc.not_equal(entries["fate"].cast(pa.string()), "changed"))


def _fates(entries: Any) -> Any:
    finals = _final(entries)
    is_kept = pc.equal(finals["fate"].cast(pa.string()), "kept")
    rule = finals["rule"].cast(pa.string())
    kept = pc.binary_join_element_wise("kept", rule, " in ")
    dropped = pc.binary_join_element_wise(finals["stage"].cast(pa.string()), rule, " · ")
    return pa.table({"id": finals["id"], "fate": pc.if_else(is_kept, kept, dropped)})


def _changed(entries: Any) -> Any:
    rows = entries.filter(pc.equal(entries["fate"].cast(pa.string()), "changed"))
    rule = pc.binary_join_element_wise(rows["stage"].cast(pa.string()), rows["rule"].cast(pa.string()), " · ")
    return pa.table({"id": rows["id"], "rule": rule})


def _grouped(rows: Any, by: list[str]) -> list[Move]:
    counts = rows.group_by(by).aggregate([([], "count_all")]).to_pylist()
    found = []
    for row in sorted(counts, key=lambda row: (-row["count_all"], row[by[0]], row[by[1]])):
        same = pc.and_(pc.equal(rows[by[0]], row[by[0]]), pc.equal(rows[by[1]], row[by[1]]))
        ids = rows["id"].filter(same)
        first = ids.take(pc.sort_indices(ids)[:MOST_IDS]).to_pylist()
        found.append((row[by[0]], row[by[1]], row["count_all"], first))
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        yield ds.dataset(path, format="parquet")
    except (pa.ArrowException, KeyError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileInvalid(f"{path}: cannot be read as a table of rows ({reason}); remove it and run again") from None


def final_fates(path: Path) -> list[tuple[str, str, str]]:
    """The id, fate and rule of every row that a ledger drops or keeps.

    Raises:
        FileInvalid: it is torn, or no ledger.
    """
    rows = rows_where(path, ["id", "fate", "rule"], pc.field("fate") != "changed")
    return [(row["id"], row["fate"], row["rule"]) for row in rows]
