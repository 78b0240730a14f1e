import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks import paths
from tasks import split as stage
from tasks.errors import FileInvalid
from tasks.files import read_json
from tasks.params import Params, load_params
from tasks.params_data import EngineParams, Source
from tasks.records import BenchmarkItem, ClusterMember, ContaminatedItems, DataSummary, Example, LedgerEntry
from tasks.split import FILES, PARTITIONS
from tasks.tables import read_examples, read_records, write_examples, write_records
from tests.realdata import REALDATA
from tests.unit.rows import SPLIT, example

ROOT = Path(__file__).parents[2]
SENTENCE = "this very sentence stands in a benchmark item too"


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def source(name: str, role: str, weight: float = 1.0) -> Source:
    return Source.model_validate(
        {
            "name": name,
            "role": role,
            "path": f"{paths.SOURCES}/{name}.jsonl",
            "sha256": None,
            "repo_id": None,
            "revision": None,
            "weight": weight,
            "layout": {"kind": "auto", "system": "", "tools": "native"},
        }
    )


def params(weight: float = 1.0, workers: int = 1, **changes: object) -> Params:
    sources = [source("tickets", "train", weight)]
    own = {
        "sources": sources,
        "split": SPLIT.model_copy(update=changes),
        "engine": EngineParams(runner="native", ray_address=None, workers=workers),
    }
    return load_params(ROOT / paths.PARAMS).model_copy(update=own)


def item(number: int, text: str) -> BenchmarkItem:
    return BenchmarkItem(benchmark="bench", item=number, part="question", text=text)


def give(rows: Sequence[Example], items: Sequence[BenchmarkItem] = (), clusters: dict[str, str] | None = None) -> None:
    names = clusters or {row.id: row.id for row in rows}
    anchors: dict[str, str] = {}
    members = [
        ClusterMember(id=name, cluster=cluster, anchor=anchors.setdefault(cluster, name))
        for name, cluster in names.items()
    ]
    write_examples(paths.DEDUP / paths.EXAMPLES, rows)
    write_records(paths.DEDUP / paths.CLUSTERS, members, ClusterMember)
    write_records(paths.BENCHMARK_ITEMS / paths.ITEMS, items, BenchmarkItem)


def run(monkeypatch: pytest.MonkeyPatch, chosen: Params | None = None) -> dict[str, LedgerEntry]:
    monkeypatch.setattr(stage, "load_params", lambda: chosen or params())
    stage.main()
    return {entry.id: entry for entry in read_records(paths.SPLIT / paths.LEDGER, LedgerEntry)}


def summary() -> DataSummary:
    return read_json(paths.SPLIT / paths.SUMMARY, DataSummary)


def train(count: int) -> list[Example]:
    return [example(f"t{number}", f"Question number {number} of them") for number in range(count)]


def test_every_row_has_one_entry_and_lies_in_the_partition_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*train(300), *[example(f"r{number}", role="replay") for number in range(90)]]
    give(rows)
    entries = run(monkeypatch)
    assert list(entries) == [row.id for row in rows]
    assert [entry.value for entry in entries.values() if entry.fate == "kept"] == [
        name for name, entry in entries.items() if entry.fate == "kept"
    ]
    lying = {row.id: name for name in PARTITIONS for row in read_examples(FILES[name])}
    assert lying == {name: entry.rule for name, entry in entries.items() if entry.fate == "kept"}
    assert Counter(entry.rule for entry in entries.values()) == {
        "train": 290,
        "validation": 35,
        "test": 33,
        "replay_not_needed": 32,
    }


def test_the_summary_counts_what_the_ledger_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    give([*train(40), example("b", SENTENCE, role="replay")], [item(7, SENTENCE)])
    entries = run(monkeypatch)
    counts = Counter(entry.rule for entry in entries.values() if entry.fate == "dropped")
    assert summary().dropped == counts == {"in_benchmark": 1}
    assert (summary().rows_in, summary().rows_out) == (41, 40)


def test_a_kept_row_names_its_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    give(train(1), clusters={"t0": "c0"})
    entry = run(monkeypatch)["t0"]
    assert (entry.stage, entry.fate, entry.rule, entry.value) == ("split", "kept", "train", "c0")


