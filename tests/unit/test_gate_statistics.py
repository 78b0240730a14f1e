import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from tasks.gate_statistics import (
    Drawing,
    Floats,
    Outcomes,
    holm,
    interval,
    items_needed,
    three_values,
    weigh,
)

DRAWING = Drawing(resamples=4000, seed=1)
SMALL = st.integers(min_value=0, max_value=30)


def binary(right: int, wrong: int) -> Outcomes:
    return Outcomes(np.array([1.0] * right + [0.0] * wrong), 0.0, 1.0)


def paired(wins: int, ties: int, losses: int) -> Outcomes:
    return Outcomes(np.array([1.0] * wins + [0.0] * ties + [-1.0] * losses), -1.0, 1.0)


@given(SMALL, SMALL, SMALL)
def test_without_a_margin_it_is_the_exact_mcnemar_test(wins: int, ties: int, losses: int) -> None:
    if wins + losses == 0:
        return
    found = weigh(paired(wins, ties, losses), 0.0, DRAWING)
    assert found.method == "exact_mcnemar"
    assert found.holds == pytest.approx(stats.binomtest(wins, wins + losses, 0.5, "greater").pvalue, rel=1e-9)
    assert found.broken == pytest.approx(stats.binomtest(wins, wins + losses, 0.5, "less").pvalue, rel=1e-9)


@given(SMALL, SMALL, st.floats(min_value=0.05, max_value=0.95))
def test_a_share_against_a_floor_is_the_exact_binomial_test(right: int, wrong: int, floor: float) -> None:
    if right + wrong == 0:
        return
    found = weigh(binary(right, wrong), floor, DRAWING)
    assert found.method == "exact_binomial"
    assert found.holds == pytest.approx(stats.binomtest(right, right + wrong, floor, "greater").pvalue, rel=1e-6)
    assert found.broken == pytest.approx(stats.binomtest(right, right + wrong, floor, "less").pvalue, rel=1e-6)


@pytest.mark.parametrize(
    ("wins", "ties", "losses", "threshold"),
    [(5, 170, 5, -0.05), (0, 20, 3, -0.1), (10, 0, 5, 0.1), (7, 1, 2, -0.1), (150, 70, 4, 0.6), (3, 9, 0, 0.1)],
)
def test_the_integral_is_what_drawing_the_same_weights_gives(
    wins: int, ties: int, losses: int, threshold: float
) -> None:
    shapes = np.array([wins, ties, losses + 1], dtype=float)
    drawn = np.random.default_rng(0).standard_gamma(shapes, size=(200_000, 3))
    share = float(((drawn[:, 0] - drawn[:, 2]) / drawn.sum(axis=1) <= threshold).mean())
    assert three_values(wins, ties, losses, threshold) == pytest.approx(share, abs=0.004)


def test_values_between_are_drawn_and_agree_with_the_integral() -> None:
    outcomes = paired(30, 60, 20)
    almost = Outcomes(np.append(outcomes.values, 1e-9), -1.0, 1.0)
    exact, drawn = weigh(outcomes, -0.1, DRAWING), weigh(almost, -0.1, Drawing(40_000, 1))
    assert (exact.method, drawn.method) == ("three_values", "bounded_mean")
    assert drawn.holds == pytest.approx(exact.holds, abs=0.003)
    assert drawn.broken == pytest.approx(exact.broken, abs=0.003)


def pass_rate(items: int, margin: float, alpha: float) -> float:
    """The greatest chance to prove what is not so, over all shares of items that differ, by enumeration."""
    wins, losses = np.meshgrid(np.arange(items + 1), np.arange(items + 1), indexing="ij")
    ties = items - wins - losses
    wins, losses, ties = (part[ties >= 0] for part in (wins, losses, ties))
    counts = zip(wins, ties, losses, strict=True)
    proved = np.array([three_values(int(won), int(tied), int(lost), margin) <= alpha for won, tied, lost in counts])
    ways = special.gammaln([items + 1]) - sum(special.gammaln(part + 1) for part in (wins, losses, ties))
    worst = 0.0
    for differing in np.linspace(abs(margin) + 1e-9, 1 - 1e-9, 41):
        better, worse = (differing + margin) / 2, (differing - margin) / 2
        chances = np.exp(ways + wins * np.log(better) + losses * np.log(worse) + ties * np.log(1 - differing))
        worst = max(worst, float(chances[proved].sum()))
    return worst


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("margin", [-0.3, -0.1, -0.05, 0.0, 0.1, 0.3])
@pytest.mark.parametrize("items", [3, 7, 12, 25])
def test_what_is_not_so_is_never_proved_more_often_than_alpha(items: int, margin: float, alpha: float) -> None:
    assert pass_rate(items, margin, alpha) <= alpha


