"""What the commands do, apart from parsing their arguments: read, call a flow, print."""

import json
import os
import signal
import webbrowser
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows import display, registry, tables, workspace
from flows.git import repository_root, show_file
from flows.plan import make_plan, margin_warnings, memory_warning
from flows.plan_view import print_plan
from flows.preflight import check_input, check_machine
from flows.record import read_run, resolve_run, run_folder
from flows.release_section import asks_for_approval, release_params
from flows.run_branches import read_runs, run_revision
from flows.run_record import RunRecord
from flows.sign_off import is_required
from flows.stopping import stoppable
from flows.variants import chosen_text, variant_names
from flows.wording import headline, result_line, suggested_command
from tasks.clean_scores import clean_line
from tasks.errors import EXIT_INCONCLUSIVE, EXIT_REFUSED, ParamsInvalid, RunNotFound, WorkspaceBusy
from tasks.files import write_text
from tasks.params import Params, ReleaseParams
from tasks.paths import PARAMS
from tasks.verdict_records import Verdict
from tasks.verdict_text import finding_lines

EXIT_CODES = {"passed": 0, "reached": 0, "refused": EXIT_REFUSED, "inconclusive": EXIT_INCONCLUSIVE}
"""What a command ends in by what became of the run; any other status is told as a refusal."""
NO_VERDICT = {
    "skipped": "skipped: nothing was trained",
    "invalid": "invalid: what the run was given is wrong",
    "crashed": "crashed",
    "cancelled": "cancelled",
}
PREFECT_SETTINGS = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the display shows the lines; Prefect keeps them too
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def run_command(
    start: Path,
    *,
    release: bool,
    until: str | None = None,
    params_file: Path | None = None,
    variant: str | None = None,
) -> int:
    """Run the flow `retrain` and say how it ended; returns the exit code."""
    root = repository_root(start)
    params = check_input(root, release=release, until=until, params_file=params_file, variant=variant)
    check_machine(root, params, until=until, params_file=params_file)
    if holder := workspace.lock_holder(root):
        raise WorkspaceBusy(f"{root}: another run holds this workspace ({holder}); see `tunegate status`")
    for name, value in PREFECT_SETTINGS.items():
        os.environ.setdefault(name, value)
    run_id = workspace.new_run_id(datetime.now(UTC))
    file = None if params_file is None else str((start / params_file).resolve())
    try:
        with stoppable(), display.shown() as shown:
            shown.note(f"run {run_id}: starting Prefect")
            if (warning := memory_warning(root, params)) is not None:
                shown.note(f"warning: {warning}")
            for warning in margin_warnings(root, params):
                shown.note(f"warning: {warning}")
            from flows.retrain import StageStopped, retrain  # noqa: PLC0415  prefect takes seconds
            from flows.temporary_server import start_temporary_server  # noqa: PLC0415

            start_temporary_server()
            try:
                retrain(
                    str(root),
                    run_id,
                    release=release,
                    until=until,
                    params_file=file,
                    variant=variant,
                    return_state=True,
                ).result()
            except StageStopped as stopped:
                print_end(read_run(root, run_id), root)
                return stopped.run.exit_code if stopped.run.exit_code in {2, EXIT_REFUSED} else 1
    except (KeyboardInterrupt, SystemExit) as stop:
        print_stopped(root, run_id)
        return 128 + (signal.SIGTERM if isinstance(stop, SystemExit) else signal.SIGINT)
    record = read_run(root, run_id)
    print_end(record, root)
    return EXIT_CODES.get(record.status, EXIT_REFUSED)


def print_stopped(root: Path, run_id: str) -> None:
    """One line of a run that somebody stopped, and where its record is."""
    try:
        line = f"{read_run(root, run_id).status}: stopped from outside; record: tunegate audit show {run_id}"
    except RunNotFound:
        line = "cancelled: stopped from outside before the run began; there is no record"
    Console(soft_wrap=True).print(Text(line, style=tables.STYLES["cancelled"]))


