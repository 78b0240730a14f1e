"""Give a stage to a release, and give it back to an earlier one: checked, alone, with who, when and why, and pushed.

A stage is a GTO tag in git. The tag's message says why, its tagger who and when; git keeps both for good.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows import registry
from flows.git import common_folder, git, who
from flows.release_verification import require_intact
from flows.releases import ROLL_BACK, Released, holders_before, is_withdrawn, read_release, version_key
from flows.remotes import push_release
from flows.sign_off import check_rejected_nowhere, check_sign_off, is_required, newest_revision
from flows.workspace import RUN_BRANCHES
from tasks.errors import NotApproved, PublishRefused, WorkspaceBusy

LOCK = "tunegate-registry.lock"
LOCK_SECONDS = 30.0
NO_REASON = "not given"


@dataclass(frozen=True)
class Assigned:
    """What a promotion or a rollback came to; `tag` is None where the release held the stage already."""

    release: str
    stage: str
    before: str | None
    tag: str | None
    remote: str | None


@contextmanager
def registry_lock(root: Path, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the registry alone; another promotion is waited for, and the kernel frees the lock of one that died.

    Raises:
        WorkspaceBusy: it was not free in time.
    """
    with (common_folder(root) / LOCK).open("a", encoding="utf-8") as file:
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise WorkspaceBusy(
                        f"{root}: another promotion holds the registry for {seconds:.0f} seconds; wait for it and "
                        "give the command again"
                    ) from None
                time.sleep(0.05)
        yield


def promote(root: Path, released: Released, stage: str, why: str | None, *, need_sign_off: bool) -> Assigned:
    """Give `stage` to a release, unless it has it; what was not pushed before is pushed.

    Args:
        root: the user's repository.
        released: the release.
        stage: the name of the stage.
        why: the reason that the tag keeps.
        need_sign_off: whether the parameters of today ask for the approval of another person.

    Raises:
        PublishRefused: the release was withdrawn, is not what was approved, or another clone was first.
        NotApproved: the approval of another person is asked for, and there is none of these bytes.
        PublishFailed: promoted here, and the remote could not be told.
    """
    with registry_lock(root):
        subject = f"Promote {released.tag} to {stage}"
        return _assign(root, released, stage, (subject, why), need_sign_off=need_sign_off)


def roll_back(
    root: Path, name: str, stage: str, target: Released | None, why: str | None, *, need_sign_off: bool
) -> Assigned:
    """Give `stage` back to an earlier release; without a `target`, to the one that held it before.

    Raises:
        PublishRefused: no earlier release held the stage, or the target is newer than what holds it; and as `promote`.
        NotApproved: as `promote`.
        PublishFailed: as `promote`.
    """
    with registry_lock(root):
        held = registry.stage_holder(root, name, stage)
        if target is None:
            target = read_release(root, _held_before(root, name, stage, held.tag if held else None))
        elif held is not None and held.tag is not None:
            _refuse_newer(target, held.tag, stage)
        subject = f"{ROLL_BACK} {stage} to {target.tag}"
        return _assign(root, target, stage, (subject, why), need_sign_off=need_sign_off)


def _held_before(root: Path, name: str, stage: str, holder: str | None) -> str:
    for tag in holders_before(root, name, stage):
        if tag != holder and not is_withdrawn(root, tag):
            return tag
    raise PublishRefused(
        f"no release of {name} held {stage} before {holder or 'now'}; name one, as in `tunegate rollback "
        f"{name}@v0.0.1`: `tunegate audit verify` lists them"
    )


def _refuse_newer(target: Released, holder: str, stage: str) -> None:
    version = holder.rpartition("@")[2]
    if version_key(target.release.version) > version_key(version):
        raise PublishRefused(
            f"{target.tag} is newer than {version}, which holds {stage}; `tunegate promote {target.tag} "
            f"--stage {stage}` goes forward"
        )


def _assign(
    root: Path, released: Released, stage: str, message: tuple[str, str | None], *, need_sign_off: bool
) -> Assigned:
    """Check, tag and push; the registry is held."""
    check_may_be_promoted(root, released, need_sign_off=need_sign_off)
    name = released.release.name
    held = registry.stage_holder(root, name, stage)
    before = (held.tag or held.commit[:12]) if held else None
    subject, why = message
    text = f"{subject}\n\nWhy: {' '.join((why or NO_REASON).split())}\nBy: {who(root)}\nBefore: {before or 'nothing'}\n"
    is_new = registry.promote(root, released.release, stage, text)
    made = newest_assignment(root, name, stage) if is_new else None
    remote = push_release(root, name, f"{RUN_BRANCHES}{released.record.run_id}", made)
    return Assigned(released.tag, stage, before, made, remote)


def check_may_be_promoted(root: Path, released: Released, *, need_sign_off: bool) -> None:
    """Refuse a release that was withdrawn or rejected, lacks the approval asked for, or is not what was approved.

    Raises:
        PublishRefused: withdrawn, or changed.
        NotApproved: a person rejected it, or no other person has approved these bytes.
    """
    if is_withdrawn(root, released.tag):
        raise PublishRefused(f"{released.tag} was withdrawn (`{released.tag}!`); promote another release")
    run = released.record
    revision = newest_revision(root, run.run_id, released.commit)
    check_rejected_nowhere(root, run, released.commit)
    if is_required(run, now=need_sign_off):
        sign_off = check_sign_off(root, run, revision)
        if sign_off.approval.digest != released.release.digest:
            raise NotApproved(
                f"{sign_off.approval.approved_by} approved {sign_off.approval.digest[:12]}, {released.tag} has "
                f"{released.release.digest[:12]}; have `tunegate approve {run.run_id}` given again"
            )
    require_intact(root, released)


def newest_assignment(root: Path, name: str, stage: str) -> str:
    """The newest tag that gives the stage away."""
    tags = git(root, "tag", "--list", f"{name}#{stage}#*").split()
    return max(tags, key=lambda tag: int(tag.rpartition("#")[2]) if tag.rpartition("#")[2].isdigit() else -1)
