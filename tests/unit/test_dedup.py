import csv
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import dedup, duplicates, lsh, paths
from tasks.dedup import build_summary, cluster_table, conflict_table, ledger_table, pair_table
from tasks.dedup_keys import Keys, Shared, label_of, read_keys, without_shared
from tasks.duplicates import Duplicates, find_duplicates
from tasks.near_duplicates import jaccard, ngrams, normalised
from tasks.params_data import DedupParams, EngineParams
from tasks.records import ClusterMember, Conflict, DataSummary, Example, LedgerEntry, Message, Pair
from tasks.tables import parse_table, read_examples, read_records, write_examples
from tests.realdata import REALDATA
from tests.unit.rows import DEDUP, conversation, example

ROOT = Path(__file__).parents[2]
ENGINE = EngineParams(runner="native", ray_address=None, workers=1)
KEEP = DEDUP.model_copy(update={"conflicting_answers": "keep"})

BASE = "my order of the blue garden lamp came with a broken switch and no manual in the box at all"
VARIANT = BASE + " today"
OTHER = "please change the address of the invoice for my company to the new office in the old town"
PROSE = "This is a long answer, which explains in many words what to do about it."


class Found:
    """What a search over rows found, as records."""

    def __init__(self, rows: tuple[Example, ...], params: DedupParams) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / paths.EXAMPLES
            write_examples(path, rows)
            self.keys: Keys
            self.shared: dict[str, Shared]
            self.keys, self.shared = read_keys(path, params, ENGINE)
        self.found: Duplicates = find_duplicates(self.keys, params, ENGINE)
        self.kept = [row for place, row in enumerate(rows) if place not in self.found.fates]
        self.entries = parse_table(ledger_table(self.keys, self.found.fates), LedgerEntry, path)
        self.clusters = parse_table(cluster_table(self.keys, self.found.cluster), ClusterMember, path)
        self.pairs = parse_table(pair_table(self.keys, self.found.pairs), Pair, path)
        self.conflicts = parse_table(conflict_table(self.keys, self.found.conflicts), Conflict, path)
        self.summary: DataSummary = build_summary(self.keys, self.shared, self.found, params)


def search(*rows: Example, params: DedupParams = DEDUP) -> Found:
    return Found(rows, params)


def fates(*rows: Example, params: DedupParams = DEDUP) -> dict[str, tuple[str, str]]:
    return {entry.id: (entry.rule, entry.value) for entry in search(*rows, params=params).entries}


def clusters(*rows: Example) -> dict[str, str]:
    return {member.id: member.cluster for member in search(*rows).clusters}


def test_rows_that_differ_are_clusters_of_their_own() -> None:
    assert clusters(example("a", BASE), example("b", OTHER)) == {"a": "a", "b": "b"}


def test_of_exact_duplicates_one_stays_and_is_named() -> None:
    assert fates(example("b", BASE), example("a", BASE), example("c", BASE)) == {
        "b": ("exact_duplicate", "a"),
        "c": ("exact_duplicate", "a"),
    }


TASKS = ("Translate to French.", "Translate to German.", "Name the sentiment.")


@pytest.mark.parametrize("other", [BASE, VARIANT])
def test_the_same_text_under_other_instructions_is_another_task(other: str) -> None:
    rows = [
        example(name, text, f"{PROSE} {system}", system=system)
        for name, text, system in zip("abc", (BASE, other, BASE), TASKS, strict=True)
    ]
    found = search(*rows)
    assert (found.kept, found.entries, found.conflicts) == (rows, [], [])
    assert {member.cluster for member in found.clusters} == {"a"}


@pytest.mark.parametrize(("other", "rule"), [(BASE, "exact_duplicate"), (VARIANT, "near_duplicate")])
def test_the_same_text_with_the_same_answer_is_a_duplicate_under_any_instruction(other: str, rule: str) -> None:
    found = fates(example("a", BASE, PROSE, system=TASKS[0]), example("b", other, PROSE, system=TASKS[1]))
    assert [entry[0] for entry in found.values()] == [rule]


