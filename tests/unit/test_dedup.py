import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dedup import build_summary, candidate_pairs, dedup
from tasks.near_duplicates import normalised, verified_pairs
from tasks.records import Example
from tests.unit.rows import DEDUP, example

BASE = "my order of the blue garden lamp came with a broken switch and no manual in the box at all"
VARIANT = BASE + " today"
OTHER = "please change the address of the invoice for my company to the new office in the old town"


def fates(*rows: Example) -> dict[str, tuple[str, str]]:
    return {entry.id: (entry.rule, entry.value) for entry in dedup(rows, DEDUP).entries}


def clusters(*rows: Example) -> dict[str, str]:
    return {member.id: member.cluster for member in dedup(rows, DEDUP).clusters}


def test_rows_that_differ_are_clusters_of_their_own() -> None:
    assert clusters(example("a", BASE), example("b", OTHER)) == {"a": "a", "b": "b"}


def test_of_exact_duplicates_one_stays_and_is_named() -> None:
    assert fates(example("b", BASE), example("a", BASE), example("c", BASE)) == {
        "b": ("exact_duplicate", "a"),
        "c": ("exact_duplicate", "a"),
    }


def test_role_and_source_do_not_matter() -> None:
    assert fates(example("a", BASE), example("b", BASE, role="replay")) == {"b": ("exact_duplicate", "a")}


def test_a_shared_system_prompt_does_not_make_rows_alike() -> None:
    system = "One of these many options: " + "option " * 50
    assert fates(example("a", BASE, system=system), example("b", OTHER, system=system)) == {}


def test_exact_duplicates_with_different_answers_all_leave() -> None:
    rows = (example("a", BASE, "x"), example("b", BASE, "y"), example("c", OTHER))
    assert fates(*rows) == {"a": ("conflicting_answers", "2 rows"), "b": ("conflicting_answers", "2 rows")}
    assert clusters(*rows) == {"a": "a", "b": "a", "c": "c"}


def test_of_near_duplicates_the_longest_prompt_stays_with_the_similarity() -> None:
    assert fates(example("a", BASE), example("b", VARIANT)) == {"a": ("near_duplicate", "b similarity 0.947")}


def test_near_duplicates_share_a_cluster_with_their_exact_duplicates() -> None:
    rows = (example("c", BASE), example("b", BASE), example("d", VARIANT))
    assert clusters(*rows) == {"b": "b", "c": "b", "d": "b"}


def test_pairs_are_verified() -> None:
    rows = [example("a", BASE), example("b", VARIANT), example("c", OTHER)]
    assert [(pair.left, pair.right) for pair in dedup(rows, DEDUP).pairs] == [("a", "b")]


def test_a_candidate_below_the_threshold_is_no_pair() -> None:
    strict = DEDUP.model_copy(update={"min_jaccard": 0.95})
    assert candidate_pairs({"a": BASE, "b": VARIANT}, DEDUP) == {("a", "b")}
    assert dedup([example("a", BASE), example("b", VARIANT)], strict).pairs == ()


def test_nothing_in_gives_nothing_out() -> None:
    found = dedup([], DEDUP)
    assert (found.kept, found.clusters, build_summary(found, 0).rows_out) == ((), (), 0)


def test_one_large_cluster_raises_an_alarm() -> None:
    rows = [example(f"r{number}", BASE) for number in range(11)]
    (note,) = build_summary(dedup(rows, DEDUP), len(rows)).notes
    assert note.startswith("alarm: cluster r0 has 11 of 11 rows")


def test_a_small_cluster_raises_none() -> None:
    rows = [example(f"r{number}", BASE) for number in range(10)]
    assert build_summary(dedup(rows, DEDUP), len(rows)).notes == ()


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
        rows.append(example(f"{chance.randrange(10**9):09d}-{number}", " ".join(text), chance.choice("xxxy")))
    return rows


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    rows = noisy_rows(seed)
    shuffled = seeded(seed + 1).sample(rows, len(rows))
    one, two = dedup(rows, DEDUP), dedup(shuffled, DEDUP)
    assert {row.id for row in one.kept} == {row.id for row in two.kept}
    assert (one.clusters, one.pairs, one.entries) == (two.clusters, two.pairs, two.entries)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_a_second_run_drops_nothing(seed: int) -> None:
    kept = dedup(noisy_rows(seed), DEDUP).kept
    assert dedup(kept, DEDUP).kept == kept


def test_pairs_well_above_the_threshold_are_found_as_by_comparing_every_pair() -> None:
    keys = {row.id: normalised(row.prompt) for row in noisy_rows(3)}
    every = set(itertools.combinations(sorted(keys), 2))
    near = verified_pairs(every, keys, size=3, min_jaccard=0.9)
    found = verified_pairs(candidate_pairs(keys, DEDUP), keys, size=3, min_jaccard=0.9)
    assert len(near) > 100
    assert len(found) / len(near) > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_every_row_is_kept_or_has_one_entry(seed: int) -> None:
    rows = noisy_rows(seed)
    found = dedup(rows, DEDUP)
    assert sorted([row.id for row in found.kept] + [e.id for e in found.entries]) == sorted(row.id for row in rows)


def test_a_crowded_bucket_leaves_nothing_for_a_second_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.dedup.BUCKET_WINDOW", 1)
    kept = dedup(noisy_rows(5), DEDUP).kept
    assert dedup(kept, DEDUP).kept == kept
