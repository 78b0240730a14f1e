"""The commands around scheduled runs: install schedules, serve them here, reject what a run made."""

from pathlib import Path
from typing import Annotated

import typer

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME…]", help="Deployments of the file; all when left out.")
]
DeploymentsFile = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="Another file than the workspace's prefect.yaml.")
]


def schedule(names: Names = None, *, file: DeploymentsFile = None) -> None:
    """Install the schedules of prefect.yaml on the Prefect server, for a work pool whose workers run them.

    Example: [bold]tunegate schedule[/bold]; [bold]tunegate schedule weekly-docker --file deploy/docker.yaml[/bold]
    Exit codes: 0; 2 the file is wrong, or no server is configured.
    """
    from flows.schedule_commands import schedule_command  # noqa: PLC0415  prefect takes seconds

    schedule_command(Path.cwd(), names or [], file)


def serve(names: Names = None, *, file: DeploymentsFile = None) -> None:
    """Run the schedules of prefect.yaml in this process, on this machine alone, until it is stopped.

    Example: [bold]tunegate serve[/bold]
    Exit codes: 0 stopped; 2 the file is wrong, or no server is configured.
    """
    from flows.schedule_commands import serve_command  # noqa: PLC0415  prefect takes seconds

    serve_command(Path.cwd(), names or [], file)


def reject(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id or the beginning of it.")],
    *,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, kept with the decision.")],
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who rejects, where that is not whom git names.")
    ] = None,
) -> None:
    """Reject the merged model of a run that passed: no promotion and no rollback gives it a stage.

    Approvals from before count no longer. Who rejected it, or another person than who started the run, can take it
    back with [bold]tunegate approve[/bold].

    Example: [bold]tunegate reject 20261123 --why "wrong queue for refunds"[/bold]
    Exit codes: 0; 2 the input is wrong; 3 refused: the run did not pass, or git does not know who you are.
    """
    from flows.release_commands import reject_command  # noqa: PLC0415

    reject_command(Path.cwd(), run_id, by, why)
