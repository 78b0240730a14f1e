import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.reproduce import (
    Stage,
    StageTimeout,
    StageUnknown,
    read_stages,
    reproduce_stage,
    stage_environment,
    stages_up_to,
    why_stale,
)
from tasks.errors import WorkspaceBusy, WorkspaceInvalid
from tasks.files import dump_json
from tasks.paths import PACE_VARIABLE, SERVING_VARIABLE
from tasks.records import Pace, ServedModel, Serving
from tests.flows.tiny_repo import make_repo, run, write_out

SAYS_AND_SLEEPS = "import os, time; print('pid', os.getpid(), flush=True); time.sleep(60)\n"


def reproduce(root: Path, stage: str, timeout: float = 60) -> tuple[str, int | None, str, list[str]]:
    lines: list[str] = []
    done = reproduce_stage(root, stage, timeout, lines.append)
    return done.outcome, done.exit_code, done.message, lines


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] != "Z"


def gone(pid: int, seconds: float = 12) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not is_alive(pid)


def test_a_stage_is_executed_then_unchanged_then_restored_from_the_run_cache(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "repo", {"one": write_out("one", "1")})
    assert reproduce(root, "one")[:2] == ("executed", 0)
    assert reproduce(root, "one")[0] == "unchanged"
    (root / "out/one.txt").unlink()
    (root / "dvc.lock").unlink()
    assert reproduce(root, "one")[0] == "restored"
    assert (root / "out/one.txt").read_text(encoding="utf-8") == "1"


def test_the_lines_of_a_stage_are_handed_on(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "repo", {"one": "print('step 1/2')\n" + write_out("one", "1")})
    assert "step 1/2" in reproduce(root, "one")[3]


def test_the_pace_of_a_training_is_handed_on_and_no_other_stage_has_one(tmp_path: Path) -> None:
    pace = Pace(steps=2, seconds=1.5, examples_per_second=8.0, tokens_per_second=90.0, memory_gb=0.5)
    leaves = (
        f"import os; from pathlib import Path; Path(os.environ[{PACE_VARIABLE!r}]).write_text({dump_json(pace)!r})\n"
    )
    root = make_repo(tmp_path / "repo", {"one": leaves + write_out("one", "1"), "two": write_out("two", "2")})
    ended = [reproduce_stage(root, stage, 60, print) for stage in ("one", "two", "one")]
    assert [run.pace for run in ended] == [pace, None, None]


def test_what_a_merge_tells_of_the_models_costs_is_handed_on(tmp_path: Path) -> None:
    serving = Serving(device="cpu", models=(ServedModel(name="base", ms_per_token=51.5, memory_gb=0.54),))
    leaves = (
        "import os; from pathlib import Path; "
        f"Path(os.environ[{SERVING_VARIABLE!r}]).write_text({dump_json(serving)!r})\n"
    )
    root = make_repo(tmp_path / "repo", {"one": leaves + write_out("one", "1"), "two": write_out("two", "2")})
    assert [reproduce_stage(root, stage, 60, print).serving for stage in ("one", "two")] == [serving, None]


def test_a_refusal_keeps_its_exit_code_and_message_although_dvc_exits_with_255(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tasks.entry import run_stage\nfrom tasks.errors import NotApproved\n"
        "def main():\n    raise NotApproved('not these bytes')\n"
        "run_stage(main)\n"
    )
    root = make_repo(tmp_path / "repo", {"one": code})
    assert reproduce(root, "one")[:3] == ("refused", 3, "not these bytes")


def test_a_crash_is_a_failure_with_the_last_line_that_was_said(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "repo", {"one": "raise SystemExit('boom')\n"})
    outcome, _, message, lines = reproduce(root, "one")
    assert outcome == "failed"
    assert "boom" in lines
    assert "failed to reproduce 'one'" in message


def test_a_stage_over_its_time_is_stopped_with_its_children(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "repo", {"one": SAYS_AND_SLEEPS})
    lines: list[str] = []
    with pytest.raises(StageTimeout, match=r"longer than run.stage_timeout_seconds"):
        reproduce_stage(root, "one", 12, lines.append)
    pid = int(next(line for line in lines if line.startswith("pid")).split()[1])
    assert gone(pid)


