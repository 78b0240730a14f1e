"""The verdict: every rule applied, three ways to end, and what follows from them.

Passed when every condition is proved to hold. Refused when one is proved not to, or has no evidence. Inconclusive
otherwise, which is no pass: more items would decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.clean_scores import clean_scores
from tasks.diagnosis import diagnose, missing_evidence
from tasks.gate_conditions import Condition, conditions_of, decide, tie_condition
from tasks.gate_evidence import Case, NoEvidence
from tasks.gate_figures import judge_figure
from tasks.params_gate import GateParams, Rule
from tasks.records import TrainingPoint, TrainMetrics
from tasks.verdict_records import Comparison, GateEvidence, Outcome, RuleResult, Verdict


@dataclass(frozen=True)
class Training:
    """What the training left that a diagnosis reads."""

    history: Sequence[TrainingPoint]
    metrics: TrainMetrics


def judge(gate: GateParams, case: Case) -> Verdict:
    """Apply every rule; the verdict passes when at least one condition was asked and all are proved to hold."""
    conditions: list[Condition] = []
    missing: dict[int, RuleResult] = {}
    comparisons: dict[str, tuple[Comparison, ...]] = {}
    for place, rule in enumerate(gate.rules):
        try:
            judged = conditions_of(rule, case, gate)
        except NoEvidence as reason:
            missing[place] = _without_evidence(rule, reason)
            continue
        conditions += judged.conditions
        comparisons[f"{rule.benchmark} {rule.metric}"] = judged.comparisons
    tie = tie_condition(conditions, gate)
    decided = decide([*conditions, *([] if tie is None else [tie])], gate)
    results = [*_in_order(gate, conditions, decided, missing), *decided[len(conditions) :]]
    results += [result for bound in gate.measured for result in judge_figure(bound, case.evidence.figures)]
    verdict = _verdict(gate, case.evidence, results)
    return verdict.model_copy(
        update={"comparisons": comparisons, "champion": case.champion.release or case.champion.run}
    )


def _in_order(
    gate: GateParams, conditions: Sequence[Condition], decided: Sequence[RuleResult], missing: dict[int, RuleResult]
) -> list[RuleResult]:
    """The results in the order of the rules."""
    results: list[RuleResult] = []
    for place, rule in enumerate(gate.rules):
        own = [result for condition, result in zip(conditions, decided, strict=False) if condition.rule is rule]
        results += [missing[place]] if place in missing else own
    return results


def _without_evidence(rule: Rule, reason: NoEvidence) -> RuleResult:
    return RuleResult(
        benchmark=rule.benchmark,
        metric=rule.metric,
        condition="evidence",
        threshold=None,
        found=None,
        outcome="refused",
        reason=str(reason),
        problem=reason.problem,
    )


def _verdict(gate: GateParams, evidence: GateEvidence, results: Sequence[RuleResult]) -> Verdict:
    refused, undecided = _told(results, "refused"), _told(results, "inconclusive")
    if not results:
        refused = ("no rule asks anything, so nothing was proved",)
    return Verdict(
        verdict="refused" if refused else "inconclusive" if undecided else "passed",
        adapter_digest=evidence.adapter_digest,
        confidence=gate.confidence,
        results=tuple(results),
        comparisons={},
        failures=refused,
        diagnosis=(),
        undecided=undecided,
    )


def _told(results: Sequence[RuleResult], outcome: Outcome) -> tuple[str, ...]:
    return tuple(f"{item.benchmark} {item.metric}: {item.reason}" for item in results if item.outcome == outcome)


def unreadable(gate: GateParams, evidence: GateEvidence, reason: NoEvidence) -> Verdict:
    """The verdict where an evaluation cannot be read: refused, rule by rule."""
    verdict = _verdict(gate, evidence, [_without_evidence(rule, reason) for rule in gate.rules])
    return verdict.model_copy(update={"diagnosis": tuple(missing_evidence(verdict.results))})


def whole_verdict(gate: GateParams, case: Case, training: Training) -> Verdict:
    """The verdict with what is told beside it: scores without items that the base has seen, and what to try."""
    verdict = judge(gate, case)
    clean = clean_scores(gate, case.evidence.contaminated, case.base, case.candidate, case.champion)
    models = (case.base, case.candidate)
    found = diagnose(verdict, models, (training.history, training.metrics), case.evidence)
    return verdict.model_copy(update={"clean_scores": clean, "diagnosis": tuple(found)})
