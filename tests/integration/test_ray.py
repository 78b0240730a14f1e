"""The data stages over a local Ray write the same bytes as over this machine's processes."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.ingest import make_workspace
from tasks import paths
from tasks.digests import digest_path
from tasks.records import BenchmarkItem
from tasks.tables import write_records
from tests.integration.conftest import ROOT
from tests.unit.cleaning import write_tokenizer

pytestmark = pytest.mark.slow

STAGES = ("ingest", "clean", "dedup", "split", "validate")
FOLDERS = (paths.INGEST, paths.CLEAN, paths.DEDUP, paths.SPLIT, paths.VALIDATION.parent)
RUN = """
import importlib, sys
if __name__ == "__main__":
    for stage in sys.argv[1:]:
        importlib.import_module(f"tasks.{stage}").main()
"""
RAY = {
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_raylet_start_wait_time_s": "150",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
ROWS = 9000  # three row groups


def write_workspace(folder: Path) -> None:
    """A source of shuffled English words, every tenth row a copy of another with a word more."""
    words = re.findall(r"[a-z]{3,}", (ROOT / "docs/architecture.md").read_text(encoding="utf-8").lower())
    draw = random.Random(5)  # noqa: S311  rows of a test
    prompts = [" ".join(draw.choices(words, k=12)) for _ in range(ROWS)]
    prompts[::10] = [f"{prompt} {draw.choice(words)}" for prompt in prompts[1::10]]
    rows = [{"prompt": prompt, "completion": " ".join(draw.choices(words, k=6))} for prompt in prompts]
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    make_workspace(folder, source, write_tokenizer(folder / "tokenizer"))
    write_records(folder / paths.BENCHMARK_ITEMS / paths.ITEMS, [], BenchmarkItem)


def run(folder: Path, runner: str) -> dict[str, str]:
    params = folder / paths.PARAMS
    params.write_text(re.sub(r"runner: \w+", f"runner: {runner}", params.read_text(encoding="utf-8")), encoding="utf-8")
    for part in FOLDERS:
        shutil.rmtree(folder / part, ignore_errors=True)
    environment = os.environ | RAY | {"PYTHONPATH": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # each of Ray's processes would compile it all again
    command = [sys.executable, "-c", RUN, *STAGES]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {part.as_posix(): digest_path(folder / part) for part in FOLDERS}


def test_every_data_stage_writes_the_same_bytes_on_a_local_ray(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    native = run(tmp_path, "native")
    assert (tmp_path / paths.CLEAN / paths.EXAMPLES).stat().st_size > 100_000
    assert run(tmp_path, "ray") == native