def test_a_conflict_costs_the_rows_of_its_own_instruction_only() -> None:
    rows = [
        example("a", BASE, "shipping", system=TASKS[0]),
        example("b", BASE, "billing", system=TASKS[0]),
        example("c", BASE, "angry", system=TASKS[2]),
    ]
    drop = DEDUP.model_copy(update={"conflicting_answers": "drop"})
    assert fates(*rows, params=drop) == dict.fromkeys("ab", ("conflicting_answers", "2 rows"))


def test_a_row_of_a_test_split_takes_its_text_under_any_instruction() -> None:
    rows = [example("a", BASE, PROSE, role="test"), example("b", VARIANT, "another", system=TASKS[1])]
    assert [entry[0] for entry in fates(*rows).values()] == ["duplicate_of_test"]


def test_of_exact_duplicates_the_longest_prompt_stays() -> None:
    assert fates(example("a", BASE), example("b", BASE + " !!!")) == {"a": ("exact_duplicate", "b")}


def test_role_and_source_do_not_matter() -> None:
    assert fates(example("a", BASE), example("b", BASE, role="replay")) == {"b": ("exact_duplicate", "a")}


def test_a_shared_system_prompt_does_not_make_rows_alike() -> None:
    system = "One of these many options: " + "option " * 50
    assert fates(example("a", BASE, system=system), example("b", OTHER, system=system)) == {}


def test_exact_duplicates_with_different_answers_all_leave() -> None:
    rows = (example("a", BASE, "x"), example("b", BASE, "y"), example("c", OTHER))
    assert fates(*rows) == {"a": ("conflicting_answers", "2 rows"), "b": ("conflicting_answers", "2 rows")}
    assert clusters(*rows) == {"a": "a", "b": "a", "c": "c"}


def test_if_asked_rows_with_different_answers_stay_one_for_each_answer() -> None:
    rows = (example("a", BASE, "x"), example("b", BASE, "y"), example("c", BASE, "Y."), example("d", OTHER))
    assert fates(*rows, params=KEEP) == {"c": ("exact_duplicate", "b")}


def test_different_answers_are_noted_with_the_rows_that_gave_them() -> None:
    found = search(example("b", BASE, "card_lost"), example("a", BASE, "fees"), example("c", VARIANT, "fees"))
    assert found.conflicts == [
        Conflict(left="a", right="b", similarity=1.0, left_completion="fees", right_completion="card_lost")
    ]
    note = (
        "label noise: 1 pair of like prompts with different short answers (tickets 2 rows), such as a / b; "
        "`tunegate data why` tells of each"
    )
    assert found.summary.notes == (note,)


def test_near_duplicates_with_different_short_answers_are_noted_and_one_stays() -> None:
    found = search(example("a", BASE, "x"), example("b", VARIANT, "y"))
    assert [(c.left, c.right, round(c.similarity, 3)) for c in found.conflicts] == [("a", "b", 0.947)]
    assert [entry.rule for entry in found.entries] == ["near_duplicate"]


def test_prose_that_differs_is_no_conflict() -> None:
    found = search(example("a", BASE, PROSE), example("b", BASE, PROSE + " Or not."))
    assert found.conflicts == []
    assert [(entry.id, entry.rule) for entry in found.entries] == [("b", "exact_duplicate")]


def test_answers_under_other_system_prompts_are_no_conflict() -> None:
    found = search(example("a", BASE, "x", system="Say x."), example("b", BASE, "y", system="Say y."))
    assert found.conflicts == []


@pytest.mark.parametrize(
    ("completion", "label"),
    [("card_lost", "card lost"), ("A.\n", "a"), ("a\nb", None), (PROSE, None), ("a " * 9, None)],
)
def test_a_label_is_one_short_line(completion: str, label: str | None) -> None:
    assert label_of(completion) == label


def test_of_near_duplicates_the_longest_prompt_stays_with_the_similarity() -> None:
    assert fates(example("a", BASE), example("b", VARIANT)) == {"a": ("near_duplicate", "b similarity 0.947")}


def test_near_duplicates_share_a_cluster_with_their_exact_duplicates() -> None:
    rows = (example("c", BASE), example("b", BASE), example("d", VARIANT))
    assert clusters(*rows) == {"b": "b", "c": "b", "d": "b"}


