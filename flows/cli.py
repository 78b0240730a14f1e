"""The `tunegate` command. Heavy modules are imported by the command that needs them, so that `--help` is instant."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from flows import schedule_cli
from flows.audit_cli import RunId, audit
from flows.chat_cli import chat
from tasks.errors import EXIT_REFUSED, ParamsInvalid, TunegateError

app = typer.Typer(
    name="tunegate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(audit, name="audit")
data = typer.Typer(
    no_args_is_help=True,
    help="Ask about rows: what a source holds, what became of a row, what differs.\n\n"
    "Example: [bold]tunegate data why data/sources/tickets.jsonl:17[/bold]",
)
app.add_typer(data, name="data")
gate = typer.Typer(
    no_args_is_help=True,
    help="Ask about verdicts: why, and what they would have been.\n\nExample: [bold]tunegate gate explain[/bold]",
)
app.add_typer(gate, name="gate")
app.command()(chat)


def show_version(wanted: bool) -> None:  # noqa: FBT001  typer's signature
    """Print the version and leave."""
    if wanted:
        typer.echo(f"tunegate {version('tunegate')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Retrain an adapter, prove that it got better, and ship exactly what was proved.

    Example: [bold]tunegate run[/bold] runs the whole line; [bold]tunegate report[/bold] shows what came out.
    """


ParamsFile = Annotated[
    Path | None,
    typer.Option("--params", metavar="FILE", help="Take this file for params.yaml; yours stays as it is."),
]

Variant = Annotated[
    str | None,
    typer.Option("--variant", metavar="NAME", help="The variant whose file params/variants/NAME.yaml lies over them."),
]


@app.command()
def run(
    *,
    release: Annotated[bool, typer.Option(help="Publish and promote the model when it passes.")] = True,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Stop after this stage, with what it needs; releases nothing.")
    ] = None,
    params_file: ParamsFile = None,
    variant: Variant = None,
) -> None:
    """Run the line in a worktree of its own, and put it on record.

    Example: [bold]tunegate run[/bold]; [bold]tunegate run --no-release[/bold] stops before publishing;
    [bold]tunegate run --variant customer[/bold] trains the variant of params/variants/customer.yaml;
    [bold]tunegate run --until validate --params other.yaml[/bold] prepares and checks the data alone.
    Exit codes: 0 passed, or reached the stage asked for; 2 the input is wrong; 3 refused; 4 inconclusive: too few items
    to prove it good or bad; 130 and 143 stopped from outside, by ^C or SIGTERM.
    """
    from flows.commands import run_command  # noqa: PLC0415  prefect takes seconds

    done = run_command(Path.cwd(), release=release, until=until, params_file=params_file, variant=variant)
    raise typer.Exit(done)


@app.command()
def plan(
    *,
    params_file: ParamsFile = None,
    variant: Variant = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="A config.json to take for the base model's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Do every late step once: train, resume, merge, evaluate, write.")
    ] = False,
) -> None:
    """Show which stages would run and why, the memory, time and disk that training takes, and where it fits.

    Example: [bold]tunegate plan[/bold]; [bold]tunegate plan --params other.yaml[/bold];
    [bold]tunegate plan --rehearse[/bold] takes two training steps on the longest examples, and all that follows
    """
    from flows.commands import plan_command, rehearse_command  # noqa: PLC0415

    plan_command(Path.cwd(), params_file, config, variant, as_json=as_json)
    if rehearse:
        rehearse_command(Path.cwd(), params_file, variant)


@app.command()
def sweep(
    run_id: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Of --suggested: a run's id; the newest with a verdict when left out."),
    ] = None,
    *,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE,…", help="Values to try of one parameter; may be repeated."),
    ] = None,
    suggested: Annotated[
        bool, typer.Option("--suggested", help="Try what the findings of a run suggest, instead of --set.")
    ] = False,
    params_file: ParamsFile = None,
) -> None:
    """Bring candidates before the gate, each a run on record, and name the one to release.

    Candidates are every combination of the values of --set, or what the findings of a run suggest. One that a run on
    record has judged is not run again, so that the same command carries on where it was stopped. The choice accounts
    for the number of candidates: the best of several is lucky more often.

    Example: [bold]tunegate sweep --set lora.r=8,16 --set train.learning_rate=2e-4,7e-4[/bold];
    [bold]tunegate sweep --suggested 20261123[/bold]
    Exit codes: 0 one is chosen; 2 the input is wrong; 3 none passes; 130 and 143 stopped from outside.
    """
    from flows.sweep_commands import suggested_sweep_command, sweep_command  # noqa: PLC0415

    if suggested == bool(settings) or (run_id is not None and not suggested):
        raise ParamsInvalid(
            "tunegate sweep takes either --set KEY=VALUE,… (may be repeated), or --suggested [RUN]; give one of the two"
        )
    if suggested:
        raise typer.Exit(suggested_sweep_command(Path.cwd(), run_id, params_file))
    raise typer.Exit(sweep_command(Path.cwd(), settings or [], params_file))


