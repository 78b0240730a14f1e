"""A workspace beside this one: the same commit and files, the same DVC cache, other parameters."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.workspace import share_cache

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace_with(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Make a copy of this workspace's tracked files in which texts of params.yaml are replaced."""

    def make(replacements: dict[str, str]) -> Path:
        copy = tmp_path / "workspace"
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
        for name in filter(None, tracked.stdout.split("\0")):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, copy / name)
        subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
        (copy / ".dvc" / "tmp").mkdir(parents=True, exist_ok=True)
        share_cache(ROOT, copy)
        text = (copy / "params.yaml").read_text(encoding="utf-8")
        for old, new in replacements.items():
            assert old in text
            text = text.replace(old, new)
        (copy / "params.yaml").write_text(text, encoding="utf-8")
        return copy

    return make


def dvc(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run dvc with this environment's interpreter first on PATH, as the README does after `make run`."""
    from flows.reproduce import child_environment  # noqa: PLC0415  only where it is needed

    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env=child_environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
