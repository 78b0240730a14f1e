"""The command `tunegate chat`."""

from pathlib import Path
from typing import Annotated

import typer


def chat(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RELEASE|RUN|FOLDER]…",
            help="Versions, NAME@VERSION, runs or folders of models; all that hold their stage when left out.",
        ),
    ] = None,
    *,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, help="The longest answer, in tokens.")
    ] = 256,
) -> None:
    """Talk to released models, their adapters and the base, and go from one to another by /use; /help says more.

    Adapters of several releases, runs and variants share one copy of the base; how long a switch took is shown. Lines
    come from the terminal, or through a pipe.

    Example: [bold]tunegate chat[/bold]; [bold]tunegate chat v0.0.2 support-router-customer@v0.0.1[/bold];
    [bold]tunegate chat registry/support-router/v0.0.1[/bold]
    Exit codes: 0; 2 the input is wrong; 3 refused: what was found is not what was approved.
    """
    from flows.chat import chat_command  # noqa: PLC0415

    raise typer.Exit(chat_command(Path.cwd(), wanted or [], max_new_tokens))
