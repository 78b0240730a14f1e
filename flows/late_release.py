"""Release a run that passed and ended without a release: it waited for an approval, or was asked not to release."""

from pathlib import Path

from flows import registry, workspace
from flows.branches import add_files
from flows.git import git
from flows.promotion import registry_lock
from flows.record import read_run, run_folder
from flows.release import release_flow
from flows.releases import Released, read_release, released_by
from flows.reproduce import checkout, read_stages
from flows.run_record import ReleaseRecord
from flows.workspace import RUN_BRANCHES
from tasks.files import dump_json


def release_run(root: Path, run_id: str, stage: str) -> Released:
    """Publish what a run made, put the release on its record, and register it; what a crash left is finished.

    Raises:
        NotApproved: the run's parameters ask for the approval of another person, and there is none.
        WorkspaceBusy: a run is in progress, which may release too.
        WorkspaceInvalid: neither DVC's cache nor its remote has what the run made.
    """
    with workspace.lock(root):
        known = released_by(root, run_id)
        if known is not None:
            return known
        record = read_run(root, run_id)
        commit = git(root, "rev-parse", f"refs/heads/{RUN_BRANCHES}{run_id}")
        release = record.release
        if release is None:
            release = _publish(root, run_id, commit, record.snapshot_commit, stage)
            text = dump_json(record.model_copy(update={"release": release}))
            message = f"Run {run_id}: released as {release.tag}\n\nRun: {run_id}\n"
            files = {(run_folder(run_id) / "record.json").as_posix(): text}
            commit = add_files(root, f"{RUN_BRANCHES}{run_id}", files, message)
        with registry_lock(root):
            registry.register(root, release, commit)
        return read_release(root, release.tag)


def _publish(root: Path, run_id: str, commit: str, started_from: str, stage: str) -> ReleaseRecord:
    """Publish from a worktree of the run's commit, with its outputs out of DVC's cache."""
    with workspace.at_commit(root, commit) as worktree:
        checkout(worktree, *(Path(out) for part in read_stages(worktree) for out in part.outs))
        published = release_flow(str(root), str(worktree), run_id, started_from)
    return ReleaseRecord.model_validate(published).model_copy(update={"promoted_stage": stage})
