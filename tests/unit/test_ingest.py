import json
from pathlib import Path

import pytest

from tasks import paths
from tasks.errors import SourceInvalid
from tasks.ingest import ingest
from tasks.params import IngestParams, Source

PARAMS = IngestParams(max_broken_share=0.5)


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    paths.SOURCES.mkdir(parents=True)
    return tmp_path


def source(name: str, *lines: str) -> Source:
    path = paths.SOURCES / f"{name}.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    layout = {"kind": "auto", "system": ""}
    fields = {"name": name, "role": "train", "path": str(path), "repo_id": None, "revision": None}
    return Source.model_validate({**fields, "layout": layout})


def row(prompt: str) -> str:
    return json.dumps({"prompt": prompt, "completion": "x"})


def test_exact_duplicates_get_distinct_ids_of_sixteen_hex_digits() -> None:
    ids = [example.id for example in ingest([source("one", row("a"), row("a"))], PARAMS).examples]
    assert len(set(ids)) == 2
    assert {len(name) for name in ids} == {16}


def test_an_id_does_not_depend_on_the_position_of_its_row() -> None:
    forward = ingest([source("one", row("a"), row("b"))], PARAMS).examples
    backward = ingest([source("one", row("b"), row("a"))], PARAMS).examples
    assert {e.prompt: e.id for e in forward} == {e.prompt: e.id for e in backward}


def test_the_same_row_of_two_sources_has_two_ids() -> None:
    examples = ingest([source("one", row("a")), source("two", row("a"))], PARAMS).examples
    assert examples[0].id != examples[1].id


def test_a_broken_row_is_in_the_ledger_with_file_line_and_rule() -> None:
    (entry,) = ingest([source("one", row("a"), '{"prompt": 7, "completion": "x"}')], PARAMS).entries
    assert (entry.file, entry.line, entry.stage, entry.fate) == ("data/sources/one.jsonl", 2, "ingest", "dropped")
    assert (entry.rule, entry.value) == ("wrong_type", "prompt: int, expected text")


def test_the_recognised_layout_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    ingest([source("one", row("a"))], PARAMS)
    assert capsys.readouterr().out == "ingest: one: layout prompt_completion (recognised)\n"


def test_the_threshold_itself_of_broken_rows_passes() -> None:
    assert len(ingest([source("one", row("a"), "broken")], PARAMS).examples) == 1


def test_too_many_broken_rows_are_refused_with_the_first_five_places() -> None:
    lines = [row("a"), *["broken"] * 7]
    with pytest.raises(SourceInvalid) as caught:
        ingest([source("one", *lines)], PARAMS)
    message = str(caught.value)
    assert "7 of 8 rows are broken, ingest.max_broken_share allows 50.0%" in message
    assert [f"one.jsonl:{line}: json_syntax" in message for line in range(2, 9)] == [True] * 5 + [False] * 2
    assert message.endswith("and 2 more")


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
