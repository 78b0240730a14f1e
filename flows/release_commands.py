"""What `approve`, `promote`, `rollback` and `audit verify` do: find what is meant, call, and say what came of it."""

import os
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows import display, promotion, registry, sign_off
from flows.commands import PREFECT_SETTINGS
from flows.git import git, repository_root
from flows.promotion import Assigned, registry_lock
from flows.record import read_run, resolve_run
from flows.release_section import release_params, release_params_of
from flows.releases import Released, find_release, read_release, released_by, tag_of
from flows.run_branches import require_own_branch
from flows.workspace import RUN_BRANCHES
from tasks.errors import ParamsInvalid
from tasks.params import ReleaseParams
from tasks.paths import PARAMS

STAGES = ("staging", "production")


def approve_command(start: Path, wanted: str, by: str | None, why: str | None) -> None:
    """Sign off a run's merged model, and say what was signed."""
    root = repository_root(start)
    run = read_run(root, resolve_run(root, wanted))
    release = release_params_of(root, run.variant)
    require_own_branch(root, run.run_id)
    needed = sign_off.is_required(run, now=release.require_approval)
    with registry_lock(root):
        made = sign_off.approve(root, run, by, why or promotion.NO_REASON, is_required=needed)
    console = Console(soft_wrap=True)
    console.print(Text(f"approved: {made.approval.digest} of run {run.run_id}"))
    console.print(Text(f"by:       {made.approval.approved_by}, {made.at}: {made.why}"))
    console.print(Text(f"next:     tunegate promote {run.run_id}"))


def reject_command(start: Path, wanted: str, by: str | None, why: str) -> None:
    """Reject a run's merged model, and say what that changes."""
    root = repository_root(start)
    run = read_run(root, resolve_run(root, wanted))
    require_own_branch(root, run.run_id)
    with registry_lock(root):
        made = sign_off.reject(root, run, by, why)
    console = Console(soft_wrap=True)
    console.print(Text(f"rejected: {made.approval.digest} of run {run.run_id}"))
    console.print(Text(f"by:       {made.approval.approved_by}, {made.at}: {made.why}"))
    released = released_by(root, run.run_id)
    for stage in [] if released is None else STAGES:
        held = registry.stage_holder(root, released.release.name, stage) if released else None
        if held is not None and released is not None and held.tag == released.tag:
            console.print(Text(f"next:     {released.tag} holds {stage}: tunegate rollback --stage {stage}"))


def stage_named(wanted: str | None, release: ReleaseParams) -> str:
    """The stage that is meant: the one of the parameters when none is named.

    Raises:
        ParamsInvalid: no such stage.
    """
    if wanted is None:
        return release.stage
    if wanted not in (known := sorted({*STAGES, release.stage})):
        raise ParamsInvalid(f"--stage: found {wanted!r}, expected one of {', '.join(known)}")
    return wanted


def promote_command(start: Path, wanted: str, stage: str | None, why: str | None, variant: str | None = None) -> None:
    """Give a stage to a release; a run that passed and has no release yet is released first."""
    root = repository_root(start)
    params = _params_of(root, wanted, variant)
    named = stage_named(stage, params)
    released = _released(root, params, wanted)
    _print_assigned(
        promotion.promote(root, released, named, why, need_sign_off=params.require_approval), "promoted", root
    )


def _params_of(root: Path, wanted: str | None, variant: str | None) -> ReleaseParams:
    """The section `release` of today for what is meant: that of the variant that is named, or that made it.

    Raises:
        ParamsInvalid: it cannot be read, there is no such variant, or what is meant is not its.
        RunNotFound: a release of that name and version, or a run, is asked for and there is none.
    """
    params = release_params(root, variant)
    if wanted is None:
        return params
    tag = tag_of(root, params.name, wanted)
    record = read_run(root, resolve_run(root, wanted)) if tag is None else read_release(root, tag).record
    if variant is not None and record.variant != variant:
        whose = f"the variant {record.variant}" if record.variant else str(PARAMS)
        raise ParamsInvalid(f"--variant {variant}: {wanted} is of {whose}; leave --variant out")
    return release_params_of(root, record.variant)


def _released(root: Path, params: ReleaseParams, wanted: str) -> Released:
    if tag_of(root, params.name, wanted) is not None:
        return find_release(root, params.name, wanted)
    run = read_run(root, resolve_run(root, wanted))
    known = released_by(root, run.run_id)
    if known is not None:
        return known
    sign_off.released_digest(run)
    require_own_branch(root, run.run_id)
    sign_off.check_not_rejected(root, run, f"{RUN_BRANCHES}{run.run_id}")
    if sign_off.is_required(run, now=params.require_approval):
        sign_off.check_sign_off(root, run, f"{RUN_BRANCHES}{run.run_id}")
    return _release_now(root, run.run_id)


def _release_now(root: Path, run_id: str) -> Released:
    for name, value in PREFECT_SETTINGS.items():
        os.environ.setdefault(name, value)
    with display.shown() as shown:
        shown.note(f"run {run_id} has no release yet: it is released now; starting Prefect")
        from flows.late_release import release_run  # noqa: PLC0415  prefect takes seconds
        from flows.temporary_server import start_temporary_server  # noqa: PLC0415

        start_temporary_server()
        return release_run(root, run_id)


def rollback_command(
    start: Path, wanted: str | None, stage: str | None, why: str | None, variant: str | None = None
) -> None:
    """Give a stage back to an earlier release."""
    root = repository_root(start)
    params = _params_of(root, wanted, variant)
    named = stage_named(stage, params)
    target = None if wanted is None else find_release(root, params.name, wanted)
    name = target.release.name if target else params.name
    done = promotion.roll_back(root, name, named, target, why, need_sign_off=params.require_approval)
    _print_assigned(done, "rolled back", root)


def _print_assigned(done: Assigned, word: str, root: Path) -> None:
    console = Console(soft_wrap=True)
    if done.tag is None:
        console.print(Text(f"{done.stage} is {done.release} already; nothing to do here"))
    else:
        was = f", before that {done.before}" if done.before else ""
        console.print(Text(f"{word}: {done.stage} is {done.release}{was}"))
        console.print(Text(f"on record: git show '{done.tag}'"))
    if done.remote is not None:
        console.print(Text(f"pushed to: {done.remote}"))
    elif git(root, "remote"):
        console.print(Text("not pushed: several remotes and none is origin; name one by git config remote.pushDefault"))