def few_levels(generator: np.random.Generator, items: int) -> Floats:
    """Items of 0, a half and 1, most of them 0: many ties, and no symmetry; their mean is 0.15."""
    return generator.choice([0.0, 0.5, 1.0], p=[0.8, 0.1, 0.1], size=items)


@pytest.mark.parametrize("items", [5, 15, 40])
def test_of_bounded_values_with_many_ties_the_level_is_kept_too(items: int) -> None:
    generator, proved = np.random.default_rng(7), [0, 0]
    for _ in range(1500):
        outcomes = Outcomes(np.append(few_levels(generator, items - 1), generator.choice([0.149, 0.151])), 0.0, 1.0)
        found = weigh(outcomes, 0.15, Drawing(400, 1))
        proved[0] += found.holds <= 0.05
        proved[1] += found.broken <= 0.05
    assert max(proved) / 1500 <= 0.05


@given(SMALL, SMALL, SMALL, st.floats(min_value=-0.9, max_value=0.9))
def test_more_wins_and_a_lower_threshold_never_make_it_harder(
    wins: int, ties: int, losses: int, threshold: float
) -> None:
    here = three_values(wins, ties, losses, threshold)
    assert three_values(wins + 1, ties, losses, threshold) <= here + 1e-7
    assert three_values(wins, ties, losses, threshold - 0.05) <= here + 1e-7
    assert 0 <= here <= 1


@given(SMALL, SMALL, SMALL, st.floats(min_value=-0.9, max_value=0.9))
def test_both_claims_are_never_proved_at_once(wins: int, ties: int, losses: int, threshold: float) -> None:
    assert three_values(wins, ties, losses, threshold) + three_values(losses, ties, wins, -threshold) >= 1 - 1e-6


def test_drawing_is_seeded_and_no_p_value_is_zero() -> None:
    outcomes = Outcomes(np.linspace(0.9, 1.0, 50), 0.0, 1.0)
    assert weigh(outcomes, 0.1, DRAWING) == weigh(outcomes, 0.1, DRAWING)
    assert weigh(outcomes, 0.1, DRAWING).holds == 1 / 4001


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.04, 0.03, 0.01], [0.06, 0.06, 0.03]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holm_multiplies_the_smallest_most(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


@given(st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(new >= old for new, old in zip(adjusted, p_values, strict=True))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [adjusted[place] for place in order] == sorted(adjusted)


def scipys(values: Floats) -> tuple[float, float]:
    found = stats.bootstrap(
        (values,), np.mean, confidence_level=0.95, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    return float(found.low), float(found.high)


@pytest.mark.parametrize(
    "values",
    [np.array([1.0] * 60 + [0.0] * 100 + [-1.0] * 20), np.random.default_rng(3).beta(2, 5, size=120)],
    ids=["three values", "real values"],
)
def test_the_interval_is_scipys_percentile_bootstrap(values: Floats) -> None:
    assert interval(values, 0.95, Drawing(20_000, 1)) == pytest.approx(scipys(values), abs=0.006)


def test_the_interval_of_equal_values_is_a_point() -> None:
    assert interval(np.array([0.5] * 9), 0.95, DRAWING) == (0.5, 0.5)


def test_the_items_needed_follow_the_formula() -> None:
    outcomes = paired(20, 150, 10)
    spread, distance = float(outcomes.values.std()), outcomes.mean + 0.02
    expected = ((1.6448536 + 0.8416212) * spread / distance) ** 2
    assert items_needed(outcomes, -0.02, 0.05) == max(math.ceil(expected), 181)


def test_where_nothing_differs_the_items_needed_are_those_without_one_to_the_contrary() -> None:
    needed = items_needed(paired(0, 20, 0), -0.05, 0.05)
    assert needed == 59
    assert three_values(0, 59, 0, -0.05) <= 0.05 < three_values(0, 58, 0, -0.05)


def test_on_the_line_itself_no_number_of_items_would_decide() -> None:
    assert items_needed(paired(5, 90, 10), -0.05 + 2 / 105, 0.05) is not None
    assert items_needed(paired(10, 80, 10), 0.0, 0.05) is None


@settings(deadline=None, max_examples=20)
@given(st.integers(min_value=30, max_value=200), st.integers(min_value=1, max_value=20))
def test_the_items_needed_are_more_than_there_are(ties: int, wins: int) -> None:
    outcomes = paired(wins, ties, 1)
    needed = items_needed(outcomes, 0.0, 0.05)
    assert needed is None or needed > len(outcomes.values)
