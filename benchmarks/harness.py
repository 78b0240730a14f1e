"""What the benchmarks share: interleaved timing, a table, the JSON of claims."""

import argparse
import json
import os
import platform
import re
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Claim:
    """One figure with its goal; `direction` says whether less (`max`: at most) or more (`min`: at least) is asked."""

    claim: str
    value: float
    unit: str
    goal: float
    direction: Literal["min", "max"]

    @property
    def holds(self) -> bool:
        """Whether the goal is reached."""
        return self.value <= self.goal if self.direction == "max" else self.value >= self.goal


@dataclass(frozen=True)
class Timing:
    """Wall seconds of the repetitions of one contestant, and CPU seconds where they were measured."""

    name: str
    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the wall seconds."""
        return statistics.median(self.wall)


def parse_arguments(description: str) -> argparse.Namespace:
    """`--quick` and `--json FILE`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="under a minute; shows that it runs, is not the claim")
    parser.add_argument("--json", type=Path, help="write the claims here")
    return parser.parse_args()


def interleave(contestants: Mapping[str, Callable[[], object]], repetitions: int) -> list[Timing]:
    """Run all contestants in turn, `repetitions` times, so that a slow minute of the machine hits all of them."""
    wall: dict[str, list[float]] = {name: [] for name in contestants}
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repetitions):
        for name, contestant in contestants.items():
            started, used = time.perf_counter(), _cpu_seconds()
            contestant()
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(_cpu_seconds() - used)
    return [Timing(name, tuple(wall[name]), tuple(cpu[name])) for name in contestants]


def _cpu_seconds() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in usage)


def peak_gib() -> float:
    """The peak memory of this program; ru_maxrss would have that of the program that started it, too."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert peak is not None
    return int(peak[1]) / 2**20


def show(
    title: str,
    timings: list[Timing],
    claims: list[Claim],
    *,
    is_quick: bool,
    path: Path | None,
    more: Mapping[str, object] | None = None,
) -> None:
    """Print both tables, that of times where any were taken, and write the JSON, with `more` beside the claims."""
    console = Console()
    table = Table("contestant", "median s", "spread s", "CPU s", "runs", title=title)
    for timing in timings:
        spread = f"{min(timing.wall):.3f} to {max(timing.wall):.3f}"
        cpu = f"{statistics.median(timing.cpu):.3f}" if timing.cpu else "–"
        table.add_row(timing.name, f"{timing.median:.3f}", spread, cpu, str(len(timing.wall)))
    if timings:
        console.print(table)
    goals = Table("claim", "value", "goal", "holds")
    for claim in claims:
        sign = "at most" if claim.direction == "max" else "at least"
        goals.add_row(
            claim.claim, f"{claim.value:.3f} {claim.unit}", f"{sign} {claim.goal:g}", "yes" if claim.holds else "NO"
        )
    console.print(goals)
    if is_quick:
        console.print("--quick: shows that the benchmark runs; these figures are not the claim")
    if path is not None:
        rows = [asdict(claim) | {"holds": claim.holds} for claim in claims]
        result: dict[str, object] = {
            "claims": rows,
            "timings": [asdict(timing) for timing in timings],
            "environment": environment(),
        }
        result |= more or {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def environment() -> dict[str, str]:
    """The machine that a figure was taken on; no host name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {"cores": str(os.cpu_count()), "processor": processor, "python": platform.python_version()}
