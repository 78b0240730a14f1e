"""A run that is stopped from outside, on Prefect's temporary server and in a terminal of its own."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from flows.reproduce import run_lines
from flows.run_branches import read_runs
from flows.stopping import raise_if_interrupted, stoppable
from tests.flows.test_reproduce import gone
from tests.flows.tiny_line import ROOT, let

RUN = [sys.executable, "-c", "from flows.cli import main; main()", "run"]
ONE_LINE = "cancelled: stopped from outside; record: tunegate audit show "


class Terminal:
    """A command in the foreground of a terminal of its own, and what it wrote there."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._said = bytearray()
        self.pid, self._keyboard = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # as shells do for the foreground; a background job ignores it
            os.chdir(folder)
            os.execve(command[0], command, environment)  # noqa: S606  a fixed list, and no shell is meant
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while part := os.read(self._keyboard, 65536):
                self._said += part
        except OSError:
            return

    def type(self, keys: bytes) -> None:
        os.write(self._keyboard, keys)

    def wait(self, seconds: float) -> int:
        """The exit code; whoever is not done by then is killed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.1)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"still running after {seconds} s; it said:\n{self.said}")

    @property
    def said(self) -> str:
        return self._said.decode(errors="replace")


def until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds()


def with_home(home: Path) -> list[int]:
    """The processes whose Prefect lives in `home`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def terminal_signals() -> Iterator[None]:
    """Python's own handler of ^C, which a background job of a shell does not get."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_control_c_in_a_finaliser() -> None:
    """Send SIGINT where Python prints what is raised and goes on."""

    class Closing:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    Closing()


@pytest.mark.usefixtures("terminal_signals")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_control_c_that_is_lost_in_a_finaliser_still_ends_the_wait_for_a_stage(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(300)"]
    with stoppable():
        lines = run_lines(sleeper, tmp_path, {}, timeout_seconds=60)
        pid = int(next(lines))
        press_control_c_in_a_finaliser()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            next(lines)
    assert time.monotonic() - began < 30
    assert until(lambda: gone(pid), 10)


@pytest.mark.usefixtures("terminal_signals")
def test_control_c_of_an_earlier_run_does_not_end_the_next_one() -> None:
    with pytest.raises(KeyboardInterrupt), stoppable():
        signal.raise_signal(signal.SIGINT)
    with stoppable():
        raise_if_interrupted()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_control_c_stays_ignored_in_a_background_job() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGINT)
            raise_if_interrupted()
    finally:
        signal.signal(signal.SIGINT, before)


def test_sigterm_ends_the_command_with_its_exit_handlers_and_only_while_it_runs() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end, stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_control_c_in_a_terminal_ends_a_run_in_seconds_with_one_line(short_line: Path, tmp_path: Path) -> None:
    began = let(short_line, "ingest", "import time; time.sleep(300)")
    home = tmp_path / "prefect"
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "200"}
    environment["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "240"
    terminal = Terminal(RUN, short_line, environment)
    assert until(began.exists, 300), terminal.said
    terminal.type(b"\x03")
    assert terminal.wait(30) == 130
    record = read_runs(short_line)[0]
    assert record.status == "cancelled"
    assert f"{ONE_LINE}{record.run_id}" in terminal.said
    assert "Traceback" not in terminal.said
    assert until(lambda: not with_home(home), 10), "Prefect's temporary server is still there"


def test_prefects_temporary_server_dies_with_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, time\nfrom flows.temporary_server import start_apart\n"
        "child = start_apart(['sleep', '300'], dict(os.environ))\n"
        "print(child.pid, os.getsid(child.pid) == child.pid, flush=True)\ntime.sleep(300)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pid, is_apart = running.stdout.readline().split()
        running.kill()
    assert is_apart == "True"
    assert until(lambda: gone(int(pid)), 10)
