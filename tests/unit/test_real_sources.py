"""Every real data set at hand through `ingest`: nothing is lost, the layout is the expected one."""

import hashlib
import json
from pathlib import Path

import pytest

from tasks import paths
from tasks.errors import SourceInvalid
from tasks.ingest import ingest
from tasks.params_data import IngestParams, Source
from tasks.records import DataSummary, Example
from tasks.tables import read_records
from tests.realdata import REALDATA

pytestmark = pytest.mark.realdata

ROOT = Path(__file__).parents[2]
AUTO: dict[str, object] = {"kind": "auto", "system": "", "tools": "native"}
BANKING = {
    "kind": "template",
    "system": "",
    "prompt": "{text}",
    "completion": "{category}",
    "required": ["text", "category"],
    "allowed": {},
}
QUESTION = {
    "kind": "template",
    "system": "",
    "prompt": "{query}",
    "completion": "{query}",
    "required": ["query"],
    "allowed": {},
}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ingested(name: str, layout: dict[str, object]) -> tuple[DataSummary, list[Example]]:
    path = REALDATA / name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    fields = {"name": "real", "role": "train", "path": str(path), "sha256": digest, "repo_id": None, "revision": None}
    source = Source.model_validate({**fields, "weight": 1.0, "layout": layout})
    summary = ingest([source], IngestParams(max_broken_share=0.0))
    return summary, list(read_records(paths.INGEST / paths.EXAMPLES, Example))


@pytest.mark.parametrize(
    ("name", "layout", "kind", "rows"),
    [
        ("alpaca/alpaca_data.json", AUTO, "alpaca", 52_002),
        ("banking77/train.csv", BANKING, "template", 10_003),
        ("banking77/test.csv", BANKING, "template", 3_080),
        ("dolly_small/dolly_hhrlhf_train_small.jsonl", AUTO, "prompt_completion", 1_000),
        ("gsm8k/train.jsonl", AUTO, "prompt_completion", 7_473),
        ("gsm8k/test.jsonl", AUTO, "prompt_completion", 1_319),
        ("llamafactory_demo/alpaca_en_demo.json", AUTO, "alpaca", 999),
        ("llamafactory_demo/glaive_toolcall_en_demo.json", AUTO, "sharegpt", 300),
        ("benchmarks/ARC-Easy_test.json", AUTO, "alpaca", 2_376),
        ("benchmarks/ARC-Challenge_test.json", AUTO, "alpaca", 1_172),
        ("benchmarks/piqa.jsonl", QUESTION, "template", 1_838),
        ("benchmarks/openbook_qa.jsonl", QUESTION, "template", 500),
    ],
)
def test_every_row_becomes_an_example(name: str, layout: dict[str, object], kind: str, rows: int) -> None:
    summary, examples = ingested(name, layout)
    assert summary.notes[0] == f"real: layout {kind}"
    assert (summary.rows_in, summary.rows_out, summary.dropped) == (rows, rows, {})
    assert len({example.id for example in examples}) == rows


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("llamafactory_demo/dpo_en_demo.json", "recognised a DPO preference layout"),
        ("llamafactory_demo/kto_en_demo.json", "recognised a KTO preference layout"),
        ("banking77/train.csv", r"make a conversation of your columns with a template, such as\s+layout:"),
        ("banking77/categories.json", "77 of 77 rows are broken, no good row is left"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_its_reason(name: str, problem: str) -> None:
    with pytest.raises(SourceInvalid, match=problem):
        ingested(name, AUTO)


def test_alpaca_rows_are_those_of_the_file_and_so_are_their_numbers() -> None:
    _, examples = ingested("alpaca/alpaca_data.json", AUTO)
    rows = json.loads((REALDATA / "alpaca/alpaca_data.json").read_text(encoding="utf-8"))
    assert [example.messages[-1].content for example in examples] == [row["output"] for row in rows]
    assert [example.line for example in examples] == list(range(1, len(rows) + 1))


def test_tool_calls_survive_word_for_word() -> None:
    _, examples = ingested("llamafactory_demo/glaive_toolcall_en_demo.json", AUTO)
    rows = json.loads((REALDATA / "llamafactory_demo/glaive_toolcall_en_demo.json").read_text(encoding="utf-8"))
    expected = [
        json.loads(turn["value"]) for row in rows for turn in row["conversations"] if turn["from"] == "function_call"
    ]
    found = [json.loads(m.tool_calls) for example in examples for m in example.messages if m.tool_calls is not None]
    assert [call["function"] for calls in found for call in calls] == expected
    assert len(expected) > 100
    tools = [json.loads(example.tools) if example.tools else [] for example in examples]
    assert [[tool["function"] for tool in one] for one in tools] == [json.loads(row["tools"] or "[]") for row in rows]
    turns = [len(row["conversations"]) for row in rows]
    assert [len(example.messages) for example in examples] == turns
