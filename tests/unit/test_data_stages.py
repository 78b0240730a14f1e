"""The four stages that move rows, run one after the other over dirty sources: no row disappears silently."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from tasks import clean, dedup, ingest, paths, split, validate
from tasks.approvals import Approval
from tasks.errors import DataRefused
from tasks.files import read_json, write_json
from tasks.params import Benchmark, Params, load_params
from tasks.params_data import IngestParams, NamedLayout, Source, TemplateLayout
from tasks.records import BenchmarkItem, Champion, DataSummary, LedgerEntry
from tasks.tables import read_records, write_records
from tests.unit.rows import CLEAN, DEDUP, SPLIT
from tests.unit.tiny_model import make_tokenizer

ROOT = Path(__file__).parents[2]
FOLDERS = (paths.INGEST, paths.CLEAN, paths.DEDUP, paths.SPLIT)


LAYOUT = TemplateLayout(
    kind="template",
    system="Route the ticket.",
    prompt="{text}",
    completion="{queue}",
    required=["text"],
    allowed={"queue": ["repair", "sales"]},
)
BENCHMARK = Benchmark(name="ticket_routing", role="target", num_fewshot=0)


def source(name: str, role: Literal["train", "replay"], layout: TemplateLayout | NamedLayout) -> Source:
    path = f"{paths.SOURCES}/{name}.jsonl"
    return Source(name=name, role=role, path=path, sha256=None, repo_id=None, revision=None, weight=1.0, layout=layout)


def pipeline_params() -> Params:
    """The shipped parameters with sources, benchmarks and rules of this test's own."""
    shipped = load_params(ROOT / paths.PARAMS)
    sources = [
        source("tickets", "train", LAYOUT),
        source("general", "replay", NamedLayout(kind="auto", system="Answer.", tools="native")),
    ]
    own = {
        "sources": sources,
        "ingest": IngestParams(max_broken_share=0.05),
        "clean": CLEAN,
        "dedup": DEDUP,
        "split": SPLIT,
        "evaluate": shipped.evaluate.model_copy(update={"benchmarks": [BENCHMARK]}),
    }
    return shipped.model_copy(update=own)


PARAMS = pipeline_params()


def ticket(text: str, queue: str = "repair") -> str:
    return json.dumps({"text": text, "queue": queue})


def tickets() -> Iterator[str]:
    for number in range(60):
        yield ticket(
            f"device number {number} makes noise {number * 7} and smells of {number * 13} plums since day {number}"
        )
    yield from [ticket("exactly the same ticket twice"), ticket("exactly the same ticket twice")]
    yield from [ticket("same text with two labels"), ticket("same text with two labels", "sales")]
    yield ticket("   ")
    yield ticket("cut off in the middle of [...]")
    yield ticket("please write to ann@mail.org about the cafÃ©")
    yield ticket("this one stands in the benchmark word for word alas")
    yield ticket("a queue that nobody knows", "other")


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for stage in (ingest, clean, dedup, split, validate):
        monkeypatch.setattr(stage, "load_params", lambda: PARAMS)
    for folder in (paths.SOURCES, paths.SUITE.parent):
        folder.mkdir(parents=True)
    for suite in (paths.SUITE, paths.DRIFT_SUITE):
        shutil.copy(ROOT / suite, suite)
    write_json(paths.CHAMPION, Champion())
    make_tokenizer().save_pretrained(paths.BASE_TOKENIZER)
    (paths.SOURCES / "tickets.jsonl").write_text("\n".join([*tickets(), '{"text": "cut']))
    replay = [json.dumps({"prompt": f"Name {n} rivers and {n} lakes.", "completion": "No."}) for n in range(30)]
    (paths.SOURCES / "general.jsonl").write_text("\n".join(replay))
    item = "This one stands in the benchmark, word for word, alas!"
    items = [BenchmarkItem(benchmark="ticket_routing", item=0, part="question", text=item)]
    write_records(paths.BENCHMARK_ITEMS / paths.ITEMS, items, BenchmarkItem)
    return tmp_path


def run_to_split() -> list[LedgerEntry]:
    for stage in (ingest, clean, dedup, split):
        stage.main()
    return [entry for folder in FOLDERS for entry in read_records(folder / paths.LEDGER, LedgerEntry)]


def test_every_ingested_row_has_exactly_one_final_fate() -> None:
    final = [entry.id for entry in run_to_split() if entry.fate != "changed"]
    assert len(final) == len(set(final)) == 70 + 30


def test_every_kind_of_dirt_is_dropped_by_its_rule() -> None:
    dropped = Counter(entry.rule for entry in run_to_split() if entry.fate == "dropped")
    dropped.pop("replay_not_needed")
    assert dropped == {
        "json_syntax": 1,
        "label_unknown": 1,
        "empty": 1,
        "truncated": 1,
        "exact_duplicate": 1,
        "conflicting_answers": 2,
        "in_benchmark": 1,
    }


def test_the_rows_out_of_a_stage_are_the_rows_into_the_next() -> None:
    run_to_split()
    summaries = [read_json(folder / paths.SUMMARY, DataSummary) for folder in FOLDERS]
    assert [one.rows_out for one in summaries[:-1]] == [one.rows_in for one in summaries[1:]]
    assert all(one.rows_in - sum(one.dropped.values()) == one.rows_out for one in summaries)


def test_a_second_run_writes_the_same_bytes() -> None:
    run_to_split()
    first = {path: path.read_bytes() for folder in FOLDERS for path in sorted(folder.iterdir())}
    run_to_split()
    assert {path: path.read_bytes() for path in first} == first


def test_too_few_examples_are_refused_and_the_evidence_is_written() -> None:
    run_to_split()
    with pytest.raises(DataRefused, match=r"in_train: expect_column_sum_to_be_between\(min_value=400.0\); observed 63"):
        validate.main()
    assert read_json(paths.DATA_APPROVAL, Approval).decision == "refused"
    assert (paths.DATA_DOCS / "index.html").is_file()