def test_the_anchor_of_a_cluster_is_its_first_row_in_the_input() -> None:
    found = search(example("c", BASE), example("z", OTHER), example("b", BASE), example("d", VARIANT))
    assert {member.id: member.anchor for member in found.clusters} == {"b": "c", "c": "c", "d": "c", "z": "z"}


def test_pairs_are_verified() -> None:
    found = search(example("b", VARIANT), example("a", BASE), example("c", OTHER))
    assert found.pairs == [Pair(left="a", right="b", similarity=18 / 19)]


def test_a_candidate_below_the_threshold_is_no_pair() -> None:
    strict = DEDUP.model_copy(update={"min_jaccard": 0.95})
    assert search(example("a", BASE), example("b", VARIANT), params=strict).pairs == []


def test_a_train_row_leaves_for_a_test_row_however_short_that_is() -> None:
    rows = (example("b", BASE, role="test"), example("a", VARIANT), example("c", BASE), example("d", OTHER))
    assert fates(*rows) == {
        "a": ("duplicate_of_test", "b similarity 0.947"),
        "c": ("duplicate_of_test", "b"),
    }


def test_rows_of_a_test_split_are_never_dropped() -> None:
    rows = (example("a", BASE, "x", role="test"), example("b", BASE, "y", role="test"))
    assert fates(*rows, example("c", VARIANT, role="test")) == {}


def test_rows_that_the_base_has_seen_take_no_part() -> None:
    rows = (example("a", BASE, role="seen_by_base"), example("b", BASE), example("c", BASE, role="seen_by_base"))
    found = search(*rows)
    assert (found.entries, found.pairs) == ([], [])
    assert clusters(*rows) == {"a": "a", "b": "b", "c": "c"}


def test_rows_are_compared_by_all_their_user_turns() -> None:
    follow_ups = [
        (("user", BASE), ("assistant", "Sorry."), ("user", text), ("assistant", "x")) for text in (BASE, OTHER)
    ]
    assert fates(conversation("a", *follow_ups[0]), conversation("b", *follow_ups[1])) == {}


def test_tool_calls_are_part_of_an_answer() -> None:
    calls = [Message(role="assistant", content="", tool_calls=json.dumps([{"n": number}])) for number in (1, 2)]
    rows = [example(name, BASE) for name in "ab"]
    both = [row.model_copy(update={"messages": (row.messages[0], call)}) for row, call in zip(rows, calls, strict=True)]
    assert set(fates(*both).values()) == {("conflicting_answers", "2 rows")}


def test_nothing_in_gives_nothing_out() -> None:
    found = search()
    assert (found.kept, found.clusters, found.summary.rows_out, found.summary.notes) == ([], [], 0, ())


def test_one_large_cluster_raises_an_alarm_that_names_the_text() -> None:
    first, second = search(*(example(f"r{number:02d}", f"{BASE} {number}") for number in range(12))).summary.notes
    assert first == (
        "alarm: cluster r00 has 12 of 12 rows, which share 'my order of the blue garden lamp came with a broken "
        "switch and no manual in the box at all'; text that rows share (a template, an option list) makes rows look "
        "alike: move it to the system turn"
    )
    assert second == "alarm: 91.7% of the rows were removed, over 30.0%; the largest cluster shares " + repr(BASE)


def test_a_small_cluster_raises_none() -> None:
    assert search(*(example(f"r{number}", BASE) for number in range(10))).summary.notes == ()


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a repeatable test, no secret


def noisy_rows(seed: int) -> list[Example]:
    """Sixty rows from a few texts with some words dropped, so that clusters chain."""
    chance = seeded(seed)
    rows = []
    for number in range(60):
        text = chance.choice((BASE, VARIANT, OTHER)).split()
        for _ in range(chance.choice((0, 0, 1, 1, 2))):
            text.pop(chance.randrange(len(text)))
        role = chance.choice(("train", "train", "train", "replay", "test"))
        rows.append(
            example(f"{chance.randrange(10**9):09d}-{number}", " ".join(text), chance.choice("xxxy"), role=role)
        )
    return rows


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    rows = noisy_rows(seed)
    shuffled = seeded(seed + 1).sample(rows, len(rows))
    one, two = search(*rows), search(*shuffled)
    assert {row.id for row in one.kept} == {row.id for row in two.kept}
    assert [(m.id, m.cluster) for m in one.clusters] == [(m.id, m.cluster) for m in two.clusters]
    assert (one.pairs, one.entries, one.conflicts) == (two.pairs, two.entries, two.conflicts)
    assert one.summary == two.summary


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_a_second_run_drops_nothing(seed: int) -> None:
    kept = search(*noisy_rows(seed)).kept
    assert search(*kept).kept == kept


