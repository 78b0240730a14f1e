"""The conditions of the rules: what each asks of which numbers, and how all of them are decided together.

A condition is decided when the claim that it holds, or the claim that it does not, is proved at the stated confidence,
adjusted for the number of conditions (Holm). The chance that any condition is wrongly said to hold is at most one minus
the confidence, and so is the chance that any is wrongly said not to hold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tasks import verdict_text
from tasks.gate_evidence import Case, check_candidate, check_template, find_score, outcomes, pair
from tasks.gate_statistics import Drawing, Evidence, Outcomes, holm, interval, items_needed, weigh
from tasks.params_gate import GateParams, Rule
from tasks.records import Evaluation
from tasks.verdict_records import Comparison, Other, Outcome, RuleResult

Name = Literal["min_value", "min_gain_over_base", "max_loss_from_base", "max_loss_from_champion", "gain_over_champion"]


@dataclass(frozen=True)
class Condition:
    """One thing that a rule asks: the mean of `outcomes` is at least `asked`.

    `limit` is the number in the parameters that `asked` comes from. `sign` turns the mean back to the metric's own
    direction. `tests` is how many claims this one was chosen from, 1 as a rule.
    """

    rule: Rule
    name: Name
    limit: float
    asked: float
    outcomes: Outcomes
    sign: float = 1.0
    other: Other | None = None
    tests: int = 1

    @property
    def found(self) -> float:
        """The mean that was found, turned so that it compares with `limit`."""
        return self.sign * self.outcomes.mean + 0.0  # no minus before a zero


@dataclass(frozen=True)
class Judged:
    """What one rule comes to before anything is decided."""

    conditions: list[Condition]
    comparisons: tuple[Comparison, ...]


def conditions_of(rule: Rule, case: Case, gate: GateParams) -> Judged:
    """Every condition of one rule, and the comparisons that they rest on.

    Without a champion the base stands in for it.

    Raises:
        NoEvidence: there is nothing that the rule could be decided on.
    """
    check_candidate(case.candidate, case.evidence)
    check_template(case.candidate, rule.benchmark, case.evidence)
    champion = case.champion.evaluation
    against_base = pair(case.candidate, case.base, rule)
    conditions = [*_floor(rule, case.candidate), *_against_base(rule, against_base.differences)]
    comparisons = [_comparison("base", against_base.differences, gate, against_base.wins, against_base.losses)]
    if rule.max_loss_from_champion is not None:
        other: Other = "base" if champion is None else "champion"
        against = against_base if champion is None else pair(case.candidate, champion, rule)
        limit = rule.max_loss_from_champion
        conditions.append(Condition(rule, "max_loss_from_champion", limit, -limit, against.differences, -1.0, other))
        if champion is not None:
            comparisons.append(_comparison("champion", against.differences, gate, against.wins, against.losses))
    return Judged(conditions, tuple(comparisons))


def _floor(rule: Rule, candidate: Evaluation) -> Iterator[Condition]:
    if rule.min_value is not None:
        score = find_score(candidate, rule)
        sign = 1.0 if score.higher_is_better else -1.0
        yield Condition(rule, "min_value", rule.min_value, sign * rule.min_value, outcomes(score, rule), sign)


def _against_base(rule: Rule, differences: Outcomes) -> Iterator[Condition]:
    if (gain := rule.min_gain_over_base) is not None:
        yield Condition(rule, "min_gain_over_base", gain, gain, differences, 1.0, "base")
    if (loss := rule.max_loss_from_base) is not None:
        yield Condition(rule, "max_loss_from_base", loss, -loss, differences, -1.0, "base")


def _comparison(other: Other, differences: Outcomes, gate: GateParams, wins: int, losses: int) -> Comparison:
    low, high = interval(differences.values, gate.confidence, drawing(gate))
    return Comparison(
        other=other,
        difference=rounded(differences.mean),
        low=rounded(low),
        high=rounded(high),
        wins=wins,
        losses=losses,
    )


def tie_condition(conditions: Sequence[Condition], gate: GateParams) -> Condition | None:
    """Where a tie leaves the champion in place: that on one of its metrics the candidate is better.

    The claim is made of the metric on which it is surest, so that its p-value counts for as many tests.
    """
    compared = [item for item in conditions if item.name == "max_loss_from_champion" and item.other == "champion"]
    if gate.tie == "candidate" or not compared:
        return None
    surest = min(compared, key=lambda item: weigh(item.outcomes, 0.0, drawing(gate)).holds)
    return replace(surest, name="gain_over_champion", limit=0.0, asked=0.0, sign=1.0, tests=len(compared))


def decide(conditions: Sequence[Condition], gate: GateParams) -> list[RuleResult]:
    """The result of every condition, in order."""
    found = [_weighed(condition, gate) for condition in conditions]
    holds = holm([rounded(evidence.holds) for evidence in found])
    broken = holm([rounded(evidence.broken) for evidence in found])
    return [
        _result(condition, Evidence(rounded(p), rounded(q), evidence.method), gate, len(conditions))
        for condition, evidence, p, q in zip(conditions, found, holds, broken, strict=True)
    ]


def _weighed(condition: Condition, gate: GateParams) -> Evidence:
    found = weigh(condition.outcomes, condition.asked, drawing(gate))
    return replace(found, holds=min(1.0, condition.tests * found.holds))


def _result(condition: Condition, adjusted: Evidence, gate: GateParams, family: int) -> RuleResult:
    alpha = 1 - gate.confidence
    outcome = _outcome(condition, adjusted, alpha)
    low, high = sorted(
        condition.sign * bound for bound in interval(condition.outcomes.values, gate.confidence, drawing(gate))
    )
    is_open = outcome == "inconclusive"
    needed = items_needed(condition.outcomes, condition.asked, alpha / family) if is_open else None
    result = RuleResult(
        benchmark=condition.rule.benchmark,
        metric=condition.rule.metric,
        condition=condition.name,
        threshold=condition.limit,
        found=rounded(condition.found),
        outcome=outcome,
        reason="",
        other=condition.other,
        low=rounded(low),
        high=rounded(high),
        items=len(condition.outcomes.values),
        method=adjusted.method,
        p_holds=adjusted.holds,
        p_broken=adjusted.broken,
        items_needed=needed,
    )
    return result.model_copy(update={"reason": verdict_text.reason(result)})


def _outcome(condition: Condition, adjusted: Evidence, alpha: float) -> Outcome:
    if adjusted.holds <= alpha:
        return "passed"
    if condition.name == "gain_over_champion":  # gate.tie decides what is not proved
        return "refused"
    return "refused" if adjusted.broken <= alpha else "inconclusive"


def drawing(gate: GateParams) -> Drawing:
    """How the gate draws."""
    return Drawing(gate.resamples, gate.seed)


def rounded(value: float) -> float:
    """Nine significant digits: the last ones may differ from one kind of processor to another."""
    return float(f"{value:.9g}") + 0.0