def test_an_interrupted_flow_leaves_no_stage_behind(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "repo", {"one": SAYS_AND_SLEEPS})
    driver = (
        "import pathlib, signal, sys; from flows.reproduce import reproduce_stage\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "reproduce_stage(pathlib.Path(sys.argv[1]), 'one', 60, lambda line: print(line, flush=True))"
    )
    flow = subprocess.Popen(
        [sys.executable, "-c", driver, str(root)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert flow.stdout is not None
    pid = int(next(line for line in flow.stdout if line.startswith("pid")).split()[1])
    flow.send_signal(signal.SIGINT)
    flow.wait(20)
    flow.stdout.close()
    assert gone(pid)


def test_a_workspace_that_another_dvc_holds_is_said_to_be_busy(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "repo", {"slow": SAYS_AND_SLEEPS, "one": write_out("one", "1")})
    other = subprocess.Popen(
        [sys.executable, "-u", "-m", "dvc", "repro", "slow"],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert other.stdout is not None
    next(line for line in other.stdout if line.startswith("pid"))
    try:
        with pytest.raises(WorkspaceBusy, match="wait until the other dvc has finished"):
            reproduce(root, "slow")
    finally:
        os.killpg(other.pid, signal.SIGKILL)
        other.wait(10)
        other.stdout.close()


def test_stages_follow_what_they_depend_on_and_else_the_order_of_the_file(tmp_path: Path) -> None:
    wired = (
        "stages:\n"
        "  last: {cmd: x, deps: [data/a/part, data/b], outs: [data/c]}\n"
        "  cheap: {cmd: x, outs: [data/a]}\n"
        "  dear: {cmd: x, outs: [{data/b: {cache: false}}]}\n"
    )
    root = make_repo(tmp_path / "repo", {}, wired=wired)
    assert [stage.name for stage in read_stages(root)] == ["cheap", "dear", "last"]


def test_a_dvc_file_without_stages_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("artifacts: {}\n", encoding="utf-8")
    with pytest.raises(WorkspaceInvalid, match="no `stages`"):
        read_stages(tmp_path)


def test_why_a_stage_would_run_is_told(tmp_path: Path) -> None:
    root = make_repo(tmp_path / "repo", {"one": write_out("one", "1")})
    run(root, sys.executable, "-m", "dvc", "repro", "--quiet")
    assert why_stale(root) == {}
    (root / "one.py").write_text(write_out("one", "2"), encoding="utf-8")
    assert why_stale(root) == {"one": ["one.py: modified (changed deps)"]}


LINE = [
    Stage("base", (), ("data/base",)),
    Stage("ingest", ("data/sources",), ("data/ingest",)),
    Stage("items", (), ("data/items",)),
    Stage("clean", ("data/base/tokenizer", "data/ingest"), ("data/clean",)),
    Stage("split", ("data/clean", "data/items"), ("data/split",)),
    Stage("train", ("data/base", "data/split/train.parquet"), ("data/train",)),
]


@pytest.mark.parametrize(
    ("until", "needed"),
    [
        ("ingest", ["ingest"]),
        ("clean", ["base", "ingest", "clean"]),
        ("split", ["base", "ingest", "items", "clean", "split"]),
        ("train", ["base", "ingest", "items", "clean", "split", "train"]),
    ],
)
def test_a_stage_needs_those_whose_outputs_it_reads_directly_or_not(until: str, needed: list[str]) -> None:
    assert [stage.name for stage in stages_up_to(LINE, until)] == needed


def test_an_unknown_stage_is_named_with_the_nearest_one() -> None:
    with pytest.raises(StageUnknown, match=r"no stage 'splti'; did you mean 'split'\?"):
        stages_up_to(LINE, "splti")
    with pytest.raises(StageUnknown, match="no stage 'zzz'; it has base, ingest"):
        stages_up_to(LINE, "zzz")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python -m tasks.train", {}),
        ("env A=1 B=x=y python -m tasks.train C=3", {"A": "1", "B": "x=y"}),
    ],
)
def test_the_variables_of_a_stage_are_those_before_its_command(
    command: str, expected: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "dvc.yaml").write_text(f"stages:\n  train: {{cmd: {command}}}\n")
    assert stage_environment(tmp_path, "train") == expected
