"""Parquet tables: records in an explicit schema, written and read in row groups, and the rows of foreign files.

The same records give the same bytes; a table appears whole or not at all; what is read is parsed at once. A row group
holds `ROWS_PER_GROUP` rows, so that no stage has to hold a table: it reads, maps and writes group by group.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from tasks.errors import FileInvalid, SourceInvalid
from tasks.files import whole
from tasks.records import BenchmarkItem, ClusterMember, Conflict, Example, LedgerEntry, Pair, QuarantinedRow

Kind = TypeVar("Kind", bound=BaseModel)

ROWS_PER_GROUP = 4096
FOREIGN_ROWS_PER_BATCH = 256  # nobody promised that rows of others are small


def _texts(*names: str) -> list[Any]:
    return [pa.field(name, pa.string(), nullable=False) for name in names]


MESSAGE = pa.struct(
    [*_texts("role", "content"), pa.field("tool_calls", pa.string()), pa.field("name", pa.string())],
)
EXAMPLE_SCHEMA = pa.schema(
    [
        *_texts("id", "source", "role", "file"),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("messages", pa.list_(MESSAGE), nullable=False),
        pa.field("tools", pa.string()),
        pa.field("repeat", pa.int64(), nullable=False),
        pa.field("tokens", pa.int64()),
    ]
)
LEDGER_SCHEMA = pa.schema(
    [
        *_texts("id", "source", "file"),
        pa.field("line", pa.int64(), nullable=False),
        *_texts("stage", "fate", "rule", "value"),
    ]
)
QUARANTINE_SCHEMA = pa.schema(
    [*_texts("id", "source", "file"), pa.field("line", pa.int64(), nullable=False), *_texts("rule", "value", "text")]
)
CLUSTER_SCHEMA = pa.schema(_texts("id", "cluster", "anchor"))
PAIR_SCHEMA = pa.schema([*_texts("left", "right"), pa.field("similarity", pa.float64(), nullable=False)])
BENCHMARK_ITEM_SCHEMA = pa.schema(
    [*_texts("benchmark"), pa.field("item", pa.int64(), nullable=False), *_texts("part", "text")]
)
CONFLICT_SCHEMA = pa.schema([*PAIR_SCHEMA, *_texts("left_completion", "right_completion")])
SCHEMAS: dict[type[BaseModel], Any] = {
    Example: EXAMPLE_SCHEMA,
    LedgerEntry: LEDGER_SCHEMA,
    QuarantinedRow: QUARANTINE_SCHEMA,
    ClusterMember: CLUSTER_SCHEMA,
    Pair: PAIR_SCHEMA,
    Conflict: CONFLICT_SCHEMA,
    BenchmarkItem: BENCHMARK_ITEM_SCHEMA,
}


class TableWriter(Generic[Kind]):
    """Rows of one kind on their way to a file; they are written in full row groups whatever portions they come in."""

    def __init__(self, file: Any, kind: type[Kind]) -> None:
        self._file = file
        self._kind = kind
        self._waiting: list[Any] = []
        self._rows = 0

    def write(self, records: Iterable[Kind]) -> None:
        """Append records."""
        self.write_table(to_table(records, self._kind))

    def write_table(self, table: Any) -> None:
        """Append a pyarrow.Table of this kind's schema."""
        self._waiting.append(table)
        self._rows += table.num_rows
        if self._rows >= ROWS_PER_GROUP:
            self._flush(self._rows - self._rows % ROWS_PER_GROUP)

    def close(self) -> None:
        """Write what is left; an empty table has its schema all the same."""
        self._flush(self._rows)

    def _flush(self, rows: int) -> None:
        table = pa.concat_tables([*self._waiting, SCHEMAS[self._kind].empty_table()]).combine_chunks()
        if rows:
            self._file.write_table(table.slice(0, rows), row_group_size=ROWS_PER_GROUP)
        self._waiting = [table.slice(rows)] if rows < table.num_rows else []
        self._rows = table.num_rows - rows


@contextmanager
def writing(path: Path, kind: type[Kind]) -> Iterator[TableWriter[Kind]]:
    """A writer of `kind` to `path`; the file appears when the block ends without an error."""
    options = {"compression": "zstd", "use_dictionary": False}  # larger and slower with dictionaries: texts differ
    with whole(path) as partial, pq.ParquetWriter(partial, SCHEMAS[kind], **options) as file:
        writer = TableWriter(file, kind)
        yield writer
        writer.close()


def write_records(path: Path, records: Iterable[Kind], kind: type[Kind]) -> None:
    """Write records of one kind, one row each, in the order given."""
    with writing(path, kind) as writer:
        writer.write(records)


