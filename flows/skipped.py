"""The record of a run that was skipped before it had a worktree: one small commit on a branch of its own."""

from pathlib import Path

from flows import record
from flows.branches import start_branch
from flows.git import show_file
from flows.index_page import refresh_index
from flows.record_chain import ends_of_the_chain
from flows.run_record import Decision, RunRecord
from flows.workspace import RUN_BRANCHES
from tasks import paths
from tasks.digests import digest_text
from tasks.files import dump_json


def record_skip(
    root: Path, run_id: str, commit: str, decision: Decision, prefect: dict[str, str], variant: str | None = None
) -> RunRecord:
    """Put a skipped run on record; it needs no lock, so that a run that found the workspace busy can do it.

    Args:
        root: the user's repository.
        run_id: the id of the run.
        commit: what would have run.
        decision: why it did not.
        prefect: the names of the flow run.
        variant: whose adapter it would have trained.

    Returns:
        The record, as it is on the branch of the run.
    """
    time, branch = record.now(), f"{RUN_BRANCHES}{run_id}"
    texts = {path: show_file(root, commit, str(path)) for path in (paths.PARAMS, Path("dvc.lock"))}
    digests = {path: "" if text is None else digest_text(text) for path, text in texts.items()}
    made = RunRecord(
        run_id=run_id,
        status="skipped",
        reason=decision.why,
        trigger="schedule",
        started_at=time,
        finished_at=time,
        base_commit=commit,
        branch=branch,
        snapshot_commit=commit,
        dirty=False,
        changed_files=(),
        params_digest=digests[paths.PARAMS],
        params={},
        dvc_lock_digest=digests[Path("dvc.lock")],
        stages=(),
        packages=record.packages(),
        hardware=record.hardware(),
        seeds={},
        scores=(),
        verdict=None,
        parity=None,
        approvals={},
        release=None,
        prefect=prefect,
        decision=decision,
        vouches_for=ends_of_the_chain(root, run_id),
        variant=variant,
    )
    file = (record.run_folder(run_id) / "record.json").as_posix()
    message = f"Run {run_id}: skipped\n\n{decision.why}\n\nRun: {run_id}\n"
    start_branch(root, branch, commit, {file: dump_json(made)}, message)
    refresh_index(root)
    return made