def test_rows_keep_their_bytes_and_say_how_often_they_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [example("t0", "A question", "an answer", system="Be brief.")]
    give(rows)
    run(monkeypatch, params(weight=2.0))
    assert read_examples(paths.TRAIN_EXAMPLES) == [rows[0].model_copy(update={"repeat": 2})]


def test_a_row_without_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    give(train(2), clusters={"t0": "t0"})
    with pytest.raises(FileInvalid, match="no cluster for example t1; run `dvc repro dedup`"):
        run(monkeypatch)


def test_a_row_of_an_unknown_source_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    give(train(1))
    other = params().model_copy(update={"sources": [source("others", "train")]})
    with pytest.raises(FileInvalid, match=r"rows of tickets, which params\.yaml sources does not name"):
        run(monkeypatch, other)


def test_a_dropped_row_names_the_item_the_kind_and_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        example("long", "I say: this very sentence stands in a benchmark item, see", role="replay"),
        example("whole", "Well, seen in Paris", role="replay"),
        example("answer", "What is it?", SENTENCE, role="replay"),
        example("like", "this very sentence stands within a benchmark item too", role="replay"),
        example("system", "nothing of it", system=SENTENCE, role="replay"),
    ]
    give(rows, [item(7, SENTENCE), item(8, "seen in paris"), item(9, "well seen in paris")])
    entries = run(monkeypatch, params(decontaminate_min_jaccard=0.4, replay_share=1.0))
    assert {name: (entry.rule, entry.value) for name, entry in entries.items()} == {
        "long": ("in_benchmark", "bench:7 ngram 8"),
        "whole": ("in_benchmark", "bench:9 whole 4"),
        "answer": ("in_benchmark", "bench:7 ngram 8"),
        "like": ("in_benchmark", "bench:7 similar 0.40"),
        "system": ("train", "system"),
    }
    assert summary().notes[0] == "benchmark bench: 4 rows held 2 of its items and were dropped"


def test_items_that_the_base_has_seen_are_written_and_its_rows_trained_on_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [*train(1), example("s0", SENTENCE, role="seen_by_base"), example("s1", "Else", role="seen_by_base")]
    give(rows, [item(3, "Another question that nobody has seen"), item(7, SENTENCE), item(9, f"Ha! {SENTENCE}")])
    entries = run(monkeypatch)
    assert read_json(paths.CONTAMINATED_ITEMS, ContaminatedItems) == ContaminatedItems(
        checked={"bench": 3}, seen_by_base={"bench": (7, 9)}
    )
    assert {name: (entry.fate, entry.rule, entry.value) for name, entry in entries.items() if name[0] == "s"} == {
        "s0": ("dropped", "compared_only", "bench:7 ngram 8"),
        "s1": ("dropped", "compared_only", "holds no item of a benchmark"),
    }
    assert summary().notes == ("benchmark bench: the base has seen 2 of its items; the gate scores without them too",)


def test_items_that_only_training_rows_hold_are_not_seen_by_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    give([example("r", SENTENCE, role="replay")], [item(7, SENTENCE)])
    run(monkeypatch)
    assert read_json(paths.CONTAMINATED_ITEMS, ContaminatedItems).seen_by_base == {}


def test_without_benchmark_items_nothing_is_contaminated(monkeypatch: pytest.MonkeyPatch) -> None:
    give(train(3))
    assert {entry.fate for entry in run(monkeypatch).values()} == {"kept"}


def test_an_item_in_many_rows_raises_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [example(f"r{number}", f"number {number}: what is the answer", role="replay") for number in range(12)]
    give(rows, [item(7, "what is the answer")])
    run(monkeypatch)
    assert summary().notes[0].startswith("alarm: item 7 of bench was found in 12 rows")


def test_train_rows_beside_a_supplied_test_row_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [example("t0"), example("s0", role="test")]
    give(rows, clusters={"t0": "c", "s0": "c"})
    entry = run(monkeypatch, params(test_share=0.0))["t0"]
    assert (entry.fate, entry.rule, entry.value) == ("dropped", "duplicate_of_test", "s0")
    assert [row.id for row in read_examples(paths.TEST_EXAMPLES)] == ["s0"]


def test_a_row_that_is_not_sampled_names_the_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    give(train(60))
    entries = run(monkeypatch, params(weight=0.25))
    assert {entry.value for entry in entries.values() if entry.rule == "not_sampled"} == {"weight 0.25"}


