"""Claims: the gate passes what is not so at most as often as stated, and finds what is so.

False passes: pairs of models are drawn again and again whose true difference is nothing, or exactly the margin, and the
whole gate judges them. Power: the share of truly better candidates that pass, by the size of the gain and the number of
items; of unchanged ones that are proved to lose less than a margin. Pictures: `python -m benchmarks.plot_gate`.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Claim, parse_arguments, show
from tasks.gate_evidence import Case
from tasks.gate_statistics import three_values
from tasks.params import load_params
from tasks.params_gate import GateParams
from tasks.records import Champion, Evaluation
from tasks.verdict import judge
from tasks.verdict_records import Outcome
from tests.unit.evaluations import EVIDENCE, fingerprint, gate, measured, rule, score

ROOT = Path(__file__).parents[1]
ALPHA = 0.05
GAINS = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2)
ITEMS = (50, 100, 200, 400, 800)
MARGINS = (0.03, 0.05, 0.08, 0.1)
MARGIN_ITEMS = (50, 100, 150, 180, 224, 300, 400, 600, 800)
GAIN_FLIPS, EQUAL_FLIPS = 0.2, 0.1
"""The share of items that two models answer differently: beside a gain, and when they are equally good."""

Generator = np.random.Generator
Values = NDArray[np.float64]
Pair = tuple[Evaluation, Evaluation]


@dataclass(frozen=True)
class Scenario:
    """Pairs of base and candidate about which the claim of every rule in `rules` is not so, or just not so."""

    name: str
    rules: GateParams
    draw: Callable[[Generator], Pair]
    wrong: Outcome


def answers(generator: Generator, difficulty: Values) -> Values:
    """Whether each item is answered rightly, by chance."""
    return (generator.random(len(difficulty)) < difficulty).astype(np.float64)


def pair(base: Values, candidate: Values) -> Pair:
    """Two evaluations of one benchmark."""
    return measured("base", score(base.tolist())), measured("candidate", score(candidate.tolist()))


def same_model(items: int) -> Callable[[Generator], Pair]:
    """No change: both answer by the same chance for each item, as a model does that was trained with another seed."""

    def draw(generator: Generator) -> Pair:
        difficulty = generator.beta(2, 1, items)
        return pair(answers(generator, difficulty), answers(generator, difficulty))

    return draw


def moved(items: int, difference: float, flips: float) -> Callable[[Generator], Pair]:
    """The candidate differs on a share of `flips`, by chance, and its true difference is `difference`."""

    def draw(generator: Generator) -> Pair:
        base = answers(generator, np.full(items, 0.5))
        chances = ((flips - difference) / 2, 1 - flips, (flips + difference) / 2)
        change = generator.choice([-1.0, 0.0, 1.0], p=chances, size=items)
        base = np.where(change == 0, base, (change < 0).astype(np.float64))
        return pair(base, base + change)

    return draw


def at_the_floor(items: int, floor: float) -> Callable[[Generator], Pair]:
    """The candidate's true score is the floor."""
    return lambda generator: pair(np.zeros(items), answers(generator, np.full(items, floor)))


def graded(items: int) -> Callable[[Generator], Pair]:
    """No change, with marks instead of right and wrong: most items tie, and the marks are far from normal."""

    def draw(generator: Generator) -> Pair:
        marks = generator.choice([0.0, 0.25, 0.5, 1.0], p=[0.6, 0.2, 0.1, 0.1], size=(2, items))
        tied = generator.random(items) < 0.7
        return pair(marks[0], np.where(tied, marks[0], marks[1]))

    return draw


def default_rules(routing: float, knowledge: float, flips: float) -> Callable[[Generator], Pair]:
    """The default's two benchmarks: the candidate's true score on the one, its true difference on the other."""

    def draw(generator: Generator) -> Pair:
        right = answers(generator, np.full(224, routing))
        base, candidate = moved(180, knowledge, flips)(generator)
        return both("base", np.zeros(224), base), both("candidate", right, candidate)

    return draw


def both(model: str, routing: Values, knowledge: Evaluation) -> Evaluation:
    """One model on both benchmarks of the default."""
    known = knowledge.scores[0].model_copy(update={"benchmark": "general_knowledge", "metric": "acc"})
    prints = [fingerprint("ticket_routing"), fingerprint("general_knowledge")]
    return measured(model, score(routing.tolist(), "ticket_routing"), known, fingerprints=prints)


def quick_intervals(rules: GateParams) -> GateParams:
    """The same rules; intervals are only shown, so that few drawings do."""
    return rules.model_copy(update={"resamples": 200, "measured": []})


