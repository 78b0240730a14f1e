"""A verdict told to somebody who has never seen the project: plain sentences, no terms of statistics."""

from collections.abc import Iterator

from flows.run_record import RunRecord
from flows.wording import suggested_command, sweep_command_line
from tasks.gate_figures import MEANINGS, OF_THE_RUN
from tasks.verdict_records import RuleResult, Verdict
from tasks.verdict_text import amount, percent

WORDS = {
    "passed": "The candidate passed: every rule is proved to hold.",
    "refused": "The candidate was refused.",
    "inconclusive": "Nothing was decided: the candidate may be good or not, there were too few test items to tell.",
}
FOLLOWS = {
    "passed": "It may be merged and released.",
    "refused": "It is not merged and not released; what was in production stays there.",
    "inconclusive": "That is no pass: it is not merged and not released, and what was in production stays there.",
}


def explanation(record: RunRecord, verdict: Verdict) -> Iterator[str]:
    """The story of a verdict, a paragraph an entry."""
    base = record.params.get("base_model")
    name = base.get("name", "the base model") if isinstance(base, dict) else "the base model"
    yield f"Run {record.run_id} trained a change to {name}, the candidate, and examined it before anybody may use it."
    champion = (
        f"The one in production, the champion, is {verdict.champion}."
        if verdict.champion
        else "Nothing was in production yet, so that the base stands in for it."
    )
    yield (
        "The candidate answered the same test items as the model it started from, the base, and as the one in "
        f"production, and the answers were compared item by item. {champion}"
    )
    yield f"{WORDS[verdict.verdict]} {FOLLOWS[verdict.verdict]}"
    told = [result for result in verdict.results if not result.passed] or list(verdict.results)
    yield "\nWhy:" if verdict.verdict != "passed" else "\nWhat was proved:"
    for result in told:
        yield f"- {sentence(result)}"
    holding = [result for result in verdict.results if result.passed]
    if holding and verdict.verdict != "passed":
        yield "\nWhat does hold:"
        for result in holding:
            yield f"- {sentence(result)}"
    yield from _to_try(record.run_id, verdict)
    yield (
        f'\n"Proved" means: if it were not so, results like these would come about by chance in fewer than '
        f"{100 * (1 - verdict.confidence):.2g} of 100 such examinations, all rules taken together."
    )


def _to_try(run_id: str, verdict: Verdict) -> Iterator[str]:
    """Every finding with its numbers, and each alternative as a command that can be pasted."""
    if verdict.diagnosis:
        yield "\nWhat to try:" if verdict.verdict != "passed" else "\nHints for the next one:"
    for finding in verdict.diagnosis:
        yield f"- {finding.text}"
        if finding.evidence:
            yield f"    {finding.mode}: {', '.join(f'{name} {value}' for name, value in finding.evidence.items())}"
        for changes in finding.changes:
            yield f"    {sweep_command_line(changes)}"
    if any(finding.changes for finding in verdict.diagnosis):
        yield f"  All of them, in one table: {suggested_command(run_id)}"


def sentence(result: RuleResult) -> str:
    """One condition as a sentence: what was asked, what was seen, what follows."""
    if result.condition == "evidence":
        return f"{_where(result)}: there is nothing to judge by. {_upper(result.reason)}."
    if result.benchmark == OF_THE_RUN:
        return f"{_upper(result.reason)}; that {'holds' if result.passed else 'does not hold'}."
    return f"{_where(result)}: {_seen(result)} {_follows(result)}"


def _seen(result: RuleResult) -> str:
    found, limit = result.found or 0.0, result.threshold or 0.0
    items = f"{result.items:,} items" if result.items is not None else "the items"
    match result.condition:
        case "min_value":
            return f"the candidate reached {percent(found)} on {items}; it must reach {percent(limit)}."
        case "min_gain_over_base":
            return (
                f"it {_moved(found)} compared with the base, on {items}; it must be better by {amount(limit)} at least."
            )
        case "gain_over_champion":
            return f"it {_moved(found)} compared with the champion, on {items}; a tie leaves the champion in place."
    whom = result.other or "base"
    stands_in = ", which stands in for a champion" if whom not in result.condition else ""
    return (
        f"it {_moved(-found)} compared with the {whom}{stands_in}, on {items}; it may be worse by {amount(limit)} at "
        "most."
    )


def _moved(difference: float) -> str:
    if difference == 0:
        return "is as good"
    return f"is {'better' if difference > 0 else 'worse'} by {amount(abs(difference))}"


def _follows(result: RuleResult) -> str:
    if result.passed:
        return "That is proved."
    if result.condition == "gain_over_champion":
        return "No gain is proved, and the parameters (gate.tie) give a tie to the champion."
    if result.outcome == "refused":
        return "It is proved that it does not."
    if result.items_needed is None:
        return "What was seen lies exactly on the line: no number of such items would decide."
    return (
        f"With so few items chance could explain that either way; about {result.items_needed:,} items like these would "
        "most likely decide."
    )


def _where(result: RuleResult) -> str:
    if result.benchmark == OF_THE_RUN:
        return {str(figure): meaning for figure, meaning in MEANINGS.items()}[result.metric]
    return f"On {result.benchmark} ({result.metric})"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
