"""What `tunegate compare` does: train every method on the same data, show quality, memory and speed."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from flows.comparison import METHODS, Compared, Measure, compare_methods, method_candidates
from flows.git import repository_root
from flows.plan import memory_warning
from flows.sweep import on_record
from flows.sweep_commands import STOPPED, check_all, params_text, run_missing, wide_console
from tasks.errors import ParamsInvalid
from tasks.params import Params


def compare_command(start: Path, methods: Sequence[str], seeds: Sequence[int], params_file: Path | None) -> int:
    """Train every method on the same data, and show quality, memory and speed beside those of the first.

    Returns:
        0, or 130 or 143 when it was stopped.

    Raises:
        ParamsInvalid: a method is unknown, or its parameters do not hold together.
    """
    root = repository_root(start)
    candidates = method_candidates(params_text(root, start, params_file), methods, seeds)
    checked = {method: check_all(root, made) for method, made in candidates.items()}
    for method, params in checked.items():
        if (warning := memory_warning(root, params)) is not None:
            print(f"{method} is left out: {warning}")
            del candidates[method]
    params = checked[methods[0]]
    every = [one for made in candidates.values() for one in made]
    code = run_missing(root, params, every)
    if code in STOPPED:
        print("stopped; the same command carries on")
        return code
    found = {
        method: [record for record in on_record(root, params, made) if record is not None]
        for method, made in candidates.items()
    }
    print_comparison(params, compare_methods(root, params.gate, found), len(seeds))
    return 0


def print_comparison(params: Params, compared: Sequence[Compared], seeds: int) -> None:
    """A row for each method: scores, differences to the first one with intervals, memory, speed, runs."""
    columns = [f"{rule.benchmark} {rule.metric}" for rule in params.gate.rules]
    table = Table("method", *columns, "GB", "tokens/s", "runs")
    for one in compared:
        cells = [
            f"{100 * score:.1f}" + ("" if difference is None else f" ({measure_text(difference, 100, '+')})")
            for score, difference in zip(one.scores, one.differences, strict=True)
        ]
        table.add_row(
            one.method,
            *cells,
            measure_text(one.memory_gb, 1),
            measure_text(one.tokens_per_second, 1),
            ", ".join(record.run_id for record in one.records),
        )
    console = wide_console()
    console.print(table)
    if not compared:
        console.print(Text("no method came to a verdict"))
        return
    told = f"in brackets: points above {compared[0].method}, item by item, at {params.gate.confidence:.0%} confidence"
    console.print(Text(told))
    if seeds < 2:
        console.print(Text("one seed: memory and speed have no interval; --seeds 1,2,3 gives one"))


def measure_text(measure: Measure | None, factor: float, sign: str = "") -> str:
    """A mean with its interval; a dash where nothing was measured."""
    if measure is None:
        return "–"
    text = f"{factor * measure.mean:{sign}.1f}"
    if measure.low is None or measure.high is None:
        return text
    return f"{text} [{factor * measure.low:{sign}.1f}, {factor * measure.high:{sign}.1f}]"


def parse_methods(text: str) -> list[str]:
    """The methods of a list with commas.

    Raises:
        ParamsInvalid: one is unknown or named twice.
    """
    methods = text.split(",")
    for method in methods:
        if method not in METHODS or methods.count(method) > 1:
            raise ParamsInvalid(
                f"--methods {text}: found {method!r}; expected each of {', '.join(METHODS)} once at most"
            )
    return methods


def parse_seeds(text: str) -> list[int]:
    """The seeds of a list with commas.

    Raises:
        ParamsInvalid: one is no number of 0 or more, or named twice.
    """
    parts = text.split(",")
    if len(set(parts)) < len(parts) or not all(part.isdecimal() for part in parts):
        raise ParamsInvalid(f"--seeds {text}: expected different whole numbers, such as 1,2,3")
    return [int(part) for part in parts]
