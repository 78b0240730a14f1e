import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.errors import FileInvalid
from tasks.records import ClusterMember, Example, LedgerEntry, Message, Pair, QuarantinedRow
from tasks.tables import (
    ROWS_PER_GROUP,
    count_groups,
    count_rows,
    read_examples,
    read_group,
    read_group_table,
    read_records,
    to_table,
    write_examples,
    write_records,
    writing,
)
from tests.unit.rows import example

ENTRY = LedgerEntry(
    id="a", source="tickets", file="tickets.jsonl", line=3, stage="clean", fate="dropped", rule="truncated", value="…"
)


def test_examples_come_back_as_they_were_written(tmp_path: Path) -> None:
    call = Message(role="assistant", content="", tool_calls='[{"type":"function"}]')
    tools = example("c").model_copy(update={"messages": (call,), "tools": "[]", "repeat": 2})
    written = [example("a", "Ünïcode \U0001f600\0", system="Be brief."), example("b", role="replay"), tools]
    write_examples(tmp_path / "examples.parquet", written)
    assert read_examples(tmp_path / "examples.parquet") == written


def test_no_examples_come_back_as_none(tmp_path: Path) -> None:
    write_examples(tmp_path / "examples.parquet", [])
    assert read_examples(tmp_path / "examples.parquet") == []


@pytest.mark.parametrize(
    "record",
    [
        ENTRY,
        ClusterMember(id="b", cluster="a", anchor="c"),
        Pair(left="a", right="b", similarity=0.75),
        QuarantinedRow(id="a", source="s", file="f", line=1, rule="r", value="v", text="t"),
    ],
    ids=lambda record: type(record).__name__,
)
def test_records_of_each_kind_come_back_as_they_were_written(
    tmp_path: Path, record: LedgerEntry | ClusterMember | Pair | QuarantinedRow
) -> None:
    write_records(tmp_path / "table.parquet", [record], type(record))
    assert list(read_records(tmp_path / "table.parquet", type(record))) == [record]


def test_the_same_records_give_the_same_bytes_in_whatever_portions_they_come(tmp_path: Path) -> None:
    rows = [example(f"{number}") for number in range(ROWS_PER_GROUP + 10)]
    write_examples(tmp_path / "one.parquet", rows)
    with writing(tmp_path / "two.parquet", Example) as writer:
        writer.write(rows[:7])
        writer.write_table(to_table(rows[7:5000], Example))
        writer.write(rows[5000:])
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_a_table_is_read_group_by_group(tmp_path: Path) -> None:
    rows = [example(f"{number}") for number in range(2 * ROWS_PER_GROUP + 1)]
    write_examples(tmp_path / "rows.parquet", rows)
    assert (count_groups(tmp_path / "rows.parquet", Example), count_rows(tmp_path / "rows.parquet")) == (3, 8193)
    assert read_group(tmp_path / "rows.parquet", 2, Example) == rows[-1:]
    assert read_group_table(tmp_path / "rows.parquet", 1, ["id"]).column("id")[0].as_py() == str(ROWS_PER_GROUP)
    assert pq.ParquetFile(tmp_path / "rows.parquet").metadata.row_group(0).num_rows == ROWS_PER_GROUP


def test_a_table_that_breaks_off_does_not_appear(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), writing(tmp_path / "rows.parquet", Example) as writer:  # noqa: PT012
        writer.write([example("a")])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_torn_table_names_its_path_and_the_next_move(tmp_path: Path) -> None:
    path = tmp_path / "examples.parquet"
    write_examples(path, [example("a")])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FileInvalid, match=re.escape(str(path)) + ".*torn.*dvc repro"):
        read_examples(path)


def test_a_missing_table_names_the_next_move(tmp_path: Path) -> None:
    with pytest.raises(FileInvalid, match="no such file; run `dvc repro`"):
        list(read_records(tmp_path / "ledger.parquet", LedgerEntry))


def test_a_table_of_other_records_is_refused(tmp_path: Path) -> None:
    write_records(tmp_path / "ledger.parquet", [ENTRY], LedgerEntry)
    with pytest.raises(FileInvalid, match="not a table of Example: found columns id, source, file"):
        read_examples(tmp_path / "ledger.parquet")