def test_pairs_well_above_the_threshold_are_found_as_by_comparing_every_pair() -> None:
    keep = KEEP.model_copy(update={"bands": 32})
    rows = [row.model_copy(update={"role": "train"}) for row in noisy_rows(3)]
    texts = {normalised(row.prompt): row.id for row in sorted(rows, key=lambda row: row.id, reverse=True)}
    grams = {name: ngrams(text, 3) for text, name in texts.items()}
    every = itertools.combinations(sorted(grams), 2)
    near = {pair for pair in every if jaccard(grams[pair[0]], grams[pair[1]]) >= 0.7}
    found = {(pair.left, pair.right) for pair in search(*rows, params=keep).pairs}
    assert len(near) > 100
    assert found <= near
    assert len(found) / len(near) > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_every_row_is_kept_or_has_one_entry(seed: int) -> None:
    rows = noisy_rows(seed)
    found = search(*rows)
    assert sorted([row.id for row in found.kept] + [e.id for e in found.entries]) == sorted(row.id for row in rows)


def test_a_crowded_bucket_leaves_nothing_for_a_second_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.lsh.BUCKET_WINDOW", 1)
    monkeypatch.setattr("tasks.lsh.CROWDED_WINDOW", 1)
    kept = search(*noisy_rows(5)).kept
    assert search(*kept).kept == kept


def test_what_a_crowded_bucket_hid_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    all_pairs = lsh.candidate_pairs
    monkeypatch.setattr(duplicates, "candidate_pairs", lambda signed, least: all_pairs(signed, least)[:1])
    monkeypatch.setattr(duplicates, "has_crowded_bucket", lambda _: True)
    rows = [example("a", BASE), example("b", VARIANT), example("c", VARIANT + " please"), example("d", OTHER)]
    found = search(*rows)
    assert [entry.id for entry in found.entries] == ["a", "b"]
    assert [(pair.left, pair.right) for pair in found.pairs] == [("a", "b"), ("b", "c")]


def test_small_portions_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = noisy_rows(4)
    whole = search(*rows)
    monkeypatch.setattr(duplicates, "ROWS_OF_A_TABLE", 7)
    monkeypatch.setattr(duplicates, "TABLES_AT_ONCE", {"native": 2})
    assert (search(*rows).pairs, search(*rows).entries) == (whole.pairs, whole.entries)


# templates

OPTIONS = "choose one of these queues " + " ".join(
    f"queue_{letter}_{number}" for letter in "abcdefg" for number in range(11)
)
INSTRUCTION = "below is a message of a customer of a bank please write the name of its intent"


def messages(count: int, *, template: str) -> list[Example]:
    """Short messages that differ, behind a template; every fiftieth is a near duplicate of the one before."""
    chance = seeded(7)
    vocabulary = [f"word{number}" for number in range(400)]
    rows: list[Example] = []
    for number in range(count):
        message = "how do i " + " ".join(chance.choices(vocabulary, k=12))
        if number % 50 == 49:
            message = rows[-1].prompt.removeprefix(template) + " please"
        rows.append(example(f"m{number:04d}", template + message, PROSE))
    return rows


@pytest.mark.parametrize("template", ["", OPTIONS + "\n\n", INSTRUCTION + ": "])
def test_a_template_in_the_user_turn_changes_nothing(template: str) -> None:
    found = search(*messages(400, template=template))
    assert Counter(entry.rule for entry in found.entries) == {"near_duplicate": 8}
    assert [entry.id for entry in found.entries] == [f"m{number:04d}" for number in range(48, 400, 50)]


