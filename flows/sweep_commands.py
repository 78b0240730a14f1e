"""What `tunegate sweep` does: run the candidates that no run on record has judged, show all, name the chosen one."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.commands import ended_run
from flows.git import repository_root
from flows.plan import memory_warning
from flows.preflight import check_input, check_machine
from flows.run_record import RunRecord, ScoreLine
from flows.suggestions import SWEEPS, Suggestion, run_to_mend, suggestions
from flows.sweep import (
    Candidate,
    Judged,
    adjusted_confidence,
    choose,
    combinations,
    judge_all,
    on_record,
    shown_scores,
)
from flows.tables import PIPE_COLUMNS, STYLES
from tasks.errors import EXIT_REFUSED, NothingSuggested, ParamsInvalid
from tasks.files import write_text
from tasks.params import Params
from tasks.paths import PARAMS

LAST = "gate"
STOPPED = frozenset({130, 143})


def sweep_command(start: Path, settings: Sequence[str], params_file: Path | None) -> int:
    """Bring every candidate before the gate, show them in one table, and name the one to release.

    Returns:
        0 when one is chosen, 3 when none passes, 130 or 143 when it was stopped.

    Raises:
        ParamsInvalid: a setting is wrong, or a candidate's parameters do not hold together.
    """
    root = repository_root(start)
    candidates = combinations(params_text(root, start, params_file), settings)
    params = check_all(root, candidates)
    Console(soft_wrap=True).print(Text(f"{len(candidates)} candidates, each a run until `{LAST}`"))
    return bring_before_the_gate(root, params, candidates, "the same command carries on")


def bring_before_the_gate(root: Path, params: Params, candidates: Sequence[Candidate], again: str) -> int:
    """Run the candidates that are not on record, show all, name the one to release; the exit code of the sweep."""
    code = run_missing(root, params, candidates)
    judged = judge_all(root, params, candidates)
    chosen = choose(judged)
    print_sweep(params, judged, chosen)
    if code in STOPPED:
        print(f"stopped; {again}")
        return code
    return 0 if chosen else EXIT_REFUSED


def suggested_sweep_command(start: Path, wanted: str | None, params_file: Path | None) -> int:
    """A sweep over what the findings of a run suggest.

    Args:
        start: a folder of the workspace.
        wanted: a run's id or the beginning of it; None for the newest run with a verdict that is no sweep's.
        params_file: what the suggestions change in place of the run's own parameters.

    Returns:
        As for `sweep_command`.

    Raises:
        RunNotFound: there is no such run, or it has no verdict.
        NothingSuggested: its findings name no change, or none that can be tried here.
    """
    root = repository_root(start)
    record = run_to_mend(root, None if wanted is None else ended_run(root, wanted))
    text = None if params_file is None else params_text(root, start, params_file)
    console = Console(soft_wrap=True)
    console.print(Text(f"what the findings of run {record.run_id} suggest, each a run until `{LAST}`:"))
    possible = []
    for one in suggestions(root, record, text):
        params, problem = why_impossible(root, one)
        told = f"left out: {problem}" if problem else ", ".join(one.modes) or "the run as it was"
        console.print(Text(f"  {one.candidate.name}  ({told})"))
        if params is not None and not problem:
            possible.append((one.candidate, params))
    if not any(candidate.changes for candidate, _ in possible):
        raise NothingSuggested(
            f"nothing that the findings of run {record.run_id} suggest can be tried here; mend what is said above, or "
            "try values of your own with --set"
        )
    again = f"`tunegate sweep --suggested {record.run_id}` carries on"
    return bring_before_the_gate(root, possible[0][1], [candidate for candidate, _ in possible], again)


def why_impossible(root: Path, one: Suggestion) -> tuple[Params | None, str]:
    """The candidate's parameters where they hold together, and why it cannot be tried here; empty when it can."""
    try:
        params = check(root, one.candidate)
    except ParamsInvalid as error:
        return None, str(error)
    return params, memory_warning(root, params) or ""


def params_text(root: Path, start: Path, params_file: Path | None) -> str:
    """The text that the candidates change: of params.yaml, or of the file that is named."""
    return (root / PARAMS if params_file is None else start / params_file).read_text(encoding="utf-8")


