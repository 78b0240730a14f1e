from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.params_data import SplitParams
from tasks.partitions import FATES, Decision, Rows, decide, times_seen
from tests.unit.rows import SPLIT

NAMES = st.lists(st.text("0123456789abcdef", min_size=4, max_size=4), unique=True, max_size=40)
Row = tuple[str, str, str, int]
"""The id, the source, the role and the number of the cluster."""


def rows(found: Sequence[Row]) -> Rows:
    """Rows whose clusters have the smallest id as name and the first as anchor, as `dedup` writes them."""
    members: dict[int, list[str]] = {}
    for name, _, _, cluster in found:
        members.setdefault(cluster, []).append(name)
    return Rows(
        ids=[row[0] for row in found],
        sources=[row[1] for row in found],
        roles=[row[2] for row in found],
        clusters=[min(members[row[3]]) for row in found],
        anchors=[members[row[3]][0] for row in found],
    )


def alone(names: Sequence[str], role: str = "train", source: str = "tickets") -> list[Row]:
    return [(name, source, role, hash(name)) for name in names]


def numbered(start: str, count: int, role: str = "train", source: str = "tickets") -> list[Row]:
    return alone([f"{start}{number}" for number in range(count)], role, source)


def decided(
    found: Sequence[Row],
    params: SplitParams = SPLIT,
    weights: dict[str, float] | None = None,
    contaminated: Sequence[str] = (),
) -> Decision:
    weights = dict.fromkeys([row[1] for row in found], 1.0) | (weights or {})
    return decide(rows(found), np.array([row[0] in contaminated for row in found], bool), weights, params)


def fates(found: Sequence[Row], decision: Decision) -> dict[str, str]:
    return {row[0]: FATES[fate] for row, fate in zip(found, decision.fates.tolist(), strict=True)}


def test_the_partitions_have_about_the_shares_asked_for() -> None:
    found = numbered("t", 2000)
    assert Counter(fates(found, decided(found)).values()) == {"train": 1614, "validation": 208, "test": 178}


def test_another_seed_gives_another_partition() -> None:
    found = numbered("t", 200)
    other = SPLIT.model_copy(update={"seed": 2})
    assert fates(found, decided(found)) != fates(found, decided(found, other))


@given(NAMES, NAMES, st.lists(st.integers(0, 12), min_size=40, max_size=40))
def test_appended_rows_move_no_others_whatever_cluster_they_join(
    names: list[str], more: list[str], clusters: list[int]
) -> None:
    before = [(f"m{name}", "tickets", "train", cluster) for name, cluster in zip(names, clusters, strict=False)]
    new = [
        (f"{'az'[number % 2]}{name}", "tickets", "train", clusters[-number])  # every second id is smaller than any
        for number, name in enumerate(more)
    ]
    first, second = decided(before, weights={"tickets": 1.5}), decided(before + new, weights={"tickets": 1.5})
    assert second.fates[: len(before)].tolist() == first.fates.tolist()
    assert second.repeats[: len(before)].tolist() == first.repeats.tolist()


@given(NAMES, st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["train", "replay", "test"])), min_size=40))
def test_a_cluster_never_straddles_partitions(names: list[str], drawn: list[tuple[int, str]]) -> None:
    found = [(name, role, role, cluster) for name, (cluster, role) in zip(names, drawn, strict=False)]
    everything = SPLIT.model_copy(update={"replay_share": 1.0})
    decision = decided(found, everything)
    kept = {(row[3], fate) for row, fate in zip(found, decision.fates.tolist(), strict=True) if fate <= 2}
    assert len(kept) == len({cluster for cluster, _ in kept})


def test_a_supplied_test_split_is_kept_as_it_is_and_train_never_crosses_it() -> None:
    supplied = numbered("s", 40, "test", "held_out")
    beside = [(f"t{row[0]}", "tickets", role, row[3]) for row in supplied for role in ("train", "replay")][::2]
    decision = decided([*supplied, *beside])
    assert Counter(fates([*supplied, *beside], decision).values()) == {"test": 40, "duplicate_of_test": 40}


def test_a_row_that_the_base_has_seen_is_in_no_partition_and_drops_no_other() -> None:
    found = [("a", "tickets", "train", 1), ("b", "pretraining", "seen_by_base", 1), ("c", "held_out", "test", 2),
             ("d", "pretraining", "seen_by_base", 2)]  # fmt: skip
    shares = SPLIT.model_copy(update={"test_share": 0.0, "validation_share": 0.0})
    assert fates(found, decided(found, shares)) == {
        "a": "train",
        "b": "compared_only",
        "c": "test",
        "d": "compared_only",
    }


