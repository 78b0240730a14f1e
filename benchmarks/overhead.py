"""Claim: a run with nothing to do costs 10 s or less over a bare `dvc repro` with nothing to do, on a started server.

Needs a workspace in which `make run` was run. Both are given the same work: every stage is up to date or restored. The
temporary server's start comes on top where no server runs; it is measured apart.
"""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.harness import Claim, interleave, parse_arguments, show
from flows.reproduce import child_environment
from flows.run_branches import read_runs

ROOT = Path(__file__).parents[1]
PORT = 42837
API = f"http://127.0.0.1:{PORT}/api"
NOTHING_TO_DO = {"unchanged", "restored"}


def bare() -> None:
    """`dvc repro` in the workspace."""
    command = [sys.executable, "-m", "dvc", "repro"]
    done = subprocess.run(command, cwd=ROOT, env=child_environment({}), capture_output=True, text=True, check=True)
    assert "Running stage" not in done.stdout


def run_on_server(api: str | None) -> set[str]:
    """`tunegate run`, on the server at `api` or on a temporary one; the outcomes of its stages."""
    environment = dict(os.environ) | ({"PREFECT_API_URL": api} if api else {})
    command = [str(Path(sys.executable).parent / "tunegate"), "run"]
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return {stage.outcome for stage in read_runs(ROOT)[0].stages}


def run_with_nothing_to_do(api: str | None) -> None:
    """A run in which no stage does any work."""
    assert run_on_server(api) <= NOTHING_TO_DO


def wait_until_up() -> None:
    """Wait for the server to answer, at most 90 s."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{API}/health", timeout=2).close()  # noqa: S310  loopback
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    raise SystemExit("the Prefect server did not start within 90 s")


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments(__doc__ or "")
    server = subprocess.Popen(
        [Path(sys.executable).parent / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(PORT)],
        env=child_environment({}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_up()
        bare()
        run_on_server(API)  # after the first release the champion is new, and the gate runs once more
        contestants = {"dvc repro": bare, "tunegate run, started server": lambda: run_with_nothing_to_do(API)}
        timings = interleave(contestants, 1 if arguments.quick else 5)
    finally:
        server.terminate()
        server.wait(30)
    timings += interleave(
        {"tunegate run, temporary server": lambda: run_with_nothing_to_do(None)}, 1 if arguments.quick else 3
    )
    overhead = timings[1].median - timings[0].median
    claims = [Claim("overhead of a run with nothing to do, started server", overhead, "s", 10, "max")]
    show("nothing to do", timings, claims, is_quick=arguments.quick, path=arguments.json)


if __name__ == "__main__":
    main()
