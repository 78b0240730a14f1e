"""Claim: `tunegate gate replay` computes a verdict again in under 2 s, from a run on record, without torch."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Claim, interleave, parse_arguments, show
from flows.git import git, identity
from tasks.files import write_text
from tests.flows.fake_run import fake_samples, passed_record
from tests.flows.judged_run import judged_record

ROOT = Path(__file__).parents[1]
RUN = "20261120-081502-3f9c"


def planted_run(folder: Path) -> Path:
    """A repository with one judged run on record."""
    git(folder, "init", "--quiet", "--initial-branch", "main")
    write_text(folder / ".gitignore", "/.tunegate/\n")
    write_text(folder / ".dvc/config", "")
    write_text(folder / "params.yaml", (ROOT / "params.yaml").read_text(encoding="utf-8"))
    git(folder, "add", ".")
    git(folder, *identity(folder), "commit", "--quiet", "--message", "start")
    samples = [sample for sample in fake_samples("candidate") if sample.benchmark == "ticket_routing"]
    samples += [sample for sample in fake_samples("base") if sample.benchmark == "general_knowledge"]
    judged_record(folder, passed_record().model_copy(update={"run_id": RUN}), samples)
    return folder


def replay(root: Path, *settings: str) -> None:
    """`tunegate gate replay` as a person calls it."""
    command = [str(Path(sys.executable).parent / "tunegate"), "gate", "replay", RUN, *settings]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "the same bytes as the recorded verdict" in done.stdout or settings


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        root = planted_run(Path(folder))
        contestants = {
            "gate replay": lambda: replay(root),
            "gate replay --set": lambda: replay(root, "--set", "rules.0.min_value=0.4"),
        }
        interleave(contestants, 1)
        timings = interleave(contestants, 2 if arguments.quick else 15)
    claims = [Claim(timing.name, timing.median, "s", 2.0, "max") for timing in timings]
    show("time to compute a verdict again", timings, claims, is_quick=arguments.quick, path=arguments.json)


if __name__ == "__main__":
    main()
