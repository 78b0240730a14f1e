import re
from pathlib import Path

import pytest

from tasks.errors import FileInvalid
from tasks.records import ClusterMember, LedgerEntry, Pair
from tasks.tables import (
    read_clusters,
    read_examples,
    read_ledger,
    read_pairs,
    write_clusters,
    write_examples,
    write_ledger,
    write_pairs,
)
from tests.unit.rows import example

ENTRY = LedgerEntry(
    id="a", source="tickets", file="tickets.jsonl", line=3, stage="clean", fate="dropped", rule="truncated", value="…"
)


def test_examples_come_back_as_they_were_written(tmp_path: Path) -> None:
    written = [example("a", "Ünïcode \U0001f600\0", system="Be brief."), example("b", role="replay")]
    write_examples(tmp_path / "examples.parquet", written)
    assert read_examples(tmp_path / "examples.parquet") == written


def test_no_examples_come_back_as_none(tmp_path: Path) -> None:
    write_examples(tmp_path / "examples.parquet", [])
    assert read_examples(tmp_path / "examples.parquet") == []


def test_ledger_entries_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.parquet", [ENTRY])
    assert read_ledger(tmp_path / "ledger.parquet") == [ENTRY]


def test_clusters_come_back_by_id(tmp_path: Path) -> None:
    write_clusters(tmp_path / "clusters.parquet", [ClusterMember(id="b", cluster="a")])
    assert read_clusters(tmp_path / "clusters.parquet") == {"b": "a"}


def test_pairs_come_back_as_they_were_written(tmp_path: Path) -> None:
    pair = Pair(left="a", right="b", similarity=0.75)
    write_pairs(tmp_path / "pairs.parquet", [pair])
    assert read_pairs(tmp_path / "pairs.parquet") == [pair]


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    write_examples(tmp_path / "one.parquet", [example("a")])
    write_examples(tmp_path / "two.parquet", [example("a")])
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_a_torn_table_names_its_path_and_the_next_move(tmp_path: Path) -> None:
    path = tmp_path / "examples.parquet"
    write_examples(path, [example("a")])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FileInvalid, match=re.escape(str(path)) + ".*torn.*dvc repro"):
        read_examples(path)


def test_a_missing_table_names_the_next_move(tmp_path: Path) -> None:
    with pytest.raises(FileInvalid, match="no such file; run `dvc repro`"):
        read_ledger(tmp_path / "ledger.parquet")


def test_a_table_of_other_records_is_refused(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.parquet", [ENTRY])
    with pytest.raises(FileInvalid, match="not a table of Example: found columns id, source, file"):
        read_examples(tmp_path / "ledger.parquet")
