"""Scores without the items that the base model has seen: told beside the verdict, never ruled on."""

from tasks.params_gate import GateParams, Rule
from tasks.records import Champion, ContaminatedItems, Evaluation, Score
from tasks.verdict_records import CleanScore


def clean_scores(
    gate: GateParams, contaminated: ContaminatedItems, base: Evaluation, candidate: Evaluation, champion: Champion
) -> tuple[CleanScore, ...]:
    """The scores over the items that the base has not seen, for every rule whose benchmark it has seen items of.

    Base and candidate start from the same weights, so that a comparison of the two stays fair; a floor, or a score that
    is told to others, may owe something to items that were learnt by heart.
    """
    found: dict[tuple[str, str, str], CleanScore] = {}
    for rule in gate.rules:
        seen = frozenset(contaminated.seen_by_base.get(rule.benchmark, ()))
        if seen:
            key = (rule.benchmark, rule.metric, rule.filter_name)
            found[key] = _clean_score(rule, seen, (base, candidate, champion.evaluation))
    return tuple(found.values())


def _clean_score(
    rule: Rule, seen: frozenset[int], evaluations: tuple[Evaluation, Evaluation, Evaluation | None]
) -> CleanScore:
    measured = [_score_or_none(evaluation, rule) for evaluation in evaluations]
    items = max((score.samples for score in measured if score is not None), default=0)
    base, candidate, champion = (_mean_without(score, seen) for score in measured)
    return CleanScore(
        benchmark=rule.benchmark,
        metric=rule.metric,
        items=items,
        clean_items=items - sum(item < items for item in seen),
        base=base,
        candidate=candidate,
        champion=champion,
    )


def _score_or_none(evaluation: Evaluation | None, rule: Rule) -> Score | None:
    return None if evaluation is None else evaluation.score(rule.benchmark, rule.metric, rule.filter_name)


def _mean_without(score: Score | None, seen: frozenset[int]) -> float | None:
    """The mean over the items that are not in `seen`; `per_sample` is in the order in which lm-eval counts them."""
    values = [] if score is None else [value for item, value in enumerate(score.per_sample) if item not in seen]
    return sum(values) / len(values) if values else None


def clean_line(found: CleanScore) -> str:
    """One clean score for a terminal."""
    scores = {"base": found.base, "candidate": found.candidate, "champion": found.champion}
    told = ", ".join(f"{name} {100 * value:.1f} %" for name, value in scores.items() if value is not None)
    seen = found.items - found.clean_items
    return (
        f"{found.benchmark} {found.metric}: the base has seen {seen} of {found.items} items; "
        f"without them {told or 'nothing is left'}"
    )
