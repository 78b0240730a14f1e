"""The flat table that the expectation suite is run on: one row for every example, in an SQLite file.

Rows enter batch by batch and stay on the disk, so that a million need no memory. SQLite is lax about types, and stores
NaN as NULL: a value that is not of its column's type becomes NULL and its column's name goes into `wrong_types`. What
is said of an example is a whole number or a text, which is never NaN or infinite.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

TABLE = "examples"


class Columns(NamedTuple):
    """What the suite may ask about one example; no text of it, but lengths and flags (0 or 1).

    `prompt_key` is a hash of the normalised prompt, `asked_key` of that and of all else that the answer depends on
    (system turn, tools, earlier turns), `place` is file and line, `blank_turns` counts turns that say nothing, `tokens`
    those of the whole conversation in the chat template. Characters of prompt and completion are counted without the
    space around them.
    """

    id: str
    source: str
    role: str
    partition: str
    place: str
    n_messages: int
    prompt_chars: int
    completion_chars: int
    longest_answer_chars: int
    blank_turns: int
    tokens: int
    role_order_ok: int
    label_known: int
    has_special_token: int
    has_secret: int
    has_pii: int
    prompt_key: int
    asked_key: int


KINDS: tuple[type, ...] = tuple(get_type_hints(Columns).values())
PARTITION_FLAGS = {"train": "in_train", "validation": "in_validation", "test": "in_test"}
SHARED = ("prompt_in_other_partition", "repeats_prompt")
"""What one row has in common with others; `repeats_prompt` is said of train rows only, and NULL elsewhere."""
SQL_TYPES = {str: "TEXT", int: "INTEGER"}
KEYS_IN_COMMON = (
    """
    CREATE TEMP TABLE crossing AS SELECT prompt_key AS key FROM examples
    GROUP BY prompt_key HAVING COUNT(DISTINCT partition) > 1
    """,
    """
    CREATE TEMP TABLE repeated AS SELECT asked_key AS key FROM examples
    WHERE in_train GROUP BY asked_key HAVING COUNT(*) > 1
    """,
)
MARK_IN_COMMON = """
UPDATE examples SET
    dropped_share = ?,
    prompt_in_other_partition = prompt_key IN (SELECT key FROM crossing),
    repeats_prompt = CASE WHEN in_train THEN asked_key IN (SELECT key FROM repeated) END
"""
INT64 = range(-(2**63), 2**63)


class ExamplesTable:
    """The table while it is being filled; `dropped_share`, of the data set, stands in every row."""

    def __init__(self, connection: sqlite3.Connection, dropped_share: float) -> None:
        self._connection = connection
        self._dropped_share = dropped_share
        columns = [f'"{name}" {SQL_TYPES[kind]}' for name, kind in zip(Columns._fields, KINDS, strict=True)]
        flags = [f"{name} INTEGER" for name in (*PARTITION_FLAGS.values(), *SHARED)]
        columns = [*columns, "wrong_types TEXT", *flags, "dropped_share REAL"]
        connection.execute(f"CREATE TABLE {TABLE} ({', '.join(columns)}) STRICT")
        names = [*Columns._fields, "wrong_types", *PARTITION_FLAGS.values()]
        quoted = ", ".join(f'"{name}"' for name in names)
        self._insert = f"INSERT INTO {TABLE} ({quoted}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608  names of ours

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows of `Columns`."""
        self._connection.executemany(self._insert, map(_checked, rows))

    def finish(self) -> None:
        """Fill in what one row has in common with others: only now all of them are here."""
        run = self._connection.execute
        run(f"CREATE INDEX prompts ON {TABLE} (prompt_key, partition)")
        run(f"CREATE INDEX asked ON {TABLE} (asked_key, in_train)")
        for statement in KEYS_IN_COMMON:
            run(statement)
        run(MARK_IN_COMMON, (self._dropped_share,))
        run("DROP INDEX prompts")
        run("DROP INDEX asked")
        self._connection.commit()


@contextmanager
def filling(path: Path, dropped_share: float) -> Iterator[ExamplesTable]:
    """A new table in the database at `path`; it is finished when the block ends without an error."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # the file is temporary: after a crash nobody reads it
        connection.execute("PRAGMA journal_mode = OFF")
        table = ExamplesTable(connection, dropped_share)
        yield table
        table.finish()


def flagged_rows(path: Path, column: str, limit: int) -> list[dict[str, Any]]:
    """The first rows whose flag in `column` is set, with their id, place and partition."""
    query = f'SELECT id, place, "partition" FROM {TABLE} WHERE "{column}" = 1 ORDER BY rowid LIMIT {limit:d}'  # noqa: S608  a name of ours
    with closing(sqlite3.connect(path)) as connection:
        return [dict(zip(("id", "place", "partition"), row, strict=True)) for row in connection.execute(query)]


def count_by(path: Path, column: str) -> Counter[Any]:
    """How many rows there are of each value of a column."""
    query = f'SELECT "{column}", COUNT(*) FROM {TABLE} WHERE "{column}" IS NOT NULL GROUP BY 1'  # noqa: S608  a name of ours
    with closing(sqlite3.connect(path)) as connection:
        return Counter(dict(connection.execute(query)))


def _checked(row: Sequence[Any]) -> tuple[Any, ...]:
    values, wrong = row, ""
    if tuple(map(type, row)) != KINDS or any(type(value) is int and value not in INT64 for value in row):
        flaws = [not _holds(value, kind) for value, kind in zip(row, KINDS, strict=True)]
        values = [None if flaw else value for value, flaw in zip(row, flaws, strict=True)]
        wrong = ", ".join(name for name, flaw in zip(Columns._fields, flaws, strict=True) if flaw)
    partition = values[Columns._fields.index("partition")]
    return (*values, wrong, *(int(partition == name) for name in PARTITION_FLAGS))


def _holds(value: object, kind: type) -> bool:
    if type(value) is not kind:
        return False
    return value in INT64 if isinstance(value, int) else True
