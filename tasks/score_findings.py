"""What scores and the training's end show together: forgetting, too little learned, and what is learned but not asked.

They are told apart by numbers. A target that was missed with a loss that is still high was learned too little: for want
of steps where the loss was still falling, for want of capacity where it had come to rest. Missed with a low loss, what
was learned is not what the benchmark asks.
"""

from collections.abc import Iterator, Sequence

from tasks.curve_findings import STILL_FALLING, better_fit, late_fall, rounded, training_losses
from tasks.finding_changes import PreparedWith, TrainedWith, more_replay, shorter, slower, unquantised, wider
from tasks.findings import Finding
from tasks.records import Evaluation, TrainingPoint, TrainMetrics
from tasks.verdict_records import RuleResult, Verdict

HIGH_LOSS = 1.0
"""A loss above this, in nats a token, of a training whose candidate misses its target, is high."""
EXPLAINED = frozenset({"under_fitting", "unstable_training"})
"""Findings of the curves that say already why little was learned."""


def missed_targets(verdict: Verdict) -> list[RuleResult]:
    """The refused conditions that ask for a score or a gain."""
    return [
        item
        for item in verdict.results
        if item.condition in {"min_value", "min_gain_over_base"} and item.outcome == "refused"
    ]


def forgetting(verdict: Verdict, prepared: PreparedWith | None, trained: TrainedWith | None) -> Iterator[Finding]:
    """Benchmarks that were lost on: proved to be lost too much, or by an interval that lies above zero."""
    for item in verdict.results:
        is_lost = item.outcome == "refused" or (item.low is not None and item.low > 0)
        if item.condition != "max_loss_from_base" or not is_lost:
            continue
        replay = [] if prepared is None else more_replay(prepared)
        less = [] if trained is None else [*slower(trained), *shorter(trained)]
        share = "" if prepared is None else f"now {prepared.replay_share:g}, "
        where = "" if prepared is None or prepared.has_replay else ", which needs a source of role replay"
        yield Finding(
            mode="forgetting",
            evidence=_numbers(item),
            sentence=f"forgetting on {item.benchmark}",
            mitigation=f"raise split.replay_share ({share}5 to 10 % is usual){where}, lower train.learning_rate or "
            "train fewer epochs",
            changes=(*replay, *less),
        )


def _numbers(item: RuleResult) -> dict[str, int | float | str]:
    """The numbers of a condition, as evidence."""
    named = {
        "found": item.found, "threshold": item.threshold, "low": item.low, "high": item.high, "items": item.items,
        "items_needed": item.items_needed,
    }  # fmt: skip
    texts: dict[str, int | float | str] = {"benchmark": item.benchmark, "metric": item.metric}
    return texts | {name: value for name, value in named.items() if value is not None}


def too_little_learned(
    verdict: Verdict, points: Sequence[TrainingPoint], metrics: TrainMetrics, trained: TrainedWith | None
) -> Iterator[Finding]:
    """Why a candidate that misses its target has a loss that is still high."""
    if not missed_targets(verdict) or metrics.final_loss <= HIGH_LOSS:
        return
    fall = late_fall(training_losses(points))
    numbers: dict[str, int | float | str] = {"final_loss": rounded(metrics.final_loss), "steps": metrics.steps}
    numbers |= {} if fall is None else {"late_fall": fall}
    is_at_rest = fall is not None and fall <= STILL_FALLING
    if not any(finding.mode in EXPLAINED for finding in metrics.findings):
        yield _high_loss(numbers, fall, trained)
    if is_at_rest and trained is not None and (modules := wider(trained)):
        yield Finding(
            mode="target_modules",
            evidence=numbers | {"target_modules": _named(trained)},
            sentence=f"the training loss came to rest at {metrics.final_loss:.2f}, with adapters in {_named(trained)} "
            "alone",
            mitigation="add target modules: all four of attention, then every linear layer",
            changes=tuple(modules),
        )
    if is_at_rest and trained is not None and (plain := unquantised(trained)):
        yield Finding(
            mode="quantisation_gap",
            evidence=numbers | {"method": trained.method},
            sentence=f"the training loss came to rest at {metrics.final_loss:.2f} on a base in 4 bits",
            mitigation="whether quantisation is the reason only a comparison tells: "
            "`tunegate compare --methods qlora,lora`",
            changes=tuple(plain),
        )


