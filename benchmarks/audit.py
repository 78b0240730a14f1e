"""Claims: `audit list` over 1,000 runs in 1 s or less; `audit trained-on` over 100 runs of 52,000 rows in 2 s or less.

A repository of synthetic runs is made first: real branches, records and ledgers, of which nothing was measured. Each
of the 100 runs has ledgers of its own, so that no two share an index. `verify` hashes a folder of outputs; the peer is
`sha256sum` over the same bytes, and both must come to the same digests.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {
    "GIT_CONFIG_GLOBAL": os.devnull, "PYTHONPATH": str(ROOT), "GIT_AUTHOR_DATE": "2026-11-01T00:00:00Z",
}  # fmt: skip
ROWS = 52_000
PARTITIONS = ("train",) * 8 + ("validation", "test")
BYTES = 512 * 1024 * 1024


def git(root: Path, *arguments: str, stdin: str | None = None) -> str:
    """Run git in `root`; returns what it printed."""
    words = ["git", "-c", "user.name=Benchmark", "-c", "user.email=benchmark@localhost", *arguments]
    done = subprocess.run(words, cwd=root, env=ENVIRONMENT, input=stdin, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def tunegate(root: Path, *words: str) -> str:
    """The command as a user gives it; returns what it printed."""
    command = [sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(command, cwd=root, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
