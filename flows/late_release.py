"""Release a run that passed and ended without a release: it waited for an approval, or was asked not to release."""

from pathlib import Path

from flows import registry, workspace
from flows.branches import add_files
from flows.git import git
from flows.promotion import registry_lock
from flows.record import read_run, run_folder
from flows.release import PATIENCE_SECONDS, release_flow
from flows.releases import Released, read_release, released_by
from flows.reproduce import checkout, read_stages
from flows.run_record import ReleaseRecord
from flows.workspace import RUN_BRANCHES
from tasks import paths
from tasks.errors import KeyInvalid, ParamsInvalid
from tasks.files import dump_json
from tasks.params import load_params
from tasks.signing import check_keys, key_file

LATE = "every rule of the gate holds and the merged model matches the adapter; released later"


def release_run(root: Path, run_id: str) -> Released:
    """Publish what a run made, put the release on its record, and register it; what a crash left is made anew.

    Raises:
        NotApproved: the run's parameters or today's ask for the approval of another person, and there is none.
        ParamsInvalid: the run was made by another version of this project.
        KeyInvalid: the keys are not those that the run's commit names.
        WorkspaceBusy: a run is in progress, which may release too.
        WorkspaceInvalid: neither DVC's cache nor its remote has what the run made.
    """
    with workspace.lock(root):
        known = released_by(root, run_id)
        if known is not None:
            return known
        record = read_run(root, run_id)
        branch = f"{RUN_BRANCHES}{run_id}"
        commit = git(root, "rev-parse", f"refs/heads/{branch}")
        release = _publish(root, run_id, commit, record.snapshot_commit)  # anew, whatever one that died left on record
        told = record.model_copy(update={"release": release, "reason": f"{LATE}: {release.tag}"})
        message = f"Run {run_id}: released as {release.tag}\n\nRun: {run_id}\n"
        files = {(run_folder(run_id) / "record.json").as_posix(): dump_json(told)}
        commit = add_files(root, branch, files, message)
        with registry_lock(root, PATIENCE_SECONDS):
            registry.register(root, release, commit)
        return read_release(root, release.tag)


def _publish(root: Path, run_id: str, commit: str, started_from: str) -> ReleaseRecord:
    """Publish from a worktree of the run's commit, with its outputs out of DVC's cache.

    Which stage it gets is decided after it, by a promotion that may be refused: tags say it, the record does not.
    """
    with workspace.at_commit(root, commit) as worktree:
        _check_what_is_needed(root, run_id, worktree)
        checkout(worktree, *(Path(out) for part in read_stages(worktree) for out in part.outs))
        published = release_flow(str(root), str(worktree), run_id, started_from)
    return ReleaseRecord.model_validate(published).model_copy(update={"promoted_stage": None})


def _check_what_is_needed(root: Path, run_id: str, worktree: Path) -> None:
    """Refuse a run of another version's parameters, and keys that have changed since: nobody could verify the release.

    Raises:
        ParamsInvalid: the run's parameters are not those that this version reads.
        KeyInvalid: the private key of today is not that of the public key that the run's commit has.
    """
    try:
        release = load_params(worktree / paths.PARAMS).release
    except ParamsInvalid as error:
        problems = str(error).replace(f"{worktree}/", "")
        raise ParamsInvalid(
            f"run {run_id} was made by another version of Tunegate, which it cannot be released by: {problems}\n"
            "start a new run, `tunegate run`"
        ) from None
    if release.signing_key is not None and release.public_key is not None:
        try:
            check_keys(key_file(release.signing_key, root), worktree / release.public_key)
        except KeyInvalid as error:
            problem = str(error).replace(f"{worktree}/", "")
            raise KeyInvalid(
                f"{problem}\nrun {run_id} was started with the public key that its commit has: name the private key "
                "of that one, or start a new run, `tunegate run`"
            ) from None
