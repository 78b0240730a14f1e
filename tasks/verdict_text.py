"""A verdict in words: the reason of each condition, the lines of a terminal."""

from collections.abc import Callable, Iterator, Sequence

from tasks.clean_scores import clean_line
from tasks.findings import Changes, Finding
from tasks.params_changes import written
from tasks.verdict_records import Outcome, RuleResult, Verdict

MARKS: dict[Outcome, str] = {"passed": "ok", "refused": "refused", "inconclusive": "open"}
PROVED: dict[Outcome, str] = {
    "passed": "proved to hold",
    "refused": "proved not to hold",
    "inconclusive": "neither proved nor disproved",
}


def reason(result: RuleResult) -> str:
    """What was found, what was asked, and what is proved, in one sentence."""
    return f"{_asked(result)}: {_proved(result)}"


def _asked(result: RuleResult) -> str:
    found, limit = result.found or 0.0, result.threshold or 0.0
    if result.condition == "min_value":
        return f"{percent(found)}{_between(result, percent)}, the floor is {percent(limit)}"
    if result.condition == "min_gain_over_base":
        return f"gained {points(found)} over the base{_between(result, points)}, {points(limit)} asked"
    if result.condition == "gain_over_champion":
        return f"gained {points(found)} over the champion{_between(result, points)}, and gate.tie asks for a gain"
    whom = result.condition.removeprefix("max_loss_from_")
    if whom != result.other:
        whom = f"{result.other}, which stands in as there is no {whom}"
    return f"moved {points(-found)} from the {whom}{_between_turned(result)}, a loss of {amount(limit)} is allowed"


def _between(result: RuleResult, written: Callable[[float], str]) -> str:
    if result.low is None or result.high is None:
        return ""
    return f" ({written(result.low)} to {written(result.high)})"


def _between_turned(result: RuleResult) -> str:
    """Losses are told as moves, which are the other way round."""
    if result.low is None or result.high is None:
        return ""
    return f" ({points(-result.high)} to {points(-result.low)})"


def _proved(result: RuleResult) -> str:
    if result.condition == "gain_over_champion" and result.outcome == "refused":
        return f"no gain is proved ({p_text(result.p_holds)}), so that the champion stays"
    if result.outcome == "inconclusive":
        needed = f"about {result.items_needed:,} would decide" if result.items_needed else "no number of them would"
        return f"{PROVED['inconclusive']} by {result.items} items, {needed}"
    return f"{PROVED[result.outcome]} ({p_text(result.p_holds if result.passed else result.p_broken)})"


def percent(value: float) -> str:
    """A share; what is none is written as it is."""
    return f"{100 * value:.1f} %" if abs(value) <= 1 else f"{value:.3f}"


def figure(value: float) -> str:
    """A count or a size: whole numbers in full, others with six digits."""
    return f"{value:,.0f}" if value.is_integer() else f"{value:,.6g}"


def points(value: float) -> str:
    """A difference of shares, signed; other differences as they are."""
    value += 0.0  # no minus before a zero
    return f"{100 * value:+.1f} points" if abs(value) <= 1 else f"{value:+.3f}"


def amount(value: float) -> str:
    """A difference of shares without a sign."""
    return points(value).lstrip("+")


def p_text(p_value: float | None) -> str:
    """A p-value as people write it."""
    if p_value is None:
        return "counted"
    return "p < 0.0001" if p_value < 1e-4 else f"p = {p_value:.2g}"


def summary_lines(verdict: Verdict) -> Sequence[str]:
    """The verdict for a terminal, a line for each condition."""
    return [f"gate: {line}" for line in _lines(verdict)]


def _lines(verdict: Verdict) -> Iterator[str]:
    for item in verdict.results:
        yield f"{MARKS[item.outcome]:<7} {item.benchmark} {item.metric}: {item.reason}"
    for failure in verdict.failures[:1] if not verdict.results else ():
        yield f"refused {failure}"
    for found in verdict.clean_scores:
        yield f"clean   {clean_line(found)}"
    for finding in verdict.diagnosis:
        yield from finding_lines(verdict, finding)
    yield verdict.verdict.upper()


def finding_lines(verdict: Verdict, finding: Finding) -> Iterator[str]:
    """A finding for a terminal: what was seen and what helps, then each alternative as entries of params.yaml."""
    yield f"{'hint' if verdict.verdict == 'passed' else 'try'}: {finding.text}"
    for changes in finding.changes:
        yield f"     {written_changes(changes)}"


def written_changes(changes: Changes) -> str:
    """One alternative as entries of params.yaml, in one line."""
    return ", ".join(f"{key}: {written(value)}" for key, value in changes.items())