def scenarios(default: GateParams) -> Iterator[Scenario]:
    """What is not so, with few and many items, and the verdict that would be wrong."""
    gain, loss = gate(rule(min_gain_over_base=0.0)), gate(rule(max_loss_from_base=0.05))
    floor, drawn = gate(rule(min_value=0.33)), gain.model_copy(update={"resamples": 2000})
    for items in (10, 40, 180, 1000):
        yield Scenario(f"no change, {items} items, a gain is asked", quick_intervals(gain), same_model(items), "passed")
    for items in (20, 180):
        worse = moved(items, -0.05, 0.15)
        yield Scenario(f"a loss of the margin itself, {items} items", quick_intervals(loss), worse, "passed")
    for items in (20, 224):
        at_floor = at_the_floor(items, 0.33)
        yield Scenario(f"the floor itself, {items} items", quick_intervals(floor), at_floor, "passed")
        yield Scenario(f"the floor itself, {items} items, refused", quick_intervals(floor), at_floor, "refused")
    for items in (10, 40, 150):
        yield Scenario(f"no change, marks with many ties, {items} items", drawn, graded(items), "passed")
    forgets = default_rules(0.6, -0.05, 0.15)
    yield Scenario("the default rules, knowledge lost by the margin", quick_intervals(default), forgets, "passed")
    too_low = default_rules(0.33, 0.05, 0.15)
    yield Scenario("the default rules, a score of the floor", quick_intervals(default), too_low, "passed")


def wrong_rate(scenario: Scenario, pairs: int) -> float:
    """The share of pairs that get the wrong verdict."""
    generator, wrong = np.random.default_rng(20), 0
    for _ in range(pairs):
        base, candidate = scenario.draw(generator)
        wrong += judge(scenario.rules, Case(base, candidate, Champion(), EVIDENCE)).verdict == scenario.wrong
    return wrong / pairs


def rate_of(place: int, pairs: int) -> float:
    """The rate of one scenario, by its place: what is drawn by a closure goes to no other process."""
    return wrong_rate(list(scenarios(load_params(ROOT / "params.yaml").gate))[place], pairs)


def proved_rate(items: int, difference: float, flips: float, threshold: float, pairs: int) -> float:
    """The share of pairs with this true difference that are proved to reach the threshold."""
    flips = max(flips, abs(difference))
    chances = ((flips + difference) / 2, 1 - flips, (flips - difference) / 2)
    counts = np.random.default_rng(21).multinomial(items, chances, size=pairs)
    seen, times = np.unique(counts, axis=0, return_counts=True)
    proved = [three_values(int(wins), int(ties), int(losses), threshold) <= ALPHA for wins, ties, losses in seen]
    return float(times[proved].sum() / pairs)


def power(pairs: int) -> dict[str, list[dict[str, float]]]:
    """The share of candidates that are found to be what they are, over effects and numbers of items."""
    return {
        "gains": [
            {"items": items, "gain": gain, "power": proved_rate(items, gain, GAIN_FLIPS, 0.0, pairs)}
            for items in ITEMS
            for gain in GAINS
        ],
        "margins": [
            {"items": items, "margin": margin, "power": proved_rate(items, 0.0, EQUAL_FLIPS, -margin, pairs)}
            for margin in MARGINS
            for items in MARGIN_ITEMS
        ],
    }


def good_rate(default: GateParams, pairs: int) -> float:
    """The share of candidates as good as the default run's that the default rules pass."""
    good = default_rules(0.509, 0.09, 0.14)
    return wrong_rate(Scenario("a candidate like the default run's", quick_intervals(default), good, "passed"), pairs)


def bad_rate(default: GateParams, pairs: int) -> float:
    """The share of candidates as bad as one that was trained on wrong labels that the default rules refuse."""
    bad = default_rules(0.2, 0.0, 0.14)
    return wrong_rate(Scenario("a score of 20 %", quick_intervals(default), bad, "refused"), pairs)


def main() -> None:
    """Simulate, print, write."""
    arguments = parse_arguments(__doc__ or "")
    pairs = 60 if arguments.quick else 10_000
    default = load_params(ROOT / "params.yaml").gate
    names = [scenario.name for scenario in scenarios(default)]
    with ProcessPoolExecutor() as workers:
        rates = dict(zip(names, workers.map(rate_of, range(len(names)), [pairs] * len(names)), strict=True))
    claims = [Claim(f"wrong verdicts: {name}", rate, "of pairs", ALPHA, "max") for name, rate in rates.items()]
    claims += [
        Claim("candidates like the default run's that pass", good_rate(default, pairs // 10), "of pairs", 0.95, "min"),
        Claim(
            "candidates that truly score 20 % and are refused", bad_rate(default, pairs // 10), "of pairs", 0.95, "min"
        ),
    ]
    curves = power(pairs)
    for line in table(curves):
        print(line)
    print(f"wrong verdicts over {pairs:,} pairs each")
    show("", [], claims, is_quick=arguments.quick, path=arguments.json, more={"power": curves})


def table(curves: dict[str, list[dict[str, float]]]) -> Sequence[str]:
    """The power over items and effects, for a terminal."""
    lines = []
    for name, effect in (("gains", "gain"), ("margins", "margin")):
        rows = curves[name]
        effects = list(dict.fromkeys(row[effect] for row in rows))
        lines.append(f"{'items':>6} " + " ".join(f"{effect} {value:g}".rjust(12) for value in effects))
        for items in dict.fromkeys(row["items"] for row in rows):
            own = {row[effect]: row["power"] for row in rows if row["items"] == items}
            lines.append(f"{items:>6} " + " ".join(f"{own[value]:.2f}".rjust(12) for value in effects))
    return lines


if __name__ == "__main__":
    main()
