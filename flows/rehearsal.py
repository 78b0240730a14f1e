"""`tunegate plan --rehearse`: every late step once, in a worktree of its own, before the hours are spent."""

import sys
import tempfile
import uuid
from pathlib import Path

from flows import workspace
from flows.display import Display
from flows.reproduce import checkout, read_stages, reproduce_stage, run_lines, stage_environment, stages_up_to
from tasks.entry import OUTCOME_VARIABLE
from tasks.errors import PublishFailed, RehearsalFailed
from tasks.params import Params, ReleaseParams

NEEDED = ("base", "validate")


def rehearse(root: Path, params: Params, text: str | None, shown: Display) -> None:
    """Bring the data up to date, then train two steps, resume, save, merge, evaluate, and write to the release target.

    Args:
        root: the user's repository; nothing of it is touched.
        params: what is rehearsed.
        text: the parameters' text where they are another file's, else None.
        shown: where the lines go.

    Raises:
        RehearsalFailed: a step did not work; the message is the step's own.
        PublishFailed: the release target cannot be written to.
    """
    timeout = float(params.run.stage_timeout_seconds)
    with workspace.preview(root, text) as worktree:
        checkout(worktree)
        stages = read_stages(worktree)
        wanted = {stage.name for name in NEEDED for stage in stages_up_to(stages, name)}
        for stage in (stage for stage in stages if stage.name in wanted):
            shown.started(stage.name)
            done = reproduce_stage(worktree, stage.name, timeout, lambda line, name=stage.name: shown.line(name, line))  # type: ignore[misc]
            shown.ended(stage.name, done.outcome, done.seconds)
            if done.exit_code:
                raise RehearsalFailed(f"stage {stage.name}: {done.message}")
        _run(worktree, timeout, shown)
    check_target(root, params.release)
    shown.note("rehearse: the release target can be written to; every late step has worked once")


def _run(worktree: Path, timeout: float, shown: Display) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        told = stage_environment(worktree, "train") | {OUTCOME_VARIABLE: str(Path(scratch) / "outcome.json")}
        last = ""
        for line in run_lines([sys.executable, "-m", "tasks.rehearse"], worktree, told, timeout):
            if isinstance(line, int):
                if line:
                    raise RehearsalFailed(f"{last or f'it ended with {line}'}; nothing was released or recorded")
            elif line.strip():
                last = line.strip()
                shown.note(last)


def check_target(root: Path, release: ReleaseParams) -> None:
    """Whether the release target can be written to; nothing stays there.

    Raises:
        PublishFailed: it cannot.
    """
    if release.target == "hub":
        from tasks.publish_hub_session import read_token  # noqa: PLC0415  only where a token is needed

        read_token()
        return
    folder = root / release.folder
    trial = folder / f".rehearsal-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"rehearsal")
        trial.unlink()
    except OSError as error:
        raise PublishFailed(f"{folder}: cannot be written to ({error.strerror}); mend release.folder") from None
