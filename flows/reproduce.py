"""The only caller of dvc: one `dvc repro --single-item` a stage, its lines handed on live, its whole group stopped.

A stage that fails makes dvc exit with 255 whatever the stage's own code was, so a stage writes its outcome to a file
that this module names to it; a training writes its pace to another.
"""

import contextlib
import difflib
import itertools
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from pathlib import Path

import psutil

from flows.run_record import StageOutcome
from flows.stopping import POLL_SECONDS, raise_if_interrupted
from tasks import CHILD_FLAG, die_with_parent
from tasks.entry import OUTCOME_VARIABLE
from tasks.errors import EXIT_REFUSED, TunegateError, WorkspaceBusy, WorkspaceInvalid
from tasks.files import read_json
from tasks.paths import PACE_VARIABLE, SERVING_VARIABLE
from tasks.quiet import QUIET
from tasks.records import Pace, Serving
from tasks.yaml_files import read_yaml

GRACE_SECONDS = 10.0
PULL_SECONDS = 3600.0
"""How long a DVC remote may take to give what is missing here."""
NOISE = (
    "To track the changes",
    "git add",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
    "Updating lock",
    "Generating lock",
)


@dataclass(frozen=True)
class Stage:
    """A node of the DVC graph: its name and the paths that it reads and writes."""

    name: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]

    def deps_among(self, outs: Iterable[str]) -> list[str]:
        """The deps that are one of `outs`, or lie below or above one."""
        return [dep for dep in self.deps if any(overlaps(dep, out) for out in outs)]


@dataclass(frozen=True)
class StageRun:
    """How one stage went; `kind` is the class of the error it ended in, empty when it succeeded.

    `pace` is what a training told of its speed, `serving` what a merge told of the models' costs.
    """

    outcome: StageOutcome
    seconds: float
    exit_code: int | None
    kind: str
    message: str
    pace: Pace | None = None
    serving: Serving | None = None


class StageTimeout(TunegateError):
    """A stage ran longer than `run.stage_timeout_seconds`; it was stopped."""


class StageUnknown(TunegateError):
    """A stage was named that dvc.yaml does not have."""


