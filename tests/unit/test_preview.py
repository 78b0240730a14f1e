import hashlib
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tasks import paths
from tasks.errors import SourceInvalid
from tasks.ingest import ingest
from tasks.params_data import IngestParams, Source
from tasks.preview import NEEDS_TEMPLATE, BrokenPreview, PreviewFile, preview_path, preview_source, reason_to_refuse
from tasks.tables import read_examples

PAIR = '{"prompt": "a", "completion": "b"}\n'
LABELLED = "text,category\nWhere is my card?,card\nHow do I pay by card?,card\n"


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.SOURCES.mkdir(parents=True)


def written(name: str, text: str) -> Path:
    path = paths.SOURCES / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def source(path: Path, kind: str = "auto") -> Source:
    layout = {"kind": kind, "system": "", "tools": "native"}
    fields = {"name": "own", "role": "train", "path": str(path), "sha256": None, "repo_id": None, "revision": None}
    return Source.model_validate({**fields, "weight": 1.0, "layout": layout})


def proposed(text: str | None) -> Source:
    assert text is not None
    (entry,) = YAML(typ="safe", pure=True).load(text)
    return Source.model_validate(entry)


def test_a_preview_says_what_a_source_is() -> None:
    path = written("a.jsonl", PAIR + '{"prompt": "c", "completion": "d", "topic": "e"}\n' + "broken\n")
    preview = preview_source(source(path), rows=1)
    assert preview.files == (PreviewFile(name="data/sources/a.jsonl", size_bytes=path.stat().st_size),)
    assert (preview.layout, preview.is_recognised, preview.problem) == ("prompt_completion", True, None)
    assert preview.columns == ("prompt", "completion", "topic")
    assert preview.unread_columns == ("topic",)
    assert (preview.rows_read, preview.fits) == (3, {"prompt_completion": 2})
    assert preview.broken_by_rule == {"json_syntax": 1}
    (broken,) = preview.broken
    assert (broken.file, broken.line, broken.rule) == ("data/sources/a.jsonl", 3, "json_syntax")
    assert [message.content for message in preview.examples[0].messages] == ["a", "b"]
    assert len(preview.examples) == 1
    assert preview.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_examples_of_a_preview_are_those_of_ingest() -> None:
    path = written("a.jsonl", PAIR * 2)
    ingest([source(path)], IngestParams(max_broken_share=0.0))
    assert preview_source(source(path), rows=9).examples == tuple(read_examples(paths.INGEST / paths.EXAMPLES))


def test_a_given_layout_is_not_recognised() -> None:
    preview = preview_source(source(written("a.jsonl", PAIR), "messages"), rows=1)
    assert (preview.layout, preview.is_recognised) == ("messages", False)
    assert preview.broken == (
        BrokenPreview(file="data/sources/a.jsonl", line=1, rule="missing_column", value="messages"),
    )


def test_a_file_of_another_kind_in_a_folder_is_seen() -> None:
    for number in range(40):
        written(f"many/{number:02}.jsonl", PAIR * 20)
    written("many/99.jsonl", '{"instruction": "a", "output": "b"}\n')
    preview = preview_source(source(paths.SOURCES / "many"), rows=1)
    assert (len(preview.files), preview.files_left_out, preview.sha256) == (20, 21, None)
    assert preview.broken_by_rule == {"other_layout": 1}


def test_a_preference_file_has_a_problem_and_no_proposal() -> None:
    path = written("a.jsonl", json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}))
    preview = preview_path(path, rows=1)
    assert preview.problem is not None
    assert "recognised a DPO preference layout" in preview.problem
    assert (preview.layout, preview.fits, preview.proposal) == (None, {"dpo": 1}, None)


def test_a_file_without_a_readable_row_has_a_problem() -> None:
    preview = preview_path(written("a.jsonl", "broken\n"), rows=1)
    assert (preview.problem, preview.proposal) == ("no row can be read", None)
    assert preview.broken_by_rule == {"json_syntax": 1}


def test_a_path_in_the_workspace_is_proposed_by_its_name() -> None:
    path = written("My rows.v2.jsonl", PAIR)
    assert proposed(preview_path(path, rows=1).proposal) == source(path).model_copy(update={"name": "my_rows"})


def test_a_file_elsewhere_is_proposed_with_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.jsonl"
    path.write_text(PAIR)
    entry = proposed(preview_path(Path("elsewhere.jsonl"), rows=1).proposal)
    assert (entry.path, entry.sha256) == (str(path), hashlib.sha256(PAIR.encode()).hexdigest())


def test_a_proposed_template_can_be_ingested_as_it_stands() -> None:
    preview = preview_path(written("labelled.csv", LABELLED), rows=1)
    ingest([proposed(preview.proposal)], IngestParams(max_broken_share=0.0))
    first, _ = read_examples(paths.INGEST / paths.EXAMPLES)
    assert [message.content for message in first.messages] == ["Where is my card?", "card"]


def test_a_proposal_is_as_deep_as_the_entries_of_params_yaml() -> None:
    for path in (written("a.jsonl", PAIR), written("labelled.csv", LABELLED)):
        proposal = preview_path(path, rows=1).proposal
        assert proposal is not None
        assert proposal.startswith("  - name: ")
        whole = "sources:\n  - name: first\n" + proposal + "ingest: {}\n"
        assert [entry["name"] for entry in YAML(typ="safe", pure=True).load(whole)["sources"]] == ["first", path.stem]


def test_a_problem_that_the_proposed_template_solves_does_not_print_it_again() -> None:
    preview = preview_path(written("labelled.csv", LABELLED), rows=1)
    assert preview.problem == NEEDS_TEMPLATE
    assert reason_to_refuse(preview, 0.0) is None


@pytest.mark.parametrize(
    ("text", "share", "reason"),
    [
        (PAIR * 97 + "x\n" * 3, 0.03, None),
        (PAIR * 96 + "x\n" * 4, 0.03, "4 of 100 rows are broken, ingest.max_broken_share allows 3.0%"),
        ("x\n" * 10 + PAIR * 990, 0.03, None),
        ("x\n", 1.0, "no row can be read"),
        (json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}), 1.0, "recognised a DPO preference layout"),
    ],
)
def test_what_a_run_would_refuse_is_said_before_it(text: str, share: float, reason: str | None) -> None:
    found = reason_to_refuse(preview_path(written("a.jsonl", text), rows=1), share)
    assert (found is None) if reason is None else (reason in (found or ""))


@pytest.mark.parametrize(("name", "problem"), [("nothing", "no such file or folder"), (".", "cannot be pinned")])
def test_a_path_that_can_be_no_source_is_refused(name: str, problem: str) -> None:
    with pytest.raises(SourceInvalid, match=problem):
        preview_path(Path(name), rows=1)