def _high_loss(numbers: dict[str, int | float | str], fall: float | None, trained: TrainedWith | None) -> Finding:
    sentence = f"the training loss is still {float(numbers['final_loss']):.2f}"
    if fall is not None:
        how = "fell by" if fall > STILL_FALLING else "came to rest: it fell by"
        sentence += f" and {how} {100 * fall:.1f} % from the middle third of the steps to the last"
    known = ("raise lora.r to 16 or 32, or train longer", []) if trained is None else better_fit(trained, fall)
    mitigation, changes = known
    return Finding(
        mode="under_fitting", evidence=numbers, sentence=sentence, mitigation=mitigation, changes=tuple(changes)
    )


def _named(trained: TrainedWith) -> str:
    modules = trained.target_modules
    return modules if isinstance(modules, str) else ", ".join(modules or ())


def fit_without_transfer(
    verdict: Verdict,
    models: tuple[Evaluation, Evaluation],
    points: Sequence[TrainingPoint],
    metrics: TrainMetrics,
    trained: TrainedWith | None,
) -> Iterator[Finding]:
    """What was learned, by a loss that is low, and does not show on the first benchmark that was missed.

    Args:
        verdict: with its results.
        models: the evaluations of base and candidate.
        points: the training's history.
        metrics: what the training did.
        trained: the parameters that it was trained with.
    """
    missed = missed_targets(verdict)
    losses = [point.eval_loss for point in points if point.eval_loss is not None]
    loss = losses[-1] if losses else metrics.final_loss
    if not missed or loss > HIGH_LOSS:
        return
    name = "validation" if losses else "training"
    benchmark, numbers = missed[0].benchmark, _numbers(missed[0]) | {f"{name}_loss": rounded(loss)}
    seen = f"{benchmark} does not follow, although the {name} loss is {loss:.2f} ({_moved(benchmark, *models)})"
    yield Finding(
        mode="noisy_data",
        evidence=numbers,
        sentence=seen,
        mitigation="the training labels may not mean what the benchmark means; look for wrong labels in the sources "
        "(data/sources), then compare prompts in the report",
    )
    if trained is not None and (modules := wider(trained)):
        yield Finding(
            mode="target_modules",
            evidence=numbers | {"target_modules": _named(trained)},
            sentence=f"what adapters in {_named(trained)} alone learned does not carry over to {benchmark}",
            mitigation="add target modules: all four of attention, then every linear layer",
            changes=tuple(modules),
        )


def _moved(benchmark: str, base: Evaluation, candidate: Evaluation) -> str:
    pairs = [
        (score, base.score(benchmark, score.metric, score.filter_name))
        for score in candidate.scores
        if score.benchmark == benchmark
    ]
    return ", ".join(
        f"{score.metric} {other.value:.2f} to {score.value:.2f}" for score, other in pairs if other is not None
    )


def too_few_items(verdict: Verdict) -> Iterator[Finding]:
    """Of every benchmark with open conditions the one that needs most items."""
    needed: dict[str, RuleResult] = {}
    for item in verdict.results:
        if item.outcome == "inconclusive" and item.items is not None and item.items_needed is not None:
            known = needed.get(item.benchmark)
            if known is None or (known.items_needed or 0) < item.items_needed:
                needed[item.benchmark] = item
    for benchmark, item in needed.items():
        yield Finding(
            mode="too_few_items",
            evidence=_numbers(item),
            sentence=f"{benchmark} has {item.items:,} items and about {item.items_needed:,} would decide",
            mitigation="add items to it (tasks/evals), allow a wider margin in gate.rules, or train a candidate that "
            "is further from the line",
        )
