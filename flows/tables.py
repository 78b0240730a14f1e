"""Tables in a terminal, as wide as it is, and the colours of how runs end."""

from rich.console import Console

PIPE_COLUMNS = 160
STYLES = {
    "passed": "green",
    "reached": "cyan",
    "refused": "yellow",
    "inconclusive": "yellow",
    "skipped": "dim",
    "invalid": "red",
    "crashed": "bold red",
    "cancelled": "magenta",
}


def wide_console() -> Console:
    """A console as wide as the terminal, and wide enough for a table where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_COLUMNS)
