import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks import paths
from tasks.errors import SourceInvalid
from tasks.ingest import ingest
from tasks.params_data import IngestParams, Source
from tasks.records import DataSummary, Example, LedgerEntry, QuarantinedRow
from tasks.tables import read_records

PARAMS = IngestParams(max_broken_share=0.5)


@dataclass(frozen=True)
class Ingested:
    """What ingest wrote."""

    summary: DataSummary
    examples: tuple[Example, ...]
    entries: tuple[LedgerEntry, ...]
    quarantined: tuple[QuarantinedRow, ...]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    paths.SOURCES.mkdir(parents=True)
    return tmp_path


def ingested(sources: list[Source], params: IngestParams = PARAMS) -> Ingested:
    return Ingested(
        ingest(sources, params),
        tuple(read_records(paths.INGEST / paths.EXAMPLES, Example)),
        tuple(read_records(paths.INGEST / paths.LEDGER, LedgerEntry)),
        tuple(read_records(paths.INGEST / paths.QUARANTINE, QuarantinedRow)),
    )


def source(name: str, *lines: str) -> Source:
    path = paths.SOURCES / f"{name}.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return at(name, path)


def at(name: str, path: Path) -> Source:
    layout = {"kind": "auto", "system": "", "tools": "native"}
    fields = {"name": name, "role": "train", "path": str(path), "repo_id": None, "revision": None}
    return Source.model_validate({**fields, "sha256": None, "weight": 1.0, "layout": layout})


def row(prompt: str) -> str:
    return json.dumps({"prompt": prompt, "completion": "x"})


def test_exact_duplicates_get_distinct_ids_of_sixteen_hex_digits() -> None:
    ids = [example.id for example in ingested([source("one", row("a"), row("a"))]).examples]
    assert len(set(ids)) == 2
    assert {len(name) for name in ids} == {16}


def test_an_id_does_not_depend_on_the_position_of_its_row() -> None:
    forward = ingested([source("one", row("a"), row("b"))]).examples
    backward = ingested([source("one", row("b"), row("a"))]).examples
    assert {e.prompt: e.id for e in forward} == {e.prompt: e.id for e in backward}


def test_the_same_row_of_two_sources_has_two_ids() -> None:
    examples = ingested([source("one", row("a")), source("two", row("a"))]).examples
    assert examples[0].id != examples[1].id


def test_a_broken_row_is_in_the_ledger_with_file_line_and_rule() -> None:
    (entry,) = ingested([source("one", row("a"), '{"prompt": 7, "completion": "x"}')]).entries
    assert (entry.file, entry.line, entry.stage, entry.fate) == ("data/sources/one.jsonl", 2, "ingest", "dropped")
    assert (entry.rule, entry.value) == ("wrong_type", "prompt: int, expected text")


def test_the_recognised_layout_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    ingest([source("one", row("a"))], PARAMS)
    assert capsys.readouterr().out == "ingest: one: layout prompt_completion (recognised)\n"


def test_the_threshold_itself_of_broken_rows_passes() -> None:
    assert len(ingested([source("one", row("a"), "broken")]).examples) == 1


def test_too_many_broken_rows_are_refused_with_the_first_five_places() -> None:
    lines = [row("a"), *["broken"] * 7]
    with pytest.raises(SourceInvalid) as caught:
        ingest([source("one", *lines)], PARAMS)
    message = str(caught.value)
    assert "7 of 8 rows are broken, ingest.max_broken_share allows 50.0%" in message
    assert [f"one.jsonl:{line}: json_syntax" in message for line in range(2, 9)] == [True] * 5 + [False] * 2
    assert message.endswith("and 2 more")


def test_a_rule_that_says_it_all_has_no_colon_behind_it() -> None:
    with pytest.raises(SourceInvalid, match=r"one\.jsonl:1: blank_line\n.*one\.jsonl:2: blank_line$"):
        ingest([source("one", "", "", row("a"))], PARAMS)


def test_a_source_without_a_good_row_is_refused_whatever_is_allowed() -> None:
    bad = source("one", '{"prompt": 1, "completion": "x"}')
    with pytest.raises(SourceInvalid, match="1 of 1 rows are broken, no good row is left"):
        ingest([bad], IngestParams(max_broken_share=1.0))


def test_all_bad_sources_are_reported_at_once() -> None:
    good, empty, unknown = source("good", row("a")), source("empty"), source("unknown", '{"x": "y"}')
    with pytest.raises(SourceInvalid) as caught:
        ingest([good, empty, unknown], PARAMS)
    message = str(caught.value)
    assert message.startswith("2 of 3 sources cannot be used:")
    assert "empty_file" in message
    assert "layout not recognised" in message