def stages_up_to(stages: Sequence[Stage], until: str) -> list[Stage]:
    """The stage `until` and those that it needs, directly or through others, in the order of `stages`.

    Raises:
        StageUnknown: there is no stage of that name; the message names the nearest.
    """
    by_name = {stage.name: stage for stage in stages}
    if until not in by_name:
        near = difflib.get_close_matches(until, by_name, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise StageUnknown(f"dvc.yaml has no stage {until!r}; {hint}it has {', '.join(by_name)}")
    waiting, needed = [until], {until}
    while waiting:
        for name in _needs(by_name[waiting.pop()], by_name):
            if name not in needed:
                needed.add(name)
                waiting.append(name)
    return [stage for stage in stages if stage.name in needed]


def read_stages(root: Path) -> list[Stage]:
    """The stages of `dvc.yaml` so that each follows what it depends on, else in the order of the file.

    Raises:
        ParamsInvalid: dvc.yaml is not valid YAML.
        WorkspaceInvalid: it has no stages.
    """
    declared = read_yaml(root / "dvc.yaml").value.get("stages")
    if not isinstance(declared, dict):
        raise WorkspaceInvalid(f"{root / 'dvc.yaml'}: no `stages`")
    stages = {name: Stage(name, _paths(body, "deps"), _paths(body, "outs")) for name, body in declared.items()}
    rank = {name: index for index, name in enumerate(stages)}
    sorter = TopologicalSorter({name: _needs(stage, stages) for name, stage in stages.items()})
    sorter.prepare()
    ordered, ready = [], list(sorter.get_ready())
    while ready:
        name = min(ready, key=rank.__getitem__)
        ready.remove(name)
        ordered.append(stages[name])
        sorter.done(name)
        ready += sorter.get_ready()
    return ordered


def stage_environment(root: Path, stage: str) -> dict[str, str]:
    """The variables that `dvc.yaml` sets for a stage, by `env NAME=VALUE` before its command."""
    words = shlex.split(read_yaml(root / "dvc.yaml").value["stages"][stage]["cmd"])  # type: ignore[index]
    if words[0] != "env":
        return {}
    pairs = itertools.takewhile(lambda word: "=" in word, words[1:])
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _paths(body: dict[str, list[object]], key: str) -> tuple[str, ...]:
    return tuple(str(next(iter(item))) if isinstance(item, dict) else str(item) for item in body.get(key, ()))


def _needs(stage: Stage, stages: dict[str, Stage]) -> list[str]:
    return [other.name for other in stages.values() if other is not stage and stage.deps_among(other.outs)]


def overlaps(one: str, other: str) -> bool:
    """Whether one path is the other or lies below it."""
    return Path(one).is_relative_to(other) or Path(other).is_relative_to(one)


def reproduce_stage(root: Path, stage: str, timeout_seconds: float, on_line: Callable[[str], None]) -> StageRun:
    """Bring one stage of the workspace `root` up to date.

    Args:
        root: a workspace with dvc.yaml.
        stage: the name in dvc.yaml.
        timeout_seconds: after this long the process group is stopped.
        on_line: called with every line that dvc or the stage prints.

    Raises:
        WorkspaceBusy: another dvc holds the workspace.
        StageTimeout: the time was up.
    """
    with tempfile.TemporaryDirectory() as scratch:
        outcome_path, pace_path = Path(scratch) / "outcome.json", Path(scratch) / "pace.json"
        serving_path = Path(scratch) / "serving.json"
        told = {
            OUTCOME_VARIABLE: str(outcome_path), PACE_VARIABLE: str(pace_path), SERVING_VARIABLE: str(serving_path),
        }  # fmt: skip
        command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
        started = time.monotonic()
        said: list[str] = []
        for line in run_lines(command, root, told, timeout_seconds):
            if isinstance(line, int):
                run = _judge(stage, line, said, time.monotonic() - started, outcome_path)
                return replace(
                    run,
                    pace=read_json(pace_path, Pace) if pace_path.exists() else None,
                    serving=read_json(serving_path, Serving) if serving_path.exists() else None,
                )
            said.append(line)
            if line.strip() and not line.strip().startswith(NOISE):
                on_line(line)
    raise AssertionError("run_lines always ends in an exit code")


def _judge(stage: str, exit_code: int, said: list[str], seconds: float, outcome_path: Path) -> StageRun:
    if exit_code == 0:
        return StageRun(_success(stage, said), seconds, 0, "", "")
    busy = next((line for line in said if "it is being blocked by" in line or "Unable to acquire lock" in line), None)
    if busy:
        raise WorkspaceBusy(f"stage {stage}: {busy.strip()}; wait until the other dvc has finished")
    if outcome_path.exists():
        outcome = json.loads(outcome_path.read_text(encoding="utf-8"))
        refused = outcome["exit_code"] == EXIT_REFUSED
        return StageRun(
            "refused" if refused else "failed", seconds, outcome["exit_code"], outcome["kind"], outcome["message"]
        )
    errors = [line for line in said if line.startswith("ERROR: ")]
    last = next((line for line in [*errors, *reversed(said)] if line.strip()), f"dvc exited with {exit_code}")
    return StageRun("failed", seconds, exit_code, "Killed" if exit_code < 0 else "Unknown", last.strip())


def _success(stage: str, said: list[str]) -> StageOutcome:
    if any(f"Stage '{stage}' didn't change, skipping" in line for line in said):
        return "unchanged"
    if any(f"Stage '{stage}' is cached - skipping run" in line for line in said):
        return "restored"
    return "executed"


def run_lines(command: list[str], root: Path, extra: dict[str, str], timeout_seconds: float) -> Iterator[str | int]:
    """Yield the child's lines as they come, then its exit code; whatever ends this early stops its whole group.

    Raises:
        StageTimeout: the time was up.
    """
    child = subprocess.Popen(
        command,
        cwd=root,
        env=child_environment(extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509  one call that takes no lock
    )
    deadline = time.monotonic() + timeout_seconds
    try:
        yield from _lines_until(child, deadline)
        yield child.wait()
    finally:
        stop_group(child)
        if child.stdout is not None:
            child.stdout.close()


def _lines_until(child: "subprocess.Popen[str]", deadline: float) -> Iterator[str]:
    """Lines of the child until it closes its output; a thread reads, so that waiting ends at the deadline and by ^C."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in child.stdout or ():
            lines.put(line.rstrip("\n"))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        raise_if_interrupted()
        try:
            line = lines.get(timeout=min(max(deadline - time.monotonic(), 0.01), POLL_SECONDS))
        except queue.Empty:
            if time.monotonic() < deadline:
                continue
            raise StageTimeout(
                "the stage ran longer than run.stage_timeout_seconds and was stopped; raise it in params.yaml or find "
                "out what hangs"
            ) from None
        if line is None:
            return
        yield line


def stop_group(child: "subprocess.Popen[str]") -> None:
    """End the child and all of its group: SIGTERM, and SIGKILL to whoever is left after a grace of ten seconds.

    The group outlives dvc, its leader, for as long as a stage does.
    """
    for stop in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_SECONDS
        try:
            os.killpg(child.pid, stop)
        except ProcessLookupError:
            return
        while time.monotonic() < deadline:
            if not _has_living(child.pid):
                child.wait()  # reaps dvc, which has ended
                return
            time.sleep(0.1)


def _has_living(group: int) -> bool:
    """Whether a process of the group runs; one that ended and waits to be reaped does not count."""
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                return True
    return False


def child_environment(extra: dict[str, str]) -> dict[str, str]:
    """This process's environment for dvc and its stages: unbuffered, quiet, this interpreter first on PATH."""
    environment = QUIET | dict(os.environ) | extra
    environment |= {
        "PYTHONUNBUFFERED": "1",
        CHILD_FLAG: "1",
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    return environment


def checkout(root: Path, *wanted: Path) -> None:
    """Put the outputs that dvc.lock names and the cache has into the workspace; those `wanted`, fetched where needed.

    Raises:
        WorkspaceInvalid: one of `wanted` is neither in the cache nor in a remote, or the remote had no answer in time.
    """
    _dvc(root, "checkout", "--force", "--allow-missing", "--quiet", *map(str, wanted))
    if missing := [str(out) for out in wanted if not (root / out).exists()]:
        _dvc(root, "pull", "--force", "--quiet", *missing, seconds=PULL_SECONDS)


def why_stale(root: Path) -> dict[str, list[str]]:
    """For every stage that is not up to date, what changed, in dvc's own words.

    Raises:
        WorkspaceBusy: another dvc holds the workspace.
    """
    status: dict[str, list[object]] = json.loads(_dvc(root, "status", "--json") or "{}")
    return {stage: list(_reasons(changes)) for stage, changes in status.items()}


def _reasons(changes: list[object]) -> Iterator[str]:
    for change in changes:
        if isinstance(change, str):
            yield change
        elif isinstance(change, dict):
            for kind, items in change.items():
                yield from (f"{_flat(name, state)} ({kind})" for name, state in dict(items).items())


def _flat(name: str, state: object) -> str:
    if isinstance(state, dict):
        return ", ".join(f"{key}: {value}" for key, value in state.items())
    return f"{name}: {state}"


def _dvc(root: Path, *arguments: str, seconds: float | None = None) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=root,
            env=child_environment({}),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise WorkspaceInvalid(f"dvc {arguments[0]} in {root}: no answer in {seconds:g} seconds") from None
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines() or [f"exit {done.returncode}"]
        kind = (
            WorkspaceBusy
            if "blocked by" in done.stderr or "Unable to acquire lock" in done.stderr
            else WorkspaceInvalid
        )
        raise kind(f"dvc {arguments[0]} in {root}: {reason[-1]}")
    return done.stdout
