"""Prefect's temporary server, in a session of its own and never longer than this process.

Prefect starts it in the terminal's foreground group. There the ^C that stops a run stops the server too, and the flow
waits minutes for its answer; and when this process is killed, the server stays.
"""

import os
import subprocess
import sys
from typing import Any

import prefect
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

from tasks import die_with_parent

SERVER_ONLY = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


class TemporaryServer(SubprocessASGIServer):
    """Prefect's own class, started otherwise; there is one of it in a process, which Prefect finds and uses."""

    def _run_uvicorn_command(self) -> "subprocess.Popen[Any]":
        folder = str(prefect.__module_path__.parent)
        command = [
            *(
                sys.executable,
                "-m",
                "uvicorn",
                "--app-dir",
                folder,
                "--factory",
                "prefect.server.api.server:create_app",
            ),
            *("--host", "127.0.0.1", "--port", str(self.port), "--log-level", "error", "--lifespan", "on"),
        ]
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        return start_apart(command, {**os.environ, **SERVER_ONLY, **settings})


def start_apart(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[Any]":
    """Start a command that no key of the terminal reaches and that ends with this process, however this one ends."""
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509  one call that takes no lock
    )


def start_temporary_server() -> None:
    """Start it now, unless a server is configured; Prefect stops it when this process exits.

    Call it from the main thread: the kernel ends the server with the thread that started it.
    """
    settings = get_current_settings()
    if settings.api.url is None and settings.server.ephemeral.enabled:
        TemporaryServer().start()
