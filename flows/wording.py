"""How the report and the Prefect artifacts write numbers, times and conditions."""

import json
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime

from pydantic import JsonValue

from tasks.findings import Changes
from tasks.params_changes import written
from tasks.verdict_records import RuleResult
from tasks.verdict_text import MARKS, figure

CONDITIONS = {
    "min_value": "score at least",
    "min_gain_over_base": "gain over base at least",
    "max_loss_from_base": "loss from base at most",
    "max_loss_from_champion": "loss from champion at most",
    "gain_over_champion": "a gain over the champion",
    "figure_min": "at least",
    "figure_max": "at most",
    "evidence": "evidence",
}


def share(value: float | None) -> str:
    """A metric in percent; a value outside -1 to 1 is no share and is written as it is; None is a dash."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return _signed(f"{100 * value:.1f} %" if abs(value) <= 1 else f"{value:.3f}")


def measured(value: float | None, condition: str) -> str:
    """What a condition asked or found: a figure (a count, a size) as it is, a metric as a share."""
    if value is None or not condition.startswith("figure_"):
        return share(value)
    return figure(value)


def points(value: float) -> str:
    """A difference of shares in percentage points, signed; other differences as they are."""
    return _signed(f"{100 * value:+.1f} points" if abs(value) <= 1 else f"{value:+.3f}")


def _signed(text: str) -> str:
    number = text.split(maxsplit=1)[0]
    if not number.strip("+-0."):
        return text.lstrip("+-")
    return text.replace("-", "\N{MINUS SIGN}")


def condition(name: str) -> str:
    """What a rule's condition asks, in words."""
    return CONDITIONS.get(name, name.replace("_", " "))


def seconds(value: float) -> str:
    """A duration: `4.2 s`, `3 min 05 s`, `2 h 10 min`."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def moment(text: str) -> str:
    """An ISO time in UTC for a reader, to the minute."""
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M UTC")


def between(start: str, end: str) -> str:
    """The duration between two ISO times."""
    return seconds(max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()))


def cut(text: str, most: int = 700) -> str:
    """`text`, shortened for a reader, saying how much was left out."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"


def first_line(text: str) -> str:
    """The first line of a message; a colon at its end announced the others."""
    return text.partition("\n")[0].removesuffix(":")


def more_lines(text: str) -> str:
    """All lines of a message but the first."""
    return text.partition("\n")[2]


def headline(text: str, most: int = 160) -> str:
    """The first line of a message, shortened: what a list of messages has room for."""
    first = first_line(text)
    return first if len(first) <= most else f"{first[:most]}…"


def flattened(value: JsonValue, name: str) -> Iterator[tuple[str, str]]:
    """Dotted names and texts of the leaves of a parameter; a list of plain values is one leaf."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flattened(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for place, inner in enumerate(value):
            yield from flattened(inner, f"{name}[{place}]")
    elif isinstance(value, list):
        yield name, ", ".join(str(inner) for inner in value)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def named_values(params: Mapping[str, JsonValue]) -> dict[str, str]:
    """Every parameter by its dotted name; a source by its own name, so that an inserted one moves no other."""
    found: dict[str, str] = {}
    for section, value in params.items():
        by_name = value
        if section == "sources" and isinstance(value, list):
            by_name = {str(item.get("name")): item for item in value if isinstance(item, dict)}
        found |= dict(flattened(by_name, section))
    return found


def file_size(size_bytes: int) -> str:
    """A file's size: `812 B`, `4.2 MB`."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value = float(size_bytes)
    for unit in ("kB", "MB"):
        value /= 1000
        if value < 1000:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} GB"


def result_line(result: RuleResult) -> str:
    """One condition of a verdict for a terminal."""
    return f"  {MARKS[result.outcome]:<8}{result.benchmark} {result.metric}: {result.reason}"


def sweep_command_line(changes: Changes) -> str:
    """The command that tries one alternative of a finding, as a shell takes it."""
    settings = (shlex.quote(f"{key}={written(value)}") for key, value in changes.items())
    return " ".join(["tunegate sweep", *(f"--set {setting}" for setting in settings)])


def suggested_command(run_id: str) -> str:
    """The command that tries every alternative of a run's findings."""
    return f"tunegate sweep --suggested {run_id}"
