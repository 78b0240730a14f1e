"""What `approve`, `promote`, `rollback` and `audit verify` do: find what is meant, call, and say what came of it."""

import os
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows import display, promotion, registry, release_verification, sign_off
from flows.commands import PREFECT_SETTINGS, ended_run
from flows.git import git, repository_root
from flows.promotion import Assigned, registry_lock
from flows.record import read_run, resolve_run
from flows.release_section import release_params, release_params_of
from flows.releases import Released, all_tags, find_release, is_withdrawn, read_release, released_by, tag_of
from flows.run_record import RunRecord
from flows.variants import release_names
from flows.workspace import RUN_BRANCHES
from tasks.errors import EXIT_REFUSED, FileInvalid, KeyInvalid, NotApproved, ParamsInvalid, PublishRefused
from tasks.params import ReleaseParams
from tasks.paths import PARAMS
from tasks.publish_bundle import SIGNATURE

STAGES = ("staging", "production")


def approve_command(start: Path, wanted: str, by: str | None, why: str | None) -> None:
    """Sign off a run's merged model, and say what was signed."""
    root = repository_root(start)
    run = read_run(root, resolve_run(root, wanted))
    release = release_params_of(root, run.variant)
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


def verify_command(start: Path, wanted: str | None, key: Path | None) -> int:
    """Check one release or run, or all releases, offline; every difference is named. Returns the exit code.

    Raises:
        KeyInvalid: the key that is named is not there.
    """
    if key is not None and not key.is_file():
        raise KeyInvalid(f"--key {key}: no such file; name the PEM file of the public key")
    root = repository_root(start)
    params, console = release_params(root), Console(soft_wrap=True)
    if wanted is not None and tag_of(root, params.name, wanted) is None:
        run_id = ended_run(root, wanted)
        if released_by(root, run_id) is None:
            return _verify_run(root, read_run(root, run_id), console)
    tags = all_tags(root) if wanted is None else [find_release(root, params.name, wanted).tag]
    if not tags:
        console.print("no release yet; `tunegate run` releases what passes")
    names = {params.name, *release_names(root).values()}
    outcomes = [_verify_tag(root, names, tag, key, console) for tag in tags]
    return 0 if all(outcomes) else EXIT_REFUSED


def _verify_run(root: Path, record: RunRecord, console: Console) -> int:
    found = release_verification.verify_run(root, record, f"{RUN_BRANCHES}{record.run_id}")
    _print_findings(console, f"run {record.run_id}", found, "its record agrees with git; it released nothing")
    return EXIT_REFUSED if found else 0


def _verify_tag(root: Path, names: set[str], tag: str, key: Path | None, console: Console) -> bool:
    """Whether nothing is found; a tag of none of our `names` that no run made is told and left alone."""
    began = time.monotonic()
    try:
        released = read_release(root, tag)
    except PublishRefused as error:
        is_ours = tag.rpartition("@")[0] in names
        console.print(Text(f"{'DIFFERS' if is_ours else 'skipped'}  {error}", style="yellow"))
        return not is_ours
    found = release_verification.verify_release(root, released, key)
    found += _sign_off_findings(root, released)
    _print_findings(console, tag, found, _what_was_looked_at(root, released, time.monotonic() - began))
    return not found


def _sign_off_findings(root: Path, released: Released) -> list[release_verification.Finding]:
    """Whether the approval that the run's own parameters ask for is there; today's say nothing of what was before."""
    if not sign_off.is_required(released.record, now=False):
        return []
    try:
        sign_off.check_sign_off(root, released.record, released.commit)
    except (NotApproved, FileInvalid) as error:
        return [release_verification.Finding(sign_off.SIGN_OFFS, str(error))]
    return []


def _what_was_looked_at(root: Path, released: Released, seconds: float) -> str:
    withdrawn = ", withdrawn" if is_withdrawn(root, released.tag) else ""
    if released.release.target != "folder":
        return f"its record agrees with git; its files are on the Hub, not looked at{withdrawn}"
    files, size = release_verification.folder_size(root, released.release)
    is_signed = (root / released.release.location / SIGNATURE).is_file()
    agree = "record, approvals and signature agree" if is_signed else "record and approvals agree"
    return f"{files} files, {size / 1e6:,.1f} MB, {agree}, {seconds:.1f} s{withdrawn}"


def _print_findings(console: Console, subject: str, found: list[release_verification.Finding], fine: str) -> None:
    if not found:
        console.print(Text(f"ok       {subject}: {fine}", style="green"))
        return
    console.print(Text(f"DIFFERS  {subject}", style="bold yellow"))
    for finding in found:
        console.print(Text(f"  {finding}"))
