"""Claims: 52,002 Alpaca rows from ingest to validated splits in 60 s on two cores, and cost linear to 1,000,000 rows.

Runs the real stages, each as its own process, in a workspace of its own, with the parameters of params.yaml and every
rule on. `benchmark_items` is among them although it does not depend on the rows. The peak is that of a stage and its
workers together.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Claim, Timing, parse_arguments, show
from benchmarks.scaled_alpaca import write_scaled
from tasks import paths
from tasks.digests import digest_file
from tasks.files import read_json
from tasks.records import DataSummary

ROOT = Path(__file__).parents[1]
STAGES = ("ingest", "clean", "dedup", "benchmark_items", "split", "validate")
SIZES = (52_002, 200_000, 1_000_000)
QUICK_SIZES = (5_000, 10_000)
SOURCES = """\
sources:
  - name: rows
    role: train
    path: {path}
    sha256: {sha256}
    repo_id: null
    revision: null
    weight: 1.0
    layout:
      kind: auto
      system: ""
      tools: native
"""


@dataclass(frozen=True)
class StageCost:
    """What one stage took for one size."""

    rows: int
    stage: str
    wall_seconds: float
    cpu_seconds: float
    peak_mb: float


@dataclass
class Usage:
    """What a stage and its workers have used so far, by samples: the workers are not this process's own children."""

    cpu_seconds: dict[int, float]
    peak_mb: float


def make_workspace(folder: Path, source: Path, tokenizer: Path) -> None:
    """A workspace with the project's code and parameters, whose one source is the file `source`."""
    for name in ("tasks", "flows", "data/champion"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(tokenizer, folder / paths.BASE_TOKENIZER)
    text = (ROOT / paths.PARAMS).read_text(encoding="utf-8")
    start, end = text.index("sources:\n"), text.index("ingest:\n")
    own = SOURCES.format(path=source, sha256=digest_file(source))
    (folder / paths.PARAMS).write_text(text[:start] + own + "\n" + text[end:], encoding="utf-8")


def run_stage(folder: Path, stage: str, rows: int) -> StageCost:
    """Run one stage and watch it: wall seconds, CPU seconds of it and its workers, peak of their memory."""
    started = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen([sys.executable, "-m", f"tasks.{stage}"], cwd=folder, env=environment)
    usage = Usage({}, 0.0)
    watcher = threading.Thread(target=_watch, args=(child, usage), daemon=True)
    watcher.start()
    if child.wait():
        raise SystemExit(f"{stage} failed with {child.returncode}")
    watcher.join()
    return StageCost(rows, stage, time.perf_counter() - started, sum(usage.cpu_seconds.values()), usage.peak_mb)


def _watch(child: "subprocess.Popen[bytes]", usage: Usage) -> None:
    while child.poll() is None:
        try:
            process = psutil.Process(child.pid)
            family = [process, *process.children(recursive=True)]
            usage.peak_mb = max(usage.peak_mb, sum(_private_mb(member) for member in family))
            for member in family:
                times = member.cpu_times()
                usage.cpu_seconds[member.pid] = times.user + times.system
        except psutil.Error:
            pass
        time.sleep(0.2)


def _private_mb(process: psutil.Process) -> float:
    try:
        memory = process.memory_full_info()
    except psutil.Error:
        return 0.0
    return float(memory.pss) / 1e6  # what processes share is counted once


def check_ledger(folder: Path, rows: int) -> None:
    """Every row that came in has left a stage or been dropped by it, down to the partitions."""
    handed_on = rows
    for part in (paths.INGEST, paths.CLEAN, paths.DEDUP, paths.SPLIT):
        summary = read_json(folder / part / paths.SUMMARY, DataSummary)
        assert summary.rows_in == handed_on
        assert summary.rows_in == summary.rows_out + sum(summary.dropped.values())
        handed_on = summary.rows_out


def measure(rows: int) -> list[StageCost]:
    """All stages over `rows` rows."""
    with tempfile.TemporaryDirectory(dir=ROOT / ".tunegate") as scratch:
        folder = Path(scratch)
        write_scaled(folder / "alpaca.jsonl", rows)
        make_workspace(folder, folder / "alpaca.jsonl", ROOT / paths.BASE_TOKENIZER)
        costs = [run_stage(folder, stage, rows) for stage in STAGES]
        check_ledger(folder, rows)
        return costs


def table(costs: list[StageCost]) -> Table:
    """One line for each size and stage."""
    shown = Table("rows", "stage", "wall s", "CPU s", "peak MB", "us a row", title="ingest to validated splits")
    for cost in costs:
        each = 1e6 * cost.wall_seconds / cost.rows
        shown.add_row(
            f"{cost.rows:,}", cost.stage, f"{cost.wall_seconds:.1f}", f"{cost.cpu_seconds:.1f}", f"{cost.peak_mb:.0f}",
            f"{each:.0f}",
        )  # fmt: skip
    return shown


def main() -> None:
    """Measure every size, print the table, write the claims."""
    arguments = parse_arguments(__doc__ or "")
    (ROOT / ".tunegate").mkdir(exist_ok=True)
    costs: list[StageCost] = []
    for rows in QUICK_SIZES if arguments.quick else SIZES:
        costs += measure(rows)
    Console(width=110).print(table(costs))
    sizes = sorted({cost.rows for cost in costs})
    wall = {rows: sum(cost.wall_seconds for cost in costs if cost.rows == rows) for rows in sizes}
    peak = {rows: max(cost.peak_mb for cost in costs if cost.rows == rows) for rows in sizes}
    small, large = sizes[0], sizes[-1]
    claims = [
        Claim(f"{small:,} rows, ingest to validated splits", wall[small], "s", 60, "max"),
        Claim(
            f"seconds a row at {large:,} rows over those at {small:,}",
            (wall[large] / large) / (wall[small] / small), "times", 1.2, "max",
        ),
        Claim(f"peak memory of any stage at {large:,} rows", peak[large] / 1000, "GB", 4, "max"),
    ]  # fmt: skip
    timings = [Timing(f"{rows:,} rows", (wall[rows],), (_cpu(costs, rows),)) for rows in sizes]
    show("ingest to validated splits", timings, claims, is_quick=arguments.quick, path=arguments.json)
    if arguments.json:
        found = json.loads(arguments.json.read_text(encoding="utf-8"))
        found["stages"] = [asdict(cost) for cost in costs]
        arguments.json.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _cpu(costs: list[StageCost], rows: int) -> float:
    return sum(cost.cpu_seconds for cost in costs if cost.rows == rows)


if __name__ == "__main__":
    main()