def test_rows_that_hold_an_item_leave_train_validation_and_replay_but_not_test() -> None:
    found = [*numbered("t", 100), *numbered("r", 10, "replay"), *numbered("s", 5, "test")]
    before = fates(found, decided(found, SPLIT.model_copy(update={"replay_share": 1.0})))
    after = fates(found, decided(found, contaminated=[row[0] for row in found]))
    assert Counter((before[name], after[name]) for name in before) == {
        ("train", "in_benchmark"): 90,
        ("validation", "in_benchmark"): 11,
        ("test", "test"): 14,
    }


@pytest.mark.parametrize(("weight", "seen"), [(0.25, 0.25), (1.0, 1.0), (2.0, 2.0), (2.5, 2.5)])
def test_a_weight_is_how_often_a_row_is_seen_in_an_epoch(weight: float, seen: float) -> None:
    times = [times_seen(f"row{number}", weight, 1) for number in range(4000)]
    assert sum(times) / 4000 == pytest.approx(seen, abs=0.03)
    assert set(times) <= {int(weight), int(weight) + 1}


def test_a_row_that_an_epoch_never_shows_is_dropped_and_held_out_rows_are_shown_once() -> None:
    found = numbered("t", 400)
    decision = decided(found, weights={"tickets": 0.5})
    once = decided(found)
    counts = Counter(fates(found, decision).values())
    assert counts["train"] + counts["not_sampled"] == Counter(fates(found, once).values())["train"]
    assert counts["train"] == pytest.approx(counts["not_sampled"], abs=40)
    assert set(decision.repeats[decision.fates == 0].tolist()) == {1}
    heavy = decided(found, weights={"tickets": 3.0})
    assert set(heavy.repeats[heavy.fates == 0].tolist()) == {3}
    assert set(heavy.repeats[(heavy.fates == 1) | (heavy.fates == 2)].tolist()) == {1}
    assert set(decision.repeats[decision.fates > 2].tolist()) == {0}


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_replay_fills_its_share_of_what_an_epoch_shows(weight: float) -> None:
    found = [*numbered("t", 400), *numbered("r", 900, "replay", "general")]
    decision = decided(found, weights={"tickets": weight})
    replay = sum(row[2] == "replay" and fate == 0 for row, fate in zip(found, decision.fates.tolist(), strict=True))
    assert replay == (decision.shown_in_epoch - replay) // 4
    assert {fate for row, fate in zip(found, fates(found, decision).values(), strict=True) if row[2] == "replay"} == {
        "train",
        "replay_not_needed",
    }


def test_replay_sources_share_by_weight_whatever_their_number_of_rows() -> None:
    found = [
        *numbered("t", 2000),
        *numbered("a", 1500, "replay", "small"),
        *numbered("b", 9000, "replay", "large"),
    ]
    decision = decided(found, weights={"small": 3.0, "large": 1.0})
    taken = Counter(
        row[1] for row, fate in zip(found, decision.fates.tolist(), strict=True) if row[2] == "replay" and fate == 0
    )
    assert taken.total() == 403
    assert taken["small"] / taken.total() == pytest.approx(0.75, abs=0.05)


def test_without_a_replay_share_no_replay_row_is_taken() -> None:
    found = [*numbered("t", 4), *numbered("r", 5, "replay")]
    decision = decided(found, SPLIT.model_copy(update={"replay_share": 0.0}))
    assert [fate for name, fate in fates(found, decision).items() if name[0] == "r"] == ["replay_not_needed"] * 5


def test_a_replay_row_with_a_duplicate_in_a_held_out_partition_is_not_drawn() -> None:
    found = [*numbered("t", 300), *[(f"r{row[0]}", "general", "replay", row[3]) for row in numbered("t", 300)]]
    named = fates(found, decided(found, SPLIT.model_copy(update={"replay_share": 1.0})))
    pairs = Counter((named[f"t{number}"], named[f"rt{number}"]) for number in range(300))
    assert set(pairs) == {
        ("train", "train"),
        ("validation", "replay_not_needed"),
        ("test", "replay_not_needed"),
    }
