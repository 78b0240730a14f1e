"""A cheap stage runs in a folder that holds only its declared deps, and writes exactly its declared outs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from flows.reproduce import read_stages
from tasks import paths
from tests.contract.imports import ROOT
from tests.unit.tiny_model import make_tokenizer

CHEAP = ("ingest", "clean", "dedup", "benchmark_items", "split", "validate")


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(source, target)


def files(root: Path) -> set[str]:
    found = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix() for path in found}


def test_cheap_stages_need_their_deps_and_write_their_outs_and_nothing_else(tmp_path: Path) -> None:
    made = tmp_path / "made"
    make_tokenizer().save_pretrained(made / paths.BASE_TOKENIZER)  # of the stage `base`, which is not cheap
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for stage in (stage for stage in read_stages(ROOT) if stage.name in CHEAP):
        place = tmp_path / stage.name
        copy(ROOT / "params.yaml", place / "params.yaml")
        for dep in stage.deps:
            copy(made / dep if (made / dep).exists() else ROOT / dep, place / dep)
        before = files(place)
        code = f"import sys, runpy; sys.path.insert(0, ''); runpy.run_module('tasks.{stage.name}', run_name='__main__')"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{stage.name}: {done.stderr}"
        written = files(place) - before
        assert written
        assert [name for name in sorted(written) if not name.startswith(stage.outs)] == []
        for out in stage.outs:
            copy(place / out, made / out)