def test_the_id_of_a_row_is_made_of_source_bytes_and_how_often_they_came_before() -> None:
    first, second = ingested([source("one", row("a"), row("a"))]).examples
    digest = hashlib.sha256(row("a").encode()).hexdigest()
    assert first.id == hashlib.sha256(f"one\0{digest}\0001".encode()).hexdigest()[:16]
    assert second.id == hashlib.sha256(f"one\0{digest}\0002".encode()).hexdigest()[:16]


def test_a_broken_row_is_kept_aside_with_its_bytes() -> None:
    (kept,) = ingested([source("one", row("a"), '{"prompt": 7, "completion": "x"}')]).quarantined
    assert (kept.rule, kept.text) == ("wrong_type", '{"prompt": 7, "completion": "x"}')


def test_a_quarantined_text_is_cut_at_ten_thousand_characters() -> None:
    (kept,) = ingested([source("one", row("a"), "é" * 20_000)]).quarantined
    assert kept.text == "é" * 10_000


def test_the_value_of_a_broken_row_tells_nothing_of_its_text() -> None:
    (entry,) = ingested([source("one", row("a"), '{"prompt": "secret word", "completion": secret}')]).entries
    assert "secret" not in entry.value


def test_a_torn_file_costs_one_entry_and_an_alarm_and_other_files_go_on() -> None:
    folder = paths.SOURCES / "many"
    folder.mkdir()
    lines = "".join(f"{row(f'{number} {number * 7919 % 10_007}')}\n" for number in range(20_000)).encode()
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines)[:40_000])
    (folder / "b.jsonl").write_text(row("b") + "\n")
    (folder / "c.jsonl").write_text("")
    found = ingested([at("many", folder)])
    assert [(entry.file, entry.rule) for entry in found.entries] == [
        ("data/sources/many/a.jsonl.gz", "compressed_torn"),
        ("data/sources/many/c.jsonl", "empty_file"),
    ]
    assert found.examples[-1].file == "data/sources/many/b.jsonl"
    assert found.entries[0].line == len(found.examples) > 1000
    torn, empty = found.summary.notes[1:]
    assert torn.startswith(f"alarm: many: data/sources/many/a.jsonl.gz:{found.entries[0].line}: compressed_torn: ")
    assert empty.startswith("alarm: many: data/sources/many/c.jsonl:0: empty_file: no bytes")


def test_the_sixth_broken_file_is_only_counted() -> None:
    folder = paths.SOURCES / "many"
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(row(str(number)) + "\n" for number in range(9)))
    for number in range(7):
        (folder / f"empty{number}.jsonl").write_text("")
    notes = ingested([at("many", folder)]).summary.notes
    assert notes[-1] == "alarm: many: 2 more files cannot be read to their end"


def test_columns_that_nothing_reads_are_told() -> None:
    extra = json.dumps({"prompt": "a", "completion": "b", "topic": "c"})
    assert ingested([source("one", extra)]).summary.notes[1] == "one: columns not read: topic"


def test_a_row_of_another_layout_is_a_broken_row() -> None:
    other = json.dumps({"instruction": "a", "output": "b"})
    (entry,) = ingested([source("one", row("a"), row("b"), other)]).entries
    assert entry.rule == "other_layout"


def test_rows_in_are_rows_out_and_rows_dropped() -> None:
    summary = ingested([source("one", row("a"), "broken"), source("two", row("b"), row("c"))]).summary
    assert (summary.rows_in, summary.rows_out, summary.dropped) == (4, 3, {"json_syntax": 1})
    assert summary.kept == {"one": 1, "two": 2}


def test_more_rows_than_a_row_group_come_out_in_order() -> None:
    examples = ingested([source("one", *(row(str(number)) for number in range(5000)))]).examples
    assert [example.prompt for example in examples] == [str(number) for number in range(5000)]
    assert [example.line for example in examples] == list(range(1, 5001))


def test_nothing_is_written_when_a_source_cannot_be_used() -> None:
    with pytest.raises(SourceInvalid):
        ingest([source("good", row("a")), source("empty")], PARAMS)
    assert list(paths.INGEST.iterdir()) == []


def test_a_second_run_writes_the_same_bytes() -> None:
    sources = [source("one", row("a"), "broken"), source("two", row("a"))]
    ingest(sources, PARAMS)
    first = {path: path.read_bytes() for path in sorted(paths.INGEST.iterdir())}
    ingest(sources, PARAMS)
    assert {path: path.read_bytes() for path in sorted(paths.INGEST.iterdir())} == first