@app.command()
def compare(
    *,
    methods: Annotated[str, typer.Option("--methods", help="Training methods, the first is compared with.")] = (
        "qlora,lora,full"
    ),
    seeds: Annotated[
        str, typer.Option("--seeds", help="Seeds to train each with; speed has an interval from two on.")
    ] = "1",
    params_file: ParamsFile = None,
) -> None:
    """Train QLoRA, LoRA and full fine-tuning on the same data and show quality, memory and speed, with intervals.

    A method that does not fit this machine's memory is left out, and it is said so. Runs on record are not repeated.

    Example: [bold]tunegate compare[/bold]; [bold]tunegate compare --methods qlora,lora --seeds 1,2,3[/bold]
    Exit codes: 0; 2 the input is wrong; 130 and 143 stopped from outside.
    """
    from flows.compare_commands import compare_command, parse_methods, parse_seeds  # noqa: PLC0415

    raise typer.Exit(compare_command(Path.cwd(), parse_methods(methods), parse_seeds(seeds), params_file))


@app.command()
def status() -> None:
    """Show the run in progress, the last run and what holds production.

    Example: [bold]tunegate status[/bold]
    """
    from flows.commands import status_command  # noqa: PLC0415

    status_command(Path.cwd())


@app.command()
def report(
    run_id: RunId = None,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the page here.")] = None,
    index: Annotated[bool, typer.Option("--index", help="The page of all runs instead.")] = False,
) -> None:
    """Write a run's report, one HTML page, to a file and name it.

    Example: [bold]tunegate report 20261123 -o report.html[/bold]; [bold]tunegate report --index[/bold]
    """
    from flows.commands import index_command, report_command  # noqa: PLC0415

    if index:
        index_command(Path.cwd())
        return
    report_command(Path.cwd(), run_id, output)


Why = Annotated[str | None, typer.Option("--why", metavar="TEXT", help="The reason, kept with the decision.")]
Stage = Annotated[
    str | None, typer.Option("--stage", help="staging or production; the one of the parameters when left out.")
]

OfVariant = Annotated[
    str | None, typer.Option("--variant", metavar="NAME", help="The variant whose release it is; not of NAME@VERSION.")
]


@app.command()
def approve(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id or the beginning of it.")],
    *,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who approves, where that is not whom git names.")
    ] = None,
    why: Why = None,
) -> None:
    """Sign off the merged model of a run that passed, exactly its bytes, on the run's branch in git.

    With [bold]release.require_approval: true[/bold] nothing is released or promoted without it, and whoever started
    the run cannot give it.

    Example: [bold]tunegate approve 20261123 --why "read the report, tried ten tickets"[/bold]
    Exit codes: 0; 2 the input is wrong; 3 refused: the run did not pass, or it is your own.
    """
    from flows.release_commands import approve_command  # noqa: PLC0415

    approve_command(Path.cwd(), run_id, by, why)


@app.command()
def promote(
    wanted: Annotated[str, typer.Argument(metavar="VERSION|RUN", help="A version, as v0.0.3, or a run's id.")],
    *,
    stage: Stage = None,
    variant: OfVariant = None,
    why: Why = None,
) -> None:
    """Give a stage to a release whose bytes are those that were approved, and push the tag that says so.

    A run that passed and was not released, since it waited for an approval say, is released first.

    Example: [bold]tunegate promote v0.0.3 --stage staging[/bold];
    [bold]tunegate promote 20261123 --why "went well"[/bold]
    Exit codes: 0, also when it holds the stage already; 2 the input is wrong, or the remote does not know; 3 refused.
    """
    from flows.release_commands import promote_command  # noqa: PLC0415

    promote_command(Path.cwd(), wanted, stage, why, variant)