def test_too_little_replay_is_noted_and_enough_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    none_held_out = params(validation_share=0.0, test_share=0.0)
    give([*train(18), *[example(f"r{number}", role="replay") for number in range(2)]])
    run(monkeypatch, none_held_out)
    assert summary().notes == ("replay: 10.0% of train, 20.0% asked for: add replay examples",)
    give([*train(16), *[example(f"r{number}", role="replay") for number in range(4)]])
    run(monkeypatch, none_held_out)
    assert summary().notes == ()


def test_the_mix_of_an_epoch_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    general = [row.model_copy(update={"source": "general"}) for row in train(40)[30:]]
    give([*train(30), *general])
    chosen = params(weight=2.0, validation_share=0.0, test_share=0.0, replay_share=0.0)
    sources = [*chosen.sources, source("general", "train")]
    run(monkeypatch, chosen.model_copy(update={"sources": sources}))
    assert summary().notes == ("mix: an epoch shows 70 rows: general 14.3%, tickets 85.7%",)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_no_byte(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.tables.ROWS_PER_GROUP", 16)
    rows = [*train(60), *[example(f"s{number}", SENTENCE, role="seen_by_base") for number in range(5)]]
    rows[33] = example("t33", SENTENCE, role="replay")
    give(rows, [item(7, SENTENCE)])
    entries = run(monkeypatch, params(workers=workers))
    assert [entry.id for entry in entries.values() if entry.rule == "in_benchmark"] == ["t33"]
    found = {path.name: path.read_bytes() for path in sorted(paths.SPLIT.iterdir())}
    run(monkeypatch, params(workers=3 - workers))
    assert {path.name: path.read_bytes() for path in sorted(paths.SPLIT.iterdir())} == found


def real(*parts: str) -> Path:
    folder = REALDATA
    return folder.joinpath(*parts)


@pytest.mark.realdata
def test_banking77_loses_the_train_rows_that_its_test_split_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(name: str, role: str) -> list[Example]:
        with real("banking77", name).open(encoding="utf-8", newline="") as file:
            return [
                example(f"{role}{number}", row["text"].strip(), row["category"], role=role)
                for number, row in enumerate(csv.DictReader(file))
            ]

    rows = [*read("train.csv", "train"), *read("test.csv", "test")]
    first: dict[str, str] = {}
    give(rows, clusters={row.id: first.setdefault(row.prompt, row.id) for row in rows})
    entries = run(monkeypatch, params(test_share=0.0))
    texts = {row.id: row.prompt for row in rows}
    dropped = {name: entry.value for name, entry in entries.items() if entry.rule == "duplicate_of_test"}
    assert len(dropped) == 6
    assert {texts[name] == texts[test] for name, test in dropped.items()} == {True}
    assert len(read_examples(paths.TEST_EXAMPLES)) == 3080


@pytest.mark.realdata
def test_gsm8k_that_the_base_has_seen_is_found_item_by_item(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in real("gsm8k", name).read_text(encoding="utf-8").splitlines()]

    test, others = read("test.jsonl"), read("train.jsonl")
    seen = [example(f"s{n}", row["question"], row["answer"], role="seen_by_base") for n, row in enumerate(test[::2])]
    rows = [example(f"t{n}", row["question"], row["answer"]) for n, row in enumerate(others)]
    answers = [row["answer"] for row in test[1::2] if len(row["answer"].split()) > 30]
    leaked = [example(f"leak{n}", "Solve it.", answer, role="replay") for n, answer in enumerate(answers)]
    items = [
        BenchmarkItem.model_validate({"benchmark": "gsm8k", "item": n, "part": part, "text": row[field]})
        for n, row in enumerate(test)
        for part, field in (("question", "question"), ("target", "answer"))
    ]
    give([*rows, *seen, *leaked], items)
    entries = run(monkeypatch, params(decontaminate_ngram_words=13))
    found = read_json(paths.CONTAMINATED_ITEMS, ContaminatedItems)
    assert found.checked == {"gsm8k": 1319}
    assert set(found.seen_by_base["gsm8k"]) >= set(range(0, 1319, 2))
    assert {entries[row.id].rule for row in leaked} == {"in_benchmark"}
    dropped = [name for name, entry in entries.items() if name[0] == "t" and entry.rule == "in_benchmark"]
    assert len(dropped) < 0.02 * len(rows)
