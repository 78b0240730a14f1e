"""What the evidence shows about a candidate and what to try, the likeliest cause first; never from an exit code.

Findings come with a verdict that is no pass, and as hints with one that is. What the training's curves show is in its
metrics already (`curve_findings`); the other families have a module each.
"""

from collections.abc import Iterator, Sequence

from tasks.answer_findings import answer_findings, other_template
from tasks.findings import Changes, Finding
from tasks.label_findings import label_findings, swap_findings
from tasks.records import Evaluation, TrainingPoint, TrainMetrics
from tasks.score_findings import fit_without_transfer, forgetting, too_few_items, too_little_learned
from tasks.verdict_records import GateEvidence, RuleResult, Verdict


def diagnose(
    verdict: Verdict,
    models: tuple[Evaluation, Evaluation],
    training: tuple[Sequence[TrainingPoint], TrainMetrics],
    evidence: GateEvidence,
) -> Iterator[Finding]:
    """The findings about a verdict.

    Args:
        verdict: with its results.
        models: the evaluations of base and candidate.
        training: the history and the metrics of the training.
        evidence: what else the gate was shown.
    """
    if any(item.condition == "evidence" for item in verdict.results):
        yield from missing_evidence(verdict.results)
        return
    points, metrics = training
    trained, prepared = evidence.trained_with, evidence.prepared_with
    yield from answer_findings(evidence.answers, models[1], trained)
    yield from forgetting(verdict, prepared, trained)
    yield from metrics.findings
    yield from too_little_learned(verdict, points, metrics, trained)
    yield from label_findings(evidence.label_noise, prepared)
    yield from swap_findings(evidence.swapped_labels)
    yield from fit_without_transfer(verdict, models, points, metrics, trained)
    yield from too_few_items(verdict)


def missing_evidence(results: Sequence[RuleResult]) -> Iterator[Finding]:
    """That there is nothing to judge by, with the one cause of it that is a parameter."""
    yield from other_template(results)
    missing = [item for item in results if item.condition == "evidence" and item.problem != "other_template"]
    for problem in dict.fromkeys(item.problem or "not_measured" for item in missing):
        where = [item for item in missing if (item.problem or "not_measured") == problem]
        whole: tuple[Changes, ...] = ({"evaluate.limit": None},) if problem == "limited" else ()
        names = ", ".join(dict.fromkeys(item.benchmark for item in where))
        yield Finding(
            mode="missing_evidence",
            evidence={"problem": problem, "benchmarks": names, "conditions": len(where)},
            sentence=f"evidence is missing on {names} ({problem.replace('_', ' ')})",
            mitigation="measure every item" if whole else "mend the evaluation before changing the training",
            changes=whole,
        )
