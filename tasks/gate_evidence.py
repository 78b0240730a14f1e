"""What a rule may be decided on: the values of each item, found or refused.

No evidence is a refusal, never a pass, and each way to have none has its own reason.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.errors import EvidenceMissing, FileInvalid
from tasks.files import parse_json
from tasks.gate_statistics import Floats, Outcomes
from tasks.params_gate import Rule
from tasks.records import Champion, Evaluation, Score
from tasks.verdict_records import GateEvidence, Problem


class NoEvidence(EvidenceMissing):
    """There is nothing that a rule could be decided on; `problem` names the reason for programs."""

    def __init__(self, problem: Problem, message: str) -> None:
        super().__init__(message)
        self.problem: Problem = problem


@dataclass(frozen=True)
class Case:
    """Everything that a verdict rests on."""

    base: Evaluation
    candidate: Evaluation
    champion: Champion
    evidence: GateEvidence


@dataclass(frozen=True)
class Paired:
    """Two models on the same items: candidate minus other, turned so that more is better."""

    differences: Outcomes
    wins: int
    losses: int


def read_evaluation(path: Path) -> Evaluation:
    """An evaluation that was written by its stage.

    Raises:
        NoEvidence: it holds something else than finite numbers where numbers belong ("N/A", say), or is torn.
        FileInvalid: there is no such file.
    """
    if not path.exists():
        raise FileInvalid(f"{path}: no such file; run `dvc repro` to make it")
    return parse_evaluation(path.read_text(encoding="utf-8", errors="replace"), str(path))


def parse_evaluation(text: str, origin: str) -> Evaluation:
    """The evaluation in a file's text.

    Raises:
        NoEvidence: as for `read_evaluation`.
    """
    try:
        return parse_json(text, Evaluation, origin)
    except FileInvalid as error:
        raise NoEvidence("unreadable", str(error)) from None


def check_candidate(candidate: Evaluation, evidence: GateEvidence) -> None:
    """Scores count only for exactly the adapter that is judged.

    Raises:
        NoEvidence: they were measured on another one.
    """
    if candidate.adapter_digest != evidence.adapter_digest:
        raise NoEvidence(
            "other_adapter",
            f"measured was adapter {str(candidate.adapter_digest)[:12]}, to judge is {evidence.adapter_digest[:12]}; "
            "run `dvc repro evaluate_candidate`",
        )


def check_template(candidate: Evaluation, benchmark: str, evidence: GateEvidence) -> None:
    """Scores count only under the chat template that was trained with; a benchmark without one is fine.

    Raises:
        NoEvidence: the benchmark was measured under another one.
    """
    fingerprint = candidate.fingerprint(benchmark)
    if fingerprint is not None and fingerprint.chat_template_digest not in {"", evidence.template_digest}:
        raise NoEvidence(
            "other_template",
            f"measured with chat template {fingerprint.chat_template_digest[:12]}, trained with "
            f"{evidence.template_digest[:12]}; run `dvc repro train evaluate_candidate`",
        )


def find_score(evaluation: Evaluation, rule: Rule) -> Score:
    """The score that `rule` speaks of, whole and finite.

    Raises:
        NoEvidence: it was not measured, or is not what a rule may be decided on.
    """
    where = f"{evaluation.model} on {rule.benchmark} {rule.metric}"
    score = evaluation.score(rule.benchmark, rule.metric, rule.filter_name)
    fingerprint = evaluation.fingerprint(rule.benchmark)
    if score is None or fingerprint is None:
        raise NoEvidence("not_measured", _not_measured(evaluation, rule))
    if score.samples == 0 or not score.per_sample:
        raise NoEvidence("no_samples", f"no samples of {where} with filter {rule.filter_name!r}")
    if len(score.per_sample) != score.samples:
        raise NoEvidence("torn", f"{where}: {len(score.per_sample)} values of {score.samples} items")
    odd = next((place for place, value in enumerate(score.per_sample) if not math.isfinite(value)), None)
    if odd is not None or not math.isfinite(score.value):
        found = score.value if odd is None else score.per_sample[odd]
        item = "" if odd is None else f", item {odd}"
        raise NoEvidence("not_finite", f"{where}{item}: {found} is not a finite number")
    if fingerprint.limit is not None:
        raise NoEvidence(
            "limited",
            f"{where} was limited to {fingerprint.limit} items; set evaluate.limit to null and run again",
        )
    _check_range(score, rule, where)
    return score


def _not_measured(evaluation: Evaluation, rule: Rule) -> str:
    measured = [score for score in evaluation.scores if score.benchmark == rule.benchmark]
    if not measured:
        return f"{evaluation.model} was not measured on {rule.benchmark}; name it in evaluate.benchmarks and run again"
    known = ", ".join(f"{score.metric} with filter {score.filter_name!r}" for score in measured)
    return (
        f"no samples of {evaluation.model} on {rule.benchmark} {rule.metric} with filter {rule.filter_name!r}; "
        f"measured was {known}"
    )


def _check_range(score: Score, rule: Rule, where: str) -> None:
    lowest, highest = rule.range
    outside = next(
        ((place, value) for place, value in enumerate(score.per_sample) if not lowest <= value <= highest), None
    )
    if outside is not None:
        place, value = outside
        raise NoEvidence(
            "outside_range",
            f"{where}, item {place}: {value:g} lies outside the rule's range, {lowest:g} to {highest:g}, on which its "
            "proofs rest; widen gate.rules range",
        )


def outcomes(score: Score, rule: Rule) -> Outcomes:
    """The values of one model, turned so that more is better."""
    lowest, highest = rule.range
    values = np.array(score.per_sample, dtype=np.float64)
    return Outcomes(values, lowest, highest) if score.higher_is_better else Outcomes(-values, -highest, -lowest)


def pair(candidate: Evaluation, other: Evaluation, rule: Rule) -> Paired:
    """The differences of two models, item by item.

    Raises:
        NoEvidence: a score is missing, or the two were not measured alike.
    """
    ours, theirs = find_score(candidate, rule), find_score(other, rule)
    if candidate.fingerprint(rule.benchmark) != other.fingerprint(rule.benchmark):
        raise NoEvidence("other_fingerprint", _other_fingerprint(candidate, other, rule))
    if ours.samples != theirs.samples:
        raise NoEvidence(
            "other_items",
            f"{candidate.model} has {ours.samples} items of {rule.benchmark} and {other.model} has {theirs.samples}; "
            f"{_evaluate_again(other)}",
        )
    differences: Floats = outcomes(ours, rule).values - outcomes(theirs, rule).values
    width = rule.range[1] - rule.range[0]
    return Paired(Outcomes(differences, -width, width), int((differences > 0).sum()), int((differences < 0).sum()))


def _other_fingerprint(candidate: Evaluation, other: Evaluation, rule: Rule) -> str:
    ours, theirs = candidate.fingerprint(rule.benchmark), other.fingerprint(rule.benchmark)
    pairs = [] if ours is None or theirs is None else [(name, value, getattr(theirs, name)) for name, value in ours]
    differing = [f"{name} {_short(value)} and {_short(their)}" for name, value, their in pairs if value != their]
    return (
        f"{candidate.model} and {other.model} were measured under different fingerprints ({', '.join(differing)}); "
        f"{_evaluate_again(other)}"
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 16 else text[:12]


def _evaluate_again(other: Evaluation) -> str:
    if other.model == "base":
        return "run `dvc repro evaluate_base`"
    return (
        "go back to the settings it was measured under, or take the champion out of its stage with "
        "`gto deprecate NAME VERSION STAGE`; `tunegate status` names all three"
    )