def test_text_that_is_left_out_is_named_in_a_note() -> None:
    (note,) = search(*messages(400, template=INSTRUCTION + ": ")).summary.notes
    assert note.startswith("tickets: text that many rows share, such as ")
    assert "write the name of its intent" in note


def test_the_same_text_in_two_tasks_is_no_duplicate() -> None:
    tasks = ["translate the following sentence of our customer into plain german: "]
    tasks.append("name every person and place that occurs in the next line: ")
    rows = [
        row.model_copy(update={"id": f"{row.id}-{task[:4]}"}) for task in tasks for row in messages(60, template=task)
    ]
    found = search(*rows)
    assert len(found.summary.notes) == 1
    assert {entry.id: entry.value for entry in found.entries} == {
        f"m0048-{task}": f"m0049-{task} similarity 0.909" for task in ("name", "tran")
    }


SHARED: dict[tuple[str, ...], int] = {
    ("a", "b", "c"): 90,
    ("b", "c", "d"): 90,
    ("c", "d", "how"): 20,
    ("d", "how", "do"): 20,
}


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a b c d how do i pay", "how do i pay"),
        ("pay a b c d now", "pay now"),
        ("c d how do i pay", "i pay"),
        ("a b c d", "a b c d"),
        ("a b", "a b"),
    ],
)
def test_a_template_ends_where_it_ends(text: str, rest: str) -> None:
    assert without_shared(text, SHARED, 3) == rest


# the stage


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Example]:
    monkeypatch.chdir(tmp_path)
    rows = noisy_rows(1)
    write_examples(paths.CLEAN / paths.EXAMPLES, rows)
    for name in ("params.yaml", "data/base"):
        assert not Path(name).exists()
    return rows


def run_stage(monkeypatch: pytest.MonkeyPatch, engine: EngineParams = ENGINE) -> dict[str, bytes]:
    class Params:
        dedup = DEDUP

    Params.engine = engine  # type: ignore[attr-defined]
    monkeypatch.setattr(dedup, "load_params", Params)
    dedup.main()
    return {path.name: path.read_bytes() for path in sorted(paths.DEDUP.iterdir())}


def test_the_stage_writes_what_stays_and_why_the_rest_left(
    workspace: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(run_stage(monkeypatch)) == [
        "clusters.parquet",
        "conflicts.parquet",
        "examples.parquet",
        "ledger.parquet",
        "pairs.parquet",
        "summary.json",
    ]
    kept = read_examples(paths.DEDUP / paths.EXAMPLES)
    dropped = {entry.id for entry in read_records(paths.DEDUP / paths.LEDGER, LedgerEntry)}
    assert kept == [row for row in workspace if row.id not in dropped]
    assert kept


RAY = """
import pytest

from tests.unit import test_dedup

if __name__ == "__main__":
    engine = test_dedup.EngineParams(runner="ray", ray_address=None, workers=2)
    test_dedup.run_stage(pytest.MonkeyPatch(), engine)
"""
SLOW_MACHINE = {"RAY_agent_register_timeout_ms": "120000", "RAY_raylet_start_wait_time_s": "150"}


@pytest.mark.usefixtures("workspace")
def test_a_local_ray_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    native = run_stage(monkeypatch)
    for path in paths.DEDUP.iterdir():
        path.unlink()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"} | SLOW_MACHINE
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # each of Ray's processes would compile it all again
    done = subprocess.run(
        [sys.executable, "-c", RAY], env=environment, capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in sorted(paths.DEDUP.iterdir())} == native


@pytest.mark.realdata
@pytest.mark.parametrize("template", ["", OPTIONS + "\n\n", INSTRUCTION + ": "])
def test_banking77_loses_what_its_bare_messages_lose(template: str) -> None:
    with (REALDATA / "banking77/train.csv").open(encoding="utf-8", newline="") as file:
        texts = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    rows = [example(f"b{n:05d}", template + text, category) for n, (text, category) in enumerate(texts)]
    found = search(*rows, params=DEDUP.model_copy(update={"bands": 32}))
    assert Counter(e.rule for e in found.entries) == {
        "near_duplicate": 210,
        "exact_duplicate": 27,
        "conflicting_answers": 2,
    }
