"""The `tunegate` command. Heavy modules are imported by the command that needs them, so that `--help` is instant."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from tasks.errors import EXIT_REFUSED, TunegateError

app = typer.Typer(
    name="tunegate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
audit = typer.Typer(
    no_args_is_help=True,
    help="Ask about past runs.\n\nExample: [bold]tunegate audit list[/bold]",
)
app.add_typer(audit, name="audit")


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


RunId = Annotated[str | None, typer.Argument(help="A run's id or the beginning of it; the newest run when left out.")]


@app.command()
def run(*, release: Annotated[bool, typer.Option(help="Publish and promote the model when it passes.")] = True) -> None:
    """Run the whole line in a worktree of its own, and put it on record.

    Example: [bold]tunegate run[/bold]; [bold]tunegate run --no-release[/bold] stops before publishing.
    Exit codes: 0 passed, 2 the input is wrong, 3 refused.
    """
    from flows.commands import run_command  # noqa: PLC0415  prefect takes seconds

    raise typer.Exit(run_command(Path.cwd(), release=release))


@app.command()
def plan() -> None:
    """Check the parameters and show which stages would run, and why.

    Example: [bold]tunegate plan[/bold]
    """
    from flows.commands import plan_command  # noqa: PLC0415

    plan_command(Path.cwd())


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
) -> None:
    """Write a run's report, one HTML page, to a file and name it.

    Example: [bold]tunegate report[/bold]; [bold]tunegate report 20261123 -o report.html[/bold]
    """
    from flows.commands import report_command  # noqa: PLC0415

    report_command(Path.cwd(), run_id, output)


@audit.command("list")
def audit_list() -> None:
    """List all runs, the refused and the crashed ones too, the newest first.

    Example: [bold]tunegate audit list[/bold]
    """
    from flows.commands import audit_list_command  # noqa: PLC0415

    audit_list_command(Path.cwd())


@audit.command("show")
def audit_show(
    run_id: RunId = None, *, as_json: Annotated[bool, typer.Option("--json", help="Print the record itself.")] = False
) -> None:
    """Show one run: its verdict, scores, stages, digests and release.

    Example: [bold]tunegate audit show[/bold]; [bold]tunegate audit show 20261123 --json[/bold]
    """
    from flows.commands import audit_show_command  # noqa: PLC0415

    audit_show_command(Path.cwd(), run_id, as_json=as_json)


def main() -> None:
    """Run the command; a failure that is not a bug is one message and the agreed exit code."""
    try:
        app()
    except TunegateError as error:
        word = "refused" if error.exit_code == EXIT_REFUSED else "error"
        typer.echo(f"{word}: {error}", err=True)
        sys.exit(error.exit_code)
