"""Planted evaluations: what a gate may be shown, without any model."""

from collections.abc import Sequence

from tasks.gate_evidence import Case
from tasks.params_gate import Bound, GateParams, Rule
from tasks.records import Champion, ContaminatedItems, Evaluation, Fingerprint, Score
from tasks.verdict import judge
from tasks.verdict_records import GateEvidence, Verdict

ADAPTER = "a" * 64
EVIDENCE = GateEvidence(
    adapter_digest=ADAPTER,
    template_digest="c",
    contaminated=ContaminatedItems(checked={"routing": 100}, seen_by_base={}),
    figures={"adapter_bytes": 1000.0, "pii_share": 0.0, "eval_loss": None},
)


def rule(**changes: object) -> Rule:
    asked: dict[str, object] = {
        "benchmark": "routing",
        "metric": "exact_match",
        "filter_name": "none",
        "range": [0.0, 1.0],
        "min_value": None,
        "min_gain_over_base": None,
        "max_loss_from_base": None,
        "max_loss_from_champion": None,
    }
    return Rule.model_validate(asked | changes)


def gate(*rules: Rule, tie: str = "candidate", measured: Sequence[Bound] = ()) -> GateParams:
    fields = {"confidence": 0.95, "resamples": 1000, "seed": 1, "tie": tie, "measured": list(measured)}
    return GateParams.model_validate({"rules": list(rules)} | fields)


def fingerprint(name: str = "routing", /, **changes: int | str | None) -> Fingerprint:
    fields: dict[str, object] = {
        "benchmark": name, "harness_version": "0.4.13", "definition_digest": "d", "num_fewshot": 0, "limit": None,
        "chat_template_digest": "c", "dtype": "float32", "batch_size": 8, "max_length": 256, "seed": 1,
    }  # fmt: skip
    return Fingerprint.model_validate(fields | changes)


def score(values: Sequence[float], benchmark: str = "routing", metric: str = "exact_match", **changes: object) -> Score:
    made = Score(
        benchmark=benchmark, metric=metric, filter_name="none", value=sum(values) / len(values) if values else 0.0,
        stderr=None, samples=len(values), higher_is_better=True, per_sample=tuple(values),
    )  # fmt: skip
    return made.model_copy(update=changes)


def measured(model: str, *scores: Score, fingerprints: Sequence[Fingerprint] | None = None) -> Evaluation:
    names = dict.fromkeys(item.benchmark for item in scores)
    return Evaluation(
        model=model,
        weights_digest=model,
        adapter_digest=ADAPTER,
        fingerprints=tuple(fingerprint(name) for name in names) if fingerprints is None else tuple(fingerprints),
        scores=scores,
    )


def evaluation(model: str, right: int, items: int = 100, **changes: int | str | None) -> Evaluation:
    """`right` of the items right, the first ones; the rest wrong."""
    values = [float(item < right) for item in range(items)]
    return measured(model, score(values), fingerprints=[fingerprint(**changes)])


def verdict(
    asked: Rule | GateParams, base: Evaluation, candidate: Evaluation, champion: Evaluation | None = None
) -> Verdict:
    holder = Champion(release=None if champion is None else "router@v0.0.1", evaluation=champion)
    rules = asked if isinstance(asked, GateParams) else gate(asked)
    return judge(rules, Case(base, candidate, holder, EVIDENCE))