def check_all(root: Path, candidates: Sequence[Candidate]) -> Params:
    """Check every candidate before the first one runs; the parameters of the first.

    Raises:
        ParamsInvalid: those of one do not hold together.
    """
    first, *_ = [check(root, candidate) for candidate in candidates]
    return first


def check(root: Path, candidate: Candidate) -> Params:
    """Write the candidate's parameters where a run can take them, and refuse what a run would refuse.

    Raises:
        ParamsInvalid: they do not hold together; the message names the candidate.
    """
    path = root / SWEEPS / candidate.file_name
    write_text(path, candidate.text)
    try:
        params = check_input(root, release=False, until=LAST, params_file=path)
        check_machine(root, params, until=LAST, params_file=path)
    except ParamsInvalid as error:
        raise ParamsInvalid(f"candidate {candidate.name}: {error}") from None
    return params


def run_missing(root: Path, params: Params, candidates: Sequence[Candidate]) -> int:
    """Run every candidate that no run on record has judged, one after the other; the exit code of the last one."""
    code = 0
    records = on_record(root, params, candidates)
    for number, (candidate, known) in enumerate(zip(candidates, records, strict=True), start=1):
        what = f"on record as {known.run_id}" if known else "runs now"
        print(f"\n[{number}/{len(candidates)}] {candidate.name}: {what}", flush=True)
        if known is None:
            code = run_apart(root, root / SWEEPS / candidate.file_name)
            if code in STOPPED:
                return code
    return code


def run_apart(root: Path, params_file: Path) -> int:
    """`tunegate run` in a process of its own, which ^C reaches by itself."""
    command = [sys.executable, "-m", "flows.cli", "run", "--until", LAST, "--params", str(params_file)]
    with leaving_control_c_to_the_child():
        return subprocess.run(command, cwd=root, check=False).returncode


@contextmanager
def leaving_control_c_to_the_child() -> Iterator[None]:
    """Wait on when ^C is pressed: the terminal sends it to the child too, which ends with its record."""
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def wide_console() -> Console:
    """A console that does not fold tables in a pipe."""
    return Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def print_sweep(params: Params, judged: Sequence[Judged], chosen: Judged | None) -> None:
    """The table, the choice, and the next move."""
    console = wide_console()
    columns = [f"{rule.benchmark} {rule.metric}" for rule in params.gate.rules]
    table = Table("", "candidate", "run", "alone", f"of {len(judged)}", *columns, "train s", "tokens/s", "GB")
    for one in judged:
        mark = "→" if one is chosen else ""
        table.add_row(mark, one.candidate.name, *row(params, one))
    console.print(table)
    confidence = adjusted_confidence(params.gate.confidence, len(judged))
    console.print(
        Text(f"`of {len(judged)}`: the verdict at {confidence:.2%} confidence, since the best of several is luckier")
    )
    if chosen is None:
        console.print(Text("no candidate passes with all of them accounted for", style=STYLES["refused"]))
        return
    console.print(Text(f"chosen: {chosen.candidate.name}", style=STYLES["passed"]))
    console.print(Text(f"release it: tunegate run --params {SWEEPS / chosen.candidate.file_name}"))


def row(params: Params, one: Judged) -> Iterator[str]:
    """The cells of one candidate after its name."""
    record = one.record
    if record is None or record.verdict is None:
        yield from ("–", "no verdict", "–", *("–" for _ in params.gate.rules), "–", "–", "–")
        return
    yield from (record.run_id, record.verdict.verdict, one.adjusted or "–")
    yield from (score_text(score) for score in shown_scores(params, record))
    yield from pace_cells(record)


def score_text(score: ScoreLine | None) -> str:
    """A score with its interval, in percent; a dash for none."""
    if score is None:
        return "–"
    interval = "" if score.low is None or score.high is None else f" [{100 * score.low:.1f}, {100 * score.high:.1f}]"
    return f"{100 * score.value:.1f}{interval}"


def pace_cells(record: RunRecord) -> tuple[str, str, str]:
    """Seconds, tokens a second and memory of the training; dashes where it was not executed."""
    stage = record.stage("train")
    if stage is None or stage.pace is None:
        return "–", "–", "–"
    return f"{stage.pace.seconds:.0f}", f"{stage.pace.tokens_per_second:.0f}", f"{stage.pace.memory_gb:.1f}"
