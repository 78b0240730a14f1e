"""Claim: `tunegate --help` answers in under 0.3 s. The peer is `dvc --help`, a command of the same kind."""

import subprocess
import sys
from pathlib import Path

from benchmarks.harness import Claim, interleave, parse_arguments, show

BIN = Path(sys.executable).parent


def helps(command: str) -> None:
    """Run `command --help` and check that it said something useful."""
    done = subprocess.run([BIN / command, "--help"], capture_output=True, text=True, check=True)
    assert "usage" in done.stdout.lower()


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments(__doc__ or "")
    contestants = {"tunegate --help": lambda: helps("tunegate"), "dvc --help": lambda: helps("dvc")}
    interleave(contestants, 1)
    timings = interleave(contestants, 3 if arguments.quick else 15)
    claims = [Claim("tunegate --help", timings[0].median, "s", 0.3, "max")]
    show("time to answer --help", timings, claims, is_quick=arguments.quick, path=arguments.json)


if __name__ == "__main__":
    main()
