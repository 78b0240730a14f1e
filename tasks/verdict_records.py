"""The records of the gate: what it was shown besides evaluations, what it found, and what it decided.

The JSON of a verdict is a stable, versioned schema. Version 1 (two outcomes, no p-values) and version 2 (a diagnosis of
sentences) are still read: runs of old are on record with them.
"""

from typing import Any, Literal

from pydantic import FiniteFloat, model_validator

from tasks.finding_changes import PreparedWith, TrainedWith
from tasks.findings import Finding, unclassified
from tasks.params_gate import Figure
from tasks.records import ContaminatedItems, Record

VERSION = 3
Outcome = Literal["passed", "refused", "inconclusive"]
Other = Literal["base", "champion"]
Method = Literal["exact_mcnemar", "exact_binomial", "three_values", "bounded_mean"]
"""How a p-value was found: `tasks/gate_statistics.py` has the formulas."""
Problem = Literal[
    "unreadable", "not_measured", "no_samples", "torn", "not_finite", "limited", "outside_range", "other_fingerprint",
    "other_items", "other_adapter", "other_template", "nothing_asked",
]  # fmt: skip
"""Why there is no evidence; each is a refusal with its own reason."""


class AnswerFaults(Record):
    """How a candidate's generated answers of one benchmark ended and what stands in them, counted item by item.

    `at_limit` are answers that ran to their greatest length, of `known_endings` whose engine told how they ended;
    `goes_on` are wrong ones that begin with the right answer and go on, `marked` those with marks of a chat template.
    """

    benchmark: str
    generated: int
    known_endings: int
    at_limit: int
    goes_on: int
    marked: int


class LabelNoise(Record):
    """Rows that ask the same and are answered otherwise, of all rows that `dedup` compared; `example` names a pair."""

    pairs: int
    rows: int
    compared: int
    example: tuple[str, str] | None


class SwappedLabels(Record):
    """How many labels of a benchmark the candidate answers with another one; `items` are those of the swapped ones.

    `labels` are right answers of several items each; `example` is a swapped one and what is answered instead.
    """

    benchmark: str
    labels: int
    swapped: int
    items: int
    example: tuple[str, str] | None


class GateEvidence(Record):
    """What the gate was shown besides evaluations and the records of the training; with them a verdict is replayed.

    `template_digest` is that of the chat template in training; a figure that was not measured is None. The rest is what
    findings are made of; records of before have none of it.
    """

    schema_version: Literal[1] = 1
    adapter_digest: str
    template_digest: str
    contaminated: ContaminatedItems
    figures: dict[Figure, FiniteFloat | None]
    trained_with: TrainedWith | None = None
    prepared_with: PreparedWith | None = None
    label_noise: LabelNoise | None = None
    answers: tuple[AnswerFaults, ...] = ()
    swapped_labels: tuple[SwappedLabels, ...] = ()


class Comparison(Record):
    """A paired difference candidate minus other, with its bootstrap interval."""

    other: Other
    difference: float
    low: float
    high: float
    wins: int
    losses: int


class RuleResult(Record):
    """One condition of one rule: what was asked, what was found, what is proved.

    `p_holds` and `p_broken` are the p-values of the two claims, that the condition holds and that it does not, each
    adjusted for the number of conditions (Holm). `items_needed` is given where neither is proved. A verdict of schema
    version 1 has neither these nor an interval; a condition on a figure besides scores has none by nature.
    """

    benchmark: str
    metric: str
    condition: str
    threshold: float | None
    found: float | None
    outcome: Outcome
    reason: str
    other: Other | None = None
    low: float | None = None
    high: float | None = None
    items: int | None = None
    method: Method | None = None
    p_holds: float | None = None
    p_broken: float | None = None
    items_needed: int | None = None
    problem: Problem | None = None

    @property
    def passed(self) -> bool:
        """Whether it is proved to hold."""
        return self.outcome == "passed"


class CleanScore(Record):
    """The scores of one metric over the items that the base model has not seen; None when no such item was measured."""

    benchmark: str
    metric: str
    items: int
    clean_items: int
    base: float | None
    candidate: float | None
    champion: float | None


class Verdict(Record):
    """What the gate decided about one adapter, and why.

    `champion` names the release that was compared with; None when nothing holds production and the base stood in.
    `failures` are the reasons of a refusal, `undecided` what is neither proved nor disproved. `diagnosis` and
    `clean_scores` are told, not ruled on: what the evidence shows to be wrong, a hint where the candidate passed; and a
    line for every metric of a rule whose benchmark the base model has seen.
    """

    schema_version: Literal[3] = 3
    verdict: Outcome
    adapter_digest: str
    confidence: float
    results: tuple[RuleResult, ...]
    comparisons: dict[str, tuple[Comparison, ...]]
    failures: tuple[str, ...]
    diagnosis: tuple[Finding, ...]
    champion: str | None = None
    undecided: tuple[str, ...] = ()
    clean_scores: tuple[CleanScore, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not a pass."""
        return (*self.failures, *self.undecided)

    @model_validator(mode="before")
    @classmethod
    def _of_any_known_version(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("schema_version", VERSION) == VERSION:
            return value
        if value["schema_version"] == 1:
            value = _from_version_1(value)
        if value["schema_version"] == 2:
            return _from_version_2(value)
        raise ValueError(
            f"a verdict of schema version {value['schema_version']!r}; this tunegate reads versions 1 to {VERSION}: "
            "read it with the tunegate that wrote it, or a newer one"
        )


def _from_version_1(value: dict[str, Any]) -> dict[str, Any]:
    """Version 1 said `passed` of a condition where version 2 has its outcome."""
    results = [dict(result) for result in value.get("results", ())]
    for result in results:
        if "passed" in result:
            result["outcome"] = "passed" if result.pop("passed") else "refused"
    return value | {"schema_version": 2, "results": results}


def _from_version_2(value: dict[str, Any]) -> dict[str, Any]:
    """Version 2 had sentences where version 3 has findings."""
    findings = [unclassified(sentence) for sentence in value.get("diagnosis", ())]
    return value | {"schema_version": VERSION, "diagnosis": findings}