@app.command()
def rollback(
    wanted: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="An earlier version; when left out, what held it before.")
    ] = None,
    *,
    stage: Stage = None,
    variant: OfVariant = None,
    why: Why = None,
) -> None:
    """Give a stage back to an earlier release, checked like a promotion; twice goes back two releases.

    Example: [bold]tunegate rollback --why "wrong queues since Monday"[/bold]; [bold]tunegate rollback v0.0.1[/bold]
    Exit codes: 0, also when it holds the stage already; 2 the input is wrong, or the remote does not know; 3 refused.
    """
    from flows.release_commands import rollback_command  # noqa: PLC0415

    rollback_command(Path.cwd(), wanted, stage, why, variant)


@data.command("show")
def data_show(
    source: Annotated[
        str | None, typer.Argument(metavar="[SOURCE|PATH]", help="A source of the parameters, or any file or folder.")
    ] = None,
    *,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="How many rows to show of each.")] = 3,
    params_file: ParamsFile = None,
) -> None:
    """Show what a source holds: its files, layout, first rows as conversations, and broken rows; or all sources.

    Example: [bold]tunegate data show support_tickets[/bold];
    [bold]tunegate data show exports/new.csv[/bold] proposes an entry for `sources:`
    Exit codes: 0 a run would take it; 2 it would not.
    """
    from flows.data_commands import show_command  # noqa: PLC0415

    raise typer.Exit(show_command(Path.cwd(), source, rows, params_file))


@data.command("why")
def data_why(
    row: Annotated[
        str | None, typer.Argument(metavar="[ID|FILE:LINE]", help="A row's id, the beginning of it, or its place.")
    ] = None,
    *,
    run_id: Annotated[
        str | None, typer.Option("--run", help="A run's id; the newest that has rows when left out.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Search for rows that have this text instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell what became of a row, stage by stage, and why.

    Example: [bold]tunegate data why 3f9c[/bold]; [bold]tunegate data why tickets.jsonl:17[/bold];
    [bold]tunegate data why --text refund[/bold]
    """
    from flows.data_commands import why_command  # noqa: PLC0415

    why_command(Path.cwd(), row, run_id, text, as_json=as_json)


@data.command("diff")
def data_diff(
    run_a: Annotated[str, typer.Argument(help="A run's id or the beginning of it.")],
    run_b: Annotated[str, typer.Argument(help="The run to compare it with.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell what differs in the data of two runs: rows in, out and changed, and why.

    Example: [bold]tunegate data diff 20261120 20261123[/bold]
    """
    from flows.data_commands import diff_command  # noqa: PLC0415

    diff_command(Path.cwd(), run_a, run_b, as_json=as_json)


@gate.command("explain")
def gate_explain(run_id: RunId = None) -> None:
    """Say in plain sentences why a run's candidate passed or not, and show the ten most telling items.

    Example: [bold]tunegate gate explain[/bold]; [bold]tunegate gate explain 20261123[/bold]
    """
    from flows.gate_commands import explain_command  # noqa: PLC0415

    explain_command(Path.cwd(), run_id)


@gate.command("replay")
def gate_replay(
    run_id: RunId = None,
    *,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another value in the section gate; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Compute a run's verdict again from its scores of each item, with other thresholds if asked; changes nothing.

    Example: [bold]tunegate gate replay[/bold];
    [bold]tunegate gate replay 20261123 --set rules.ticket_routing.min_value=0.5 --set tie=champion[/bold]
    Exit codes: without --set 0 the same bytes as recorded, 3 not; with it 0 passed, 3 refused, 4 inconclusive; 2 the
    input is wrong.
    """
    from flows.gate_commands import replay_command  # noqa: PLC0415

    raise typer.Exit(replay_command(Path.cwd(), run_id, settings or [], as_json=as_json))


for command in (schedule_cli.schedule, schedule_cli.serve, schedule_cli.reject):
    app.command()(command)


def main() -> None:
    """Run the command; a failure that is not a bug is one message and the agreed exit code."""
    try:
        app()
    except TunegateError as error:
        word = "refused" if error.exit_code == EXIT_REFUSED else "error"
        typer.echo(f"{word}: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":  # the candidates of a sweep are started so
    main()
