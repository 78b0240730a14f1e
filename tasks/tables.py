"""Parquet tables, the one owner of pyarrow: records in an explicit schema, and the rows of foreign files.

The same records give the same bytes; a table appears whole or not at all; what is read is parsed at once.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from tasks.errors import FileInvalid, SourceInvalid
from tasks.files import whole
from tasks.records import ClusterMember, Example, LedgerEntry, Pair

Kind = TypeVar("Kind", bound=BaseModel)

MESSAGE = pa.struct([pa.field("role", pa.string(), nullable=False), pa.field("content", pa.string(), nullable=False)])

EXAMPLE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("messages", pa.list_(MESSAGE), nullable=False),
    ]
)
LEDGER_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("fate", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("value", pa.string(), nullable=False),
    ]
)
CLUSTER_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("id", "cluster")])
PAIR_SCHEMA = pa.schema(
    [
        pa.field("left", pa.string(), nullable=False),
        pa.field("right", pa.string(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
    ]
)


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write examples, one row each, in the order given."""
    _write(path, examples, EXAMPLE_SCHEMA)


def read_examples(path: Path) -> list[Example]:
    """Parse a table of `write_examples`.

    Raises:
        FileInvalid: it is missing, torn, or of another schema.
    """
    return _read(path, Example, EXAMPLE_SCHEMA)


def write_ledger(path: Path, entries: Iterable[LedgerEntry]) -> None:
    """Write ledger entries, one row each, in the order given."""
    _write(path, entries, LEDGER_SCHEMA)


def read_ledger(path: Path) -> list[LedgerEntry]:
    """Parse a table of `write_ledger`.

    Raises:
        FileInvalid: it is missing, torn, or of another schema.
    """
    return _read(path, LedgerEntry, LEDGER_SCHEMA)


def write_clusters(path: Path, members: Iterable[ClusterMember]) -> None:
    """Write the cluster of every row."""
    _write(path, members, CLUSTER_SCHEMA)


def read_clusters(path: Path) -> dict[str, str]:
    """The cluster of every row, by the row's id.

    Raises:
        FileInvalid: it is missing, torn, or of another schema.
    """
    return {member.id: member.cluster for member in _read(path, ClusterMember, CLUSTER_SCHEMA)}


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write verified pairs of near duplicates."""
    _write(path, pairs, PAIR_SCHEMA)


def read_pairs(path: Path) -> list[Pair]:
    """Parse a table of `write_pairs`.

    Raises:
        FileInvalid: it is missing, torn, or of another schema.
    """
    return _read(path, Pair, PAIR_SCHEMA)


def read_foreign_rows(path: Path) -> Iterator[dict[str, object]]:
    """The rows of a Parquet file that others wrote, batch by batch.

    Raises:
        SourceInvalid: it is torn or not Parquet.
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SourceInvalid(f"{path}: not a readable Parquet file ({_first_line(error)}); export it again") from None


def _write(path: Path, records: Iterable[BaseModel], schema: Any) -> None:
    table = pa.Table.from_pylist([record.model_dump() for record in records], schema=schema)
    with whole(path) as partial:
        pq.write_table(table, partial, compression="zstd", use_dictionary=True)


def _read(path: Path, kind: type[Kind], schema: Any) -> list[Kind]:
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except FileNotFoundError:
        raise FileInvalid(f"{path}: no such file; run `dvc repro` to make it") from None
    except (pa.ArrowException, OSError) as error:
        raise FileInvalid(
            f"{path}: torn or not Parquet ({_first_line(error)}); remove it and run `dvc repro`"
        ) from None
    if not table.schema.equals(schema):
        raise FileInvalid(
            f"{path}: not a table of {kind.__name__}: found columns {', '.join(table.schema.names)}, "
            f"expected {', '.join(schema.names)}; remove it and run `dvc repro`"
        )
    try:
        return [kind.model_validate(row) for row in table.to_pylist()]
    except ValidationError as error:
        issue = error.errors()[0]
        field = ".".join(map(str, issue["loc"]))
        raise FileInvalid(
            f"{path}: not a {kind.__name__}: {field}: {issue['msg']}; remove it and run `dvc repro`"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
