from pathlib import Path

from tasks import clean, paths
from tasks.params_data import EngineParams
from tasks.records import Example, LedgerEntry, QuarantinedRow
from tasks.tables import read_examples, read_records, write_examples
from tests.unit.cleaning import with_params, write_tokenizer
from tests.unit.rows import example

FILES = (paths.EXAMPLES, paths.LEDGER, paths.QUARANTINE, paths.SUMMARY)


def rows(count: int) -> list[Example]:
    """Rows of which every tenth has no answer, and every tenth an address in its prompt."""
    prompts = {3: "Write to ann@mail.org"}
    return [
        example(f"{i:05d}", prompts.get(i % 10, f"Where is parcel {i}?"), "" if i % 10 == 7 else "yes")
        for i in range(count)
    ]


def run(folder: Path, count: int, workers: int) -> list[bytes]:
    source = folder / "examples.parquet"
    write_examples(source, rows(count))
    out = folder / f"out{workers}"
    engine = EngineParams(runner="native", ray_address=None, workers=workers)
    clean.clean(source, write_tokenizer(folder / "tokenizer"), out, with_params(), engine)
    return [(out / name).read_bytes() for name in FILES]


def test_every_row_is_kept_or_dropped_and_quarantined(tmp_path: Path) -> None:
    run(tmp_path, 100, workers=1)
    kept = read_examples(tmp_path / "out1" / paths.EXAMPLES)
    entries = list(read_records(tmp_path / "out1" / paths.LEDGER, LedgerEntry))
    quarantined = list(read_records(tmp_path / "out1" / paths.QUARANTINE, QuarantinedRow))
    assert len(kept) == 90
    assert [entry.rule for entry in entries] == ["pii_masked", "empty_completion"] * 10
    assert [row.id for row in quarantined] == [entry.id for entry in entries if entry.fate == "dropped"]
    assert {row.id for row in quarantined} | {row.id for row in kept} == {row.id for row in rows(100)}


def test_the_summary_counts_the_ledger(tmp_path: Path) -> None:
    source = tmp_path / "examples.parquet"
    write_examples(source, rows(20))
    engine = EngineParams(runner="native", ray_address=None, workers=1)
    found = clean.clean(source, write_tokenizer(tmp_path / "tokenizer"), tmp_path / "out", with_params(), engine)
    assert (found.rows_in, found.rows_out) == (20, 18)
    assert (found.dropped, found.changed, found.kept) == ({"empty_completion": 2}, {"pii_masked": 2}, {"tickets": 18})


def test_two_workers_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    assert run(tmp_path, 9000, workers=2) == run(tmp_path, 9000, workers=1)
