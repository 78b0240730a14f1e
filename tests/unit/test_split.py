from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.decontamination import BenchmarkText
from tasks.errors import FileInvalid
from tasks.params import Benchmark, EvaluateParams
from tasks.records import Example
from tasks.split import Split, benchmark_texts, replay_note, split
from tests.unit.rows import SPLIT, example

NAMES = st.lists(st.text("0123456789abcdef", min_size=4, max_size=4), unique=True, max_size=40)


def alone(rows: list[Example]) -> dict[str, str]:
    return {row.id: row.id for row in rows}


def places(found: Split) -> dict[str, str]:
    return {row.id: partition for partition, rows in found.partitions.items() for row in rows}


def train(count: int) -> list[Example]:
    return [example(f"t{number}") for number in range(count)]


def replay(count: int) -> list[Example]:
    return [example(f"r{number}", role="replay") for number in range(count)]


def test_the_partitions_have_about_the_shares_asked_for() -> None:
    rows = train(2000)
    counts = Counter(places(split(rows, alone(rows), [], SPLIT)).values())
    assert counts == {"train": 1614, "validation": 208, "test": 178}


def test_another_seed_gives_another_partition() -> None:
    rows = train(200)
    other = SPLIT.model_copy(update={"seed": 2})
    assert places(split(rows, alone(rows), [], SPLIT)) != places(split(rows, alone(rows), [], other))


@given(NAMES, NAMES)
def test_appended_rows_move_no_others(names: list[str], more: list[str]) -> None:
    rows = [example(name) for name in names]
    grown = rows + [example(f"new{name}") for name in more]
    before, after = places(split(rows, alone(rows), [], SPLIT)), places(split(grown, alone(grown), [], SPLIT))
    assert before == {name: after[name] for name in before}


@given(NAMES)
def test_every_row_has_one_entry_and_lies_in_one_partition_at_most(names: list[str]) -> None:
    rows = [example(name, role="replay" if name < "4" else "train") for name in names]
    found = split(rows, alone(rows), [], SPLIT)
    kept = [row.id for part in found.partitions.values() for row in part]
    assert len(kept) == len(set(kept))
    assert sorted(entry.id for entry in found.entries) == sorted(names)
    assert sorted(entry.id for entry in found.entries if entry.fate == "kept") == sorted(kept)


def test_a_cluster_never_straddles() -> None:
    rows = train(300)
    clusters = {row.id: f"c{number % 20}" for number, row in enumerate(rows)}
    found = places(split(rows, clusters, [], SPLIT))
    assert len({(clusters[name], partition) for name, partition in found.items()}) == 20


def test_a_kept_row_has_its_partition_and_cluster_in_the_ledger() -> None:
    (entry,) = split(train(1), {"t0": "c0"}, [], SPLIT).entries
    assert (entry.fate, entry.rule, entry.value) == ("kept", "test", "c0")


def test_a_row_without_a_cluster_is_refused() -> None:
    with pytest.raises(FileInvalid, match="no cluster for example t0; run `dvc repro dedup`"):
        split(train(1), {}, [], SPLIT)


def test_replay_fills_its_share_of_train_and_nothing_else() -> None:
    rows = train(400) + replay(300)
    found = split(rows, alone(rows), [], SPLIT)
    roles = Counter((partition, row.role) for partition, part in found.partitions.items() for row in part)
    trained = roles["train", "train"]
    assert roles["train", "replay"] == trained // 4
    assert {partition for partition, role in roles if role == "replay"} == {"train"}


def test_replay_that_is_not_needed_is_in_the_ledger() -> None:
    rows = train(4) + replay(5)
    none = SPLIT.model_copy(update={"replay_share": 0.0})
    found = split(rows, alone(rows), [], none)
    assert [(entry.id, entry.rule) for entry in found.entries if entry.fate == "dropped"] == [
        (f"r{number}", "replay_not_needed") for number in range(5)
    ]


def test_too_little_replay_is_noted() -> None:
    assert replay_note([*train(18), *replay(2)], 0.2) == (
        "replay: 10.0% of train, 20.0% asked for: add replay examples",
    )
    assert replay_note([*train(16), *replay(4)], 0.2) == ()


def test_rows_that_a_benchmark_holds_leave_train_and_validation_but_not_test() -> None:
    text = "this very sentence stands in a benchmark item too"
    rows = [example(f"t{number}", text) for number in range(100)] + [example("r", text, role="replay")]
    found = split(rows, alone(rows), [BenchmarkText("bench:7", text)], SPLIT)
    assert {(entry.fate, entry.rule) for entry in found.entries} == {("dropped", "in_benchmark"), ("kept", "test")}
    assert {entry.value for entry in found.entries if entry.fate == "dropped"} == {"bench:7"}
    assert {entry.id: entry.rule for entry in found.entries}["r"] == "in_benchmark"


def test_a_benchmark_without_items_here_is_noted(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    params = EvaluateParams(
        benchmarks=[Benchmark(name="arc_easy", role="report", num_fewshot=0)],
        batch_size=1,
        max_length=8,
        apply_chat_template=True,
        limit=None,
        seed=1,
    )
    assert benchmark_texts(params) == (
        [],
        ("benchmark arc_easy: no items under tasks/evals, train was not compared with it",),
    )
