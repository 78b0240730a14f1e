"""What `schedule` and `serve` do: find the file, hand it to Prefect, and say what came of it."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows.deployments import install, read_deployments, serve_here
from flows.git import repository_root

FILE = "prefect.yaml"


def schedule_command(start: Path, names: Sequence[str], file: Path | None) -> None:
    """Install the deployments, and name them and their work pools."""
    root = repository_root(start)
    path = _file(start, root, file)
    installed = install(root, path, names)
    console = Console(soft_wrap=True)
    for entry in read_deployments(path, installed):
        pool = entry.work_pool.name if entry.work_pool else None
        console.print(Text(f"installed: scheduled-retrain/{entry.name} on the work pool {pool}"))
    console.print(Text("run now:   prefect deployment run scheduled-retrain/NAME"))


def serve_command(start: Path, names: Sequence[str], file: Path | None) -> None:
    """Serve the deployments until the process is stopped."""
    root = repository_root(start)
    path = _file(start, root, file)
    for entry in read_deployments(path, names):
        Console(soft_wrap=True).print(Text(f"serving: scheduled-retrain/{entry.name}; ^C stops"))
    serve_here(root, path, names)


def _file(start: Path, root: Path, file: Path | None) -> Path:
    return root / FILE if file is None else (start / file).resolve()
