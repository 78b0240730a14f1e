"""A small git and DVC workspace whose stages are one-line scripts, for tests of what drives the line."""

import os
import subprocess
import sys
from pathlib import Path

DVC_CONFIG = "[core]\n    analytics = false\n    autostage = false\n"


def run(root: Path, *command: str) -> str:
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, env=environment()).stdout


def environment() -> dict[str, str]:
    return os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "DVC_NO_ANALYTICS": "1"}


def make_repo(root: Path, stages: dict[str, str], *, wired: str = "") -> Path:
    """A committed repository whose dvc.yaml has a stage for each name, running the Python of its value.

    `wired` is YAML for a whole dvc.yaml instead.
    """
    root.mkdir(parents=True, exist_ok=True)
    run(root, "git", "init", "--quiet", "--initial-branch", "main")
    run(root, sys.executable, "-m", "dvc", "init", "--quiet")
    (root / ".dvc" / "config").write_text(DVC_CONFIG, encoding="utf-8")
    lines = ["stages:"]
    for name, code in stages.items():
        (root / f"{name}.py").write_text(code, encoding="utf-8")
        lines += [f"  {name}:", f"    cmd: python {name}.py", f"    deps: [{name}.py]", f"    outs: [out/{name}.txt]"]
    (root / "dvc.yaml").write_text(wired or "\n".join(lines) + "\n", encoding="utf-8")
    (root / ".gitignore").write_text("/.tunegate/\n__pycache__/\n/out/\n", encoding="utf-8")
    commit(root, "start")
    return root


def commit(root: Path, message: str) -> str:
    """Commit everything; returns the commit."""
    run(root, "git", "add", "--all")
    author = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    run(root, "git", *author, "commit", "--quiet", "--message", message)
    return run(root, "git", "rev-parse", "HEAD").strip()


def write_out(name: str, text: str) -> str:
    """Python that writes a stage's output."""
    return f"from pathlib import Path; Path('out').mkdir(exist_ok=True); Path('out/{name}.txt').write_text({text!r})\n"