def read_records(path: Path, kind: type[Kind]) -> Iterator[Kind]:
    """Parse a table of `kind`, group by group.

    Raises:
        FileInvalid: it is missing, torn, or of another schema.
    """
    for group in range(count_groups(path, kind)):
        yield from read_group(path, group, kind)


def read_group(path: Path, group: int, kind: type[Kind]) -> list[Kind]:
    """Parse one row group of a table of `kind`.

    Raises:
        FileInvalid: it is torn, or a row is none of its kind.
    """
    return parse_table(read_group_table(path, group), kind, path)


def read_group_table(path: Path, group: int, columns: list[str] | None = None) -> Any:
    """One row group as a pyarrow.Table; `columns` names those that are wanted.

    Raises:
        FileInvalid: it is torn.
    """
    with _reading(path) as file:
        return file.read_row_group(group, columns=columns)


def read_table(path: Path, kind: type[BaseModel], columns: list[str] | None = None) -> Any:
    """A whole table as a pyarrow.Table; name the `columns` that are wanted when it may be large.

    Raises:
        FileInvalid: it is missing, torn, or of another schema.
    """
    count_groups(path, kind)
    with _reading(path) as file:
        return file.read(columns=columns)


def count_groups(path: Path, kind: type[BaseModel]) -> int:
    """The number of row groups of a table of `kind`.

    Raises:
        FileInvalid: it is missing, torn, or of another schema.
    """
    with _reading(path) as file:
        found, expected = file.schema_arrow, SCHEMAS[kind]
        if not found.equals(expected):
            raise FileInvalid(
                f"{path}: not a table of {kind.__name__}: found columns {', '.join(found.names)}, "
                f"expected {', '.join(expected.names)}; remove it and run `dvc repro`"
            )
        return int(file.num_row_groups)


def count_rows(path: Path) -> int:
    """The number of rows of a table.

    Raises:
        FileInvalid: it is missing or torn.
    """
    with _reading(path) as file:
        return int(file.metadata.num_rows)


def to_table(records: Iterable[Kind], kind: type[Kind]) -> Any:
    """Records as a pyarrow.Table of their schema."""
    return pa.Table.from_pylist([record.model_dump() for record in records], schema=SCHEMAS[kind])


def parse_table(table: Any, kind: type[Kind], path: Path) -> list[Kind]:
    """The rows of a pyarrow.Table as records; `path` is where it came from.

    Raises:
        FileInvalid: a row is none of its kind.
    """
    try:
        return [kind.model_validate(row) for row in table.to_pylist()]
    except ValidationError as error:
        issue = error.errors()[0]
        field = ".".join(map(str, issue["loc"]))
        raise FileInvalid(
            f"{path}: not a {kind.__name__}: {field}: {issue['msg']}; remove it and run `dvc repro`"
        ) from None


def read_foreign_rows(path: Path, max_columns: int) -> Iterator[dict[str, object] | Exception]:
    """The rows of a Parquet file that others wrote, batch by batch; for one that cannot be had, what was raised.

    Raises:
        SourceInvalid: it is torn, not Parquet, or has more than `max_columns` columns or two of one name.
    """
    try:
        with pq.ParquetFile(path) as file:
            if (found := len(file.schema_arrow)) > max_columns:
                raise SourceInvalid(f"{path}: {found} columns, at most {max_columns}; export those that are wanted")
            if len(set(file.schema_arrow.names)) < found:
                raise SourceInvalid(f"{path}: a column name comes twice; rename one and export it again")
            for batch in file.iter_batches(batch_size=FOREIGN_ROWS_PER_BATCH):
                yield from _foreign_batch(batch)
    except (pa.ArrowException, OSError) as error:
        raise SourceInvalid(f"{path}: not a readable Parquet file ({_first_line(error)}); export it again") from None


def _foreign_batch(batch: Any) -> Iterator[dict[str, object] | Exception]:
    try:
        yield from batch.to_pylist()
    except Exception:  # noqa: BLE001  no UTF-8, a date beyond the calendar, an unknown time zone; one by one it costs that row
        for index in range(batch.num_rows):
            try:
                (row,) = batch.slice(index, 1).to_pylist()
            except Exception as error:  # noqa: BLE001  as above
                yield error
            else:
                yield row


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise FileInvalid(f"{path}: no such file; run `dvc repro` to make it") from None
    except (pa.ArrowException, OSError) as error:
        raise FileInvalid(
            f"{path}: torn or not Parquet ({_first_line(error)}); remove it and run `dvc repro`"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write examples, one row each, in the order given."""
    write_records(path, examples, Example)


def read_examples(path: Path) -> list[Example]:
    """Parse a table of examples that is known to be small.

    Raises:
        FileInvalid: it is missing, torn, or of another schema.
    """
    return list(read_records(path, Example))