def print_end(record: RunRecord, root: Path) -> None:
    """The verdict, the reasons, where the release and the report are."""
    console = Console(soft_wrap=True)
    words = NO_VERDICT | {"reached": f"reached: {record.until}"}
    word = words.get(record.status, f"verdict: {record.status.upper()}")
    console.print(Text(f"\n{word}", style=f"bold {tables.STYLES[record.status]}"))
    if record.verdict is not None:
        _print_verdict(console, record.run_id, record.verdict)
    if record.status != "passed" and (record.verdict is None or record.verdict.verdict == "passed"):
        console.print(Text(f"  {record.reason}"))
    if record.release is not None:
        promoted = f", holds {record.release.promoted_stage}" if record.release.promoted_stage else ""
        console.print(Text(f"release: {record.release.tag} in {_shown_path(record.release.location, root)}{promoted}"))
    elif record.status == "passed" and is_required(record, now=asks_for_approval(root, record.variant)):
        console.print(Text("release: waits for the approval of another person than who started the run:"))
        console.print(Text(f"         tunegate approve {record.run_id}, then tunegate promote {record.run_id}"))
    report = root / workspace.REPORTS / record.run_id / "report.html"
    if report.exists():
        console.print(Text(f"report:  {report.relative_to(root)}"))
    validated = record.stage("validate")
    if validated is not None and validated.outcome == "refused":
        _print_where_evidence_is(console, record, root)
    console.print(Text(f"record:  tunegate audit show {record.run_id}"))


def _print_verdict(console: Console, run_id: str, verdict: Verdict) -> None:
    for result in verdict.results:
        console.print(Text(result_line(result)))
    for clean in verdict.clean_scores:
        console.print(Text(f"  clean {clean_line(clean)}"))
    for finding in verdict.diagnosis:
        for line in finding_lines(verdict, finding):
            console.print(Text(f"  {line}"))
    if any(finding.changes for finding in verdict.diagnosis):
        console.print(Text(f"  all of these: {suggested_command(run_id)}"))


def _print_where_evidence_is(console: Console, record: RunRecord, root: Path) -> None:
    """Where the files are that a refusal of the data names: the run's worktree is gone."""
    docs = root / workspace.REPORTS / record.run_id / workspace.DOCS_LINK
    if docs.exists():
        console.print(Text(f"docs:    {docs.relative_to(root)}"))
    kept = run_folder(record.run_id)
    for name in ("validation.json", "drift.json"):
        console.print(Text(f"rows:    git show {record.branch}:{kept / name}"))


def _shown_path(location: str, root: Path) -> str:
    path = Path(location)
    return str(path.relative_to(root)) if path.is_absolute() and path.is_relative_to(root) else location


