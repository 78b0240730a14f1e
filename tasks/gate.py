"""Stage `gate`: evaluations, champion, adapter -> data/gate (verdict.json, approval.json of the adapter).

Always succeeds as a stage: the verdict is data, so that refused runs are locked and recorded too. Every comparison is
paired, item by item, and no evidence is a refusal, never a pass.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from tasks import paths
from tasks.approvals import Approval, write_approval
from tasks.clean_scores import clean_line, clean_scores
from tasks.diagnosis import diagnose
from tasks.digests import digest_path
from tasks.entry import run_stage
from tasks.errors import EvidenceMissing
from tasks.files import read_json, read_jsonl, write_json
from tasks.params import GateParams, Rule, load_params
from tasks.records import (
    Champion,
    Comparison,
    ContaminatedItems,
    Evaluation,
    RuleResult,
    Score,
    SupervisionAudit,
    TrainingPoint,
    TrainMetrics,
    Verdict,
)


def find_score(evaluation: Evaluation, rule: Rule) -> Score:
    """The score that `rule` speaks of.

    Raises:
        EvidenceMissing: it was not measured, has no samples, or comes from a limited evaluation.
    """
    score = evaluation.score(rule.benchmark, rule.metric, rule.filter_name)
    fingerprint = evaluation.fingerprint(rule.benchmark)
    where = f"{evaluation.model} on {rule.benchmark} {rule.metric}"
    if score is None or fingerprint is None or score.samples == 0:
        raise EvidenceMissing(f"no samples of {where} with filter {rule.filter_name!r}")
    if fingerprint.limit is not None:
        raise EvidenceMissing(f"{where} was limited to {fingerprint.limit} items; set evaluate.limit to null")
    return score


def compare(candidate: Evaluation, other: Evaluation, rule: Rule, gate: GateParams) -> Comparison:
    """The paired difference candidate minus other on one metric, turned so that more is better.

    The interval is the percentile bootstrap over items (scipy.stats.bootstrap, seeded).

    Raises:
        EvidenceMissing: a score is missing, or the two were measured under different fingerprints.
    """
    ours, theirs = find_score(candidate, rule), find_score(other, rule)
    if candidate.fingerprint(rule.benchmark) != other.fingerprint(rule.benchmark):
        raise EvidenceMissing(
            f"{rule.benchmark}: {candidate.model} and {other.model} were measured under different fingerprints; "
            f"{_evaluate_again(other)}"
        )
    sign = 1.0 if ours.higher_is_better else -1.0
    differences = sign * (np.array(ours.per_sample) - np.array(theirs.per_sample))
    low, high = interval(differences, gate)
    return Comparison(
        other="champion" if other.model == "champion" else "base",
        difference=float(differences.mean()),
        low=low,
        high=high,
        wins=int((differences > 0).sum()),
        losses=int((differences < 0).sum()),
    )


def _evaluate_again(other: Evaluation) -> str:
    if other.model == "base":
        return "run `dvc repro evaluate_base`"
    return (
        "go back to the settings it was measured under, or take the champion out of its stage with "
        "`gto deprecate NAME VERSION STAGE`; `tunegate status` names all three"
    )


def interval(differences: "np.ndarray[tuple[int], np.dtype[np.float64]]", gate: GateParams) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean at `gate.confidence`; a point where all differences are equal."""
    if len(differences) < 2 or np.all(differences == differences[0]):
        return float(differences.mean()), float(differences.mean())
    found = stats.bootstrap(
        (differences,),
        np.mean,
        confidence_level=gate.confidence,
        n_resamples=gate.resamples,
        method="percentile",
        rng=np.random.default_rng(gate.seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def judge_rule(
    rule: Rule, candidate: Evaluation, base: Evaluation, champion: Evaluation | None, gate: GateParams
) -> tuple[list[RuleResult], list[Comparison]]:
    """Every condition of one rule, and the comparisons that it rests on."""
    try:
        score = find_score(candidate, rule)
        against_base = compare(candidate, base, rule, gate)
        comparisons = [against_base]
        results = [*_floor(rule, score), *_against_base(rule, against_base)]
        if champion is not None and rule.max_loss_from_champion is not None:
            against_champion = compare(candidate, champion, rule, gate)
            comparisons.append(against_champion)
            results.append(_against_champion(rule, against_champion, rule.max_loss_from_champion))
    except EvidenceMissing as missing:
        return [_result(rule, "evidence", None, None, passed=False, reason=str(missing))], []
    return results, comparisons


def _floor(rule: Rule, score: Score) -> Iterator[RuleResult]:
    if rule.min_value is not None:
        passed = score.value >= rule.min_value
        reason = (
            f"{_percent(score.value)} {'reaches' if passed else 'is below'} the floor of {_percent(rule.min_value)}"
        )
        yield _result(rule, "min_value", rule.min_value, score.value, passed=passed, reason=reason)


def _against_base(rule: Rule, found: Comparison) -> Iterator[RuleResult]:
    if rule.min_gain_over_base is not None:
        passed = found.low >= rule.min_gain_over_base
        reason = (
            f"gained {_points(found.difference)} over the base (at least {_points(found.low)} with confidence), "
            f"{_points(rule.min_gain_over_base)} asked"
        )
        yield _result(rule, "min_gain_over_base", rule.min_gain_over_base, found.low, passed=passed, reason=reason)
    if rule.max_loss_from_base is not None:
        passed = found.difference >= -rule.max_loss_from_base
        reason = (
            f"moved {_points(found.difference)} from the base ({_points(found.low)} to {_points(found.high)}), "
            f"a loss of {_points(rule.max_loss_from_base)} is allowed"
        )
        yield _result(
            rule, "max_loss_from_base", rule.max_loss_from_base, -found.difference, passed=passed, reason=reason
        )


def _against_champion(rule: Rule, found: Comparison, allowed: float) -> RuleResult:
    reason = (
        f"moved {_points(found.difference)} from the champion ({_points(found.low)} to {_points(found.high)}), "
        f"a loss of {_points(allowed)} is allowed"
    )
    passed = found.difference >= -allowed
    return _result(rule, "max_loss_from_champion", allowed, -found.difference, passed=passed, reason=reason)


def _result(
    rule: Rule, condition: str, threshold: float | None, found: float | None, *, passed: bool, reason: str
) -> RuleResult:
    return RuleResult(
        benchmark=rule.benchmark,
        metric=rule.metric,
        condition=condition,
        threshold=threshold,
        found=found,
        passed=passed,
        reason=reason,
    )


def judge(
    gate: GateParams, base: Evaluation, candidate: Evaluation, champion: Champion, adapter_digest: str
) -> Verdict:
    """Apply every rule; the verdict passes when at least one condition was asked and all hold.

    Scores that were not measured on exactly this adapter are no evidence about it.
    """
    results: list[RuleResult] = []
    comparisons: dict[str, tuple[Comparison, ...]] = {}
    measured_this = candidate.adapter_digest == adapter_digest
    for rule in gate.rules:
        if not measured_this:
            reason = f"measured was adapter {str(candidate.adapter_digest)[:12]}, to judge is {adapter_digest[:12]}"
            results.append(_result(rule, "evidence", None, None, passed=False, reason=reason))
            continue
        judged, compared = judge_rule(rule, candidate, base, champion.evaluation, gate)
        results += judged
        comparisons[f"{rule.benchmark} {rule.metric}"] = tuple(compared)
    failures = [f"{item.benchmark} {item.metric}: {item.reason}" for item in results if not item.passed]
    if not results:
        failures = ["no rule asks anything, so nothing was proved"]
    return Verdict(
        verdict="refused" if failures else "passed",
        adapter_digest=adapter_digest,
        confidence=gate.confidence,
        results=tuple(results),
        comparisons=comparisons,
        failures=tuple(failures),
        diagnosis=(),
    )


def same_template(verdict: Verdict, candidate: Evaluation, trained_digest: str) -> Verdict:
    """The verdict, refused when a benchmark was measured with another chat template than the one that was trained."""
    others = [item for item in candidate.fingerprints if item.chat_template_digest not in {"", trained_digest}]
    if not others:
        return verdict
    failures = tuple(
        f"{item.benchmark}: measured with chat template {item.chat_template_digest[:12]}, trained with "
        f"{trained_digest[:12]}; run `dvc repro train evaluate_candidate`"
        for item in others
    )
    return verdict.model_copy(update={"verdict": "refused", "failures": (*verdict.failures, *failures)})


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f} points"


def read_evaluation(which: str) -> Evaluation:
    """The evaluation of `base` or `candidate`."""
    folder = paths.EVALUATE_BASE if which == "base" else paths.EVALUATE_CANDIDATE
    return read_json(folder / paths.EVALUATION, Evaluation)


def summary_lines(verdict: Verdict) -> Sequence[str]:
    """The verdict for a terminal, a line for each condition."""
    marks = {True: "ok     ", False: "refused"}
    lines = [f"gate: {marks[item.passed]} {item.benchmark} {item.metric}: {item.reason}" for item in verdict.results]
    lines += [f"gate: clean   {clean_line(found)}" for found in verdict.clean_scores]
    return [*lines, *(f"gate: try: {advice}" for advice in verdict.diagnosis), f"gate: {verdict.verdict.upper()}"]


def main() -> None:
    """Judge the candidate, write the verdict and the decision about exactly this adapter."""
    params = load_params()
    base, candidate = read_evaluation("base"), read_evaluation("candidate")
    champion = read_json(paths.CHAMPION, Champion)
    verdict = judge(params.gate, base, candidate, champion, digest_path(paths.ADAPTER))
    verdict = same_template(verdict, candidate, read_json(paths.SUPERVISION, SupervisionAudit).template_digest)
    contaminated = read_json(paths.CONTAMINATED_ITEMS, ContaminatedItems)
    clean = clean_scores(params.gate, contaminated, base, candidate, champion)
    verdict = verdict.model_copy(update={"clean_scores": clean})
    if verdict.verdict == "refused":
        points = list(read_jsonl(paths.TRAIN_HISTORY, TrainingPoint))
        metrics = read_json(paths.TRAIN_METRICS, TrainMetrics)
        verdict = verdict.model_copy(update={"diagnosis": tuple(diagnose(verdict, base, candidate, points, metrics))})
    write_json(paths.VERDICT, verdict)
    evidence = {
        "evaluate_base": digest_path(paths.EVALUATE_BASE / paths.EVALUATION),
        "evaluate_candidate": digest_path(paths.EVALUATE_CANDIDATE / paths.EVALUATION),
    }
    approval = Approval(
        subject="adapter",
        digest=verdict.adapter_digest,
        evidence=evidence,
        approved_by="gate",
        decision="approved" if verdict.verdict == "passed" else "refused",
    )
    write_approval(paths.ADAPTER_APPROVAL, approval)
    print("\n".join(summary_lines(verdict)), flush=True)


if __name__ == "__main__":
    run_stage(main)
