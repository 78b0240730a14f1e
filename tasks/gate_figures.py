"""Figures besides scores that are known when the gate decides, and the rules on them.

What differs from run to run (seconds, latency, the memory of a process) is in no output of a stage, because the same
inputs must give the same bytes; it is in the run record. The merged model's parity and latency are not known before
`merge`, which has rules of its own.
"""

from pathlib import Path

from tasks.params_gate import Bound, Figure
from tasks.records import ContaminatedItems, TrainMetrics, Validation
from tasks.verdict_records import RuleResult
from tasks.verdict_text import figure

MEANINGS: dict[Figure, str] = {
    "adapter_bytes": "size of the adapter's files",
    "contaminated_rows": "rows of training or validation that hold an item of a benchmark",
    "eval_loss": "validation loss of the weights that were saved",
    "final_loss": "loss of training at its end",
    "pii_share": "share of examples with personal data",
    "seen_items_share": "largest share of a benchmark's items that the base has seen",
    "trainable_share": "share of the weights that was trained",
    "train_tokens": "tokens that were trained on",
}
OF_THE_RUN = "run"
"""What stands for the benchmark in a result about a figure."""


def find_figures(
    adapter: Path,
    contaminated: ContaminatedItems,
    metrics: TrainMetrics,
    validation: Validation,
    contaminated_rows: int | None,
) -> dict[Figure, float | None]:
    """Every figure; None where it was not measured."""
    checked = contaminated.checked.items()
    seen = [len(contaminated.seen_by_base.get(name, ())) / items for name, items in checked if items]
    return {
        "adapter_bytes": float(sum(file.stat().st_size for file in sorted(adapter.rglob("*")) if file.is_file())),
        "contaminated_rows": None if contaminated_rows is None else float(contaminated_rows),
        "eval_loss": metrics.eval_loss,
        "final_loss": metrics.final_loss,
        "pii_share": pii_share(validation),
        "seen_items_share": round(max(seen), 6) if seen else None,
        "trainable_share": round(metrics.trainable_weights / metrics.all_weights, 6) if metrics.all_weights else None,
        "train_tokens": float(metrics.train_tokens),
    }


def pii_share(validation: Validation) -> float | None:
    """What the expectation suite found for the mean of `has_pii`; None where the suite does not ask for it."""
    for result in validation.results:
        if result.subject == "has_pii" and result.expectation.startswith("expect_column_mean_to_be_between"):
            try:
                return float(result.observed)
            except ValueError:
                return None
    return None


def judge_figure(bound: Bound, figures: dict[Figure, float | None]) -> list[RuleResult]:
    """The result of each side of a bound; such a figure is counted, not drawn, so that it holds or it does not."""
    found = figures.get(bound.figure)
    sides = (("figure_min", bound.min), ("figure_max", bound.max))
    if found is None:
        reason = f"{MEANINGS[bound.figure]}: not measured in this run, so nothing is proved"
        return [_result(bound, "evidence", None, None, reason)]
    return [_decided(bound, side, limit, found) for side, limit in sides if limit is not None]


def _decided(bound: Bound, side: str, limit: float, found: float) -> RuleResult:
    holds = found >= limit if side == "figure_min" else found <= limit
    asked = "at least" if side == "figure_min" else "at most"
    reason = f"{MEANINGS[bound.figure]}: {figure(found)}, {asked} {figure(limit)} is asked"
    return _result(bound, side, limit, found, reason, holds=holds)


def _result(
    bound: Bound, condition: str, limit: float | None, found: float | None, reason: str, *, holds: bool = False
) -> RuleResult:
    return RuleResult(
        benchmark=OF_THE_RUN,
        metric=bound.figure,
        condition=condition,
        threshold=limit,
        found=found,
        outcome="passed" if holds else "refused",
        reason=reason,
        problem="not_measured" if condition == "evidence" else None,
    )