def plan_command(
    start: Path,
    params_file: Path | None = None,
    config: Path | None = None,
    variant: str | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Validate everything that can be validated now; print the stages that would run and what training takes."""
    root = repository_root(start)
    params = check_input(root, release=True, params_file=params_file, variant=variant)
    stages = stage_plans(root, params, chosen_text(root, params_file, variant))
    plan = make_plan(root, params, config)
    if as_json:
        described = {"stages": [stage._asdict() for stage in stages]} | plan.model_dump(mode="json")
        print(json.dumps(described, indent=2, sort_keys=True))
        return
    console = tables.wide_console()
    console.print(stage_table(params, stages))
    if any(stage.would == "run" for stage in stages):
        Console(soft_wrap=True).print("a stage that an earlier run computed from the same inputs is restored, not run")
    print_plan(plan, console)


class StagePlan(NamedTuple):
    """Whether a run would give a stage to dvc, and why."""

    stage: str
    would: Literal["run", "skip"]
    why: str


def stage_plans(root: Path, params: Params, text: str | None) -> list[StagePlan]:
    """Every stage in order: it runs when it is stale, or follows one that runs; `text` stands for params.yaml."""
    from flows.reproduce import checkout, read_stages, why_stale  # noqa: PLC0415

    with workspace.preview(root, text) as worktree:
        registry.write_champion(worktree, registry.champion(root, params.release.name, params.release.stage)[0])
        checkout(worktree)
        stages, stale = read_stages(worktree), why_stale(worktree)
    plans, reached = list[StagePlan](), set[str]()
    for stage in stages:
        reasons, follows = stale.get(stage.name, []), stage.deps_among(reached)
        runs = bool(reasons or follows)
        if runs:
            reached.update(stage.outs)
        why = "\n".join(reasons[:6]) or (f"follows {', '.join(follows)}" if follows else "up to date")
        plans.append(StagePlan(stage.name, "run" if runs else "skip", why))
    return plans


def stage_table(params: Params, stages: list[StagePlan]) -> Table:
    """The stages for a person."""
    table = Table(title=f"{params.base_model.name}, {params.train.method}, {len(params.sources)} source(s)")
    table.add_column("stage")
    table.add_column("would")
    table.add_column("why", overflow="fold")
    for stage in stages:
        word = Text(stage.would, style="yellow" if stage.would == "run" else "green")
        table.add_row(stage.stage, word, Text(stage.why))
    return table


def rehearse_command(start: Path, params_file: Path | None = None, variant: str | None = None) -> None:
    """Do every late step once, and say how each went."""
    from flows.rehearsal import rehearse  # noqa: PLC0415

    root = repository_root(start)
    params = check_input(root, release=True, params_file=params_file, variant=variant)
    rehearse(root, params, chosen_text(root, params_file, variant), display.PlainDisplay())


def status_command(start: Path) -> None:
    """What is going on here."""
    root, console = repository_root(start), Console(soft_wrap=True)
    holder, current = workspace.lock_holder(root), root / workspace.CURRENT
    if holder and current.exists():
        note = json.loads(current.read_text(encoding="utf-8"))
        console.print(Text(f"running:    {note['run_id']}, stage {note['stage']} since {note['since']}, {holder}"))
    else:
        console.print(Text(f"running:    {holder or 'nothing'}"))
    runs = [record for record in read_runs(root) if record.run_id != workspace.running_id(root)]
    last = "none yet; `tunegate run` makes one"
    if runs:
        last = f"{runs[0].run_id} {runs[0].status}: {headline(runs[0].reason)}"
    console.print(Text(f"last run:   {last}"))
    try:
        release = release_params(root)
    except ParamsInvalid:
        console.print(f"released:   not known: {PARAMS} has problems; `tunegate plan` names them")
        return
    console.print(Text(f"{release.stage}: {_holder(root, release)}"))
    for variant in variant_names(root):
        try:
            own = release_params(root, variant)
        except ParamsInvalid:
            console.print(
                f"variant {variant}: not known: its overlay has problems; `tunegate plan --variant {variant}`"
            )
            continue
        console.print(Text(f"variant {variant}: {own.stage} is {_holder(root, own)}"))


def _holder(root: Path, release: ReleaseParams) -> str:
    """What holds the stage that the parameters name."""
    held = registry.stage_holder(root, release.name, release.stage)
    return held.tag or held.commit[:12] if held else "nothing"


def ended_run(root: Path, wanted: str | None) -> str:
    """The id of the run that is asked for.

    Raises:
        RunNotFound: there is none such, or it is still running.
    """
    running = workspace.running_id(root)
    run_id = resolve_run(root, wanted, running=running)
    if run_id == running:
        raise RunNotFound(f"run {run_id} is still running; `tunegate status` says where it is")
    return run_id


def index_command(start: Path) -> None:
    """Write the page of all runs; open it when a person is watching."""
    from flows.index_page import write_index  # noqa: PLC0415  it draws, which takes a second to import

    _show_page(write_index(repository_root(start)))


def report_command(start: Path, wanted: str | None, output: Path | None) -> None:
    """Take a run's report out of its commit; open it when a person is watching."""
    root = repository_root(start)
    run_id = ended_run(root, wanted)
    text = show_file(root, run_revision(root, run_id), (run_folder(run_id) / "report.html").as_posix())
    if text is None:
        raise RunNotFound(
            f"run {run_id} has no report: it ended before its first stage; `tunegate audit show {run_id}` says why"
        )
    path = output or root / workspace.REPORTS / run_id / "report.html"
    write_text(path, text)
    _show_page(path, is_opened=output is None)


def _show_page(path: Path, *, is_opened: bool = True) -> None:
    console = Console(soft_wrap=True)
    console.print(Text(str(path)))
    if console.is_terminal and is_opened:
        webbrowser.open(path.resolve().as_uri())
