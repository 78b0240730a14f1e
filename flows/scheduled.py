"""The flow `scheduled-retrain`: take what is new, decide, then skip or run the line; always on record, and told.

One at a time: the lock of the workspace decides, on whatever server the schedule is, and `retrain.on_busy` says what
becomes of a run that finds it taken.
"""

import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed
from pydantic import BaseModel

from flows import notifications, record, workspace
from flows.decision import last_judged, reason_to_skip, used_in
from flows.fetch import Fetched, newest_commit
from flows.git import git, repository_root, show_file
from flows.look import Look
from flows.record import Progress
from flows.release_section import asks_for_approval
from flows.retrain import carry_out, given_params, recover
from flows.run_branches import read_runs, run_branches
from flows.run_record import Decision, RunRecord
from flows.skipped import record_skip
from flows.workspace import RunPlace
from tasks.errors import ParamsInvalid, TunegateError, WorkspaceBusy
from tasks.files import write_text
from tasks.params import ReleaseParams, RetrainParams, load_sections
from tasks.paths import PARAMS

POLL_SECONDS = 2.0
OnBusy = Literal["queue", "cancel", "skip"]


class ScheduleSections(BaseModel):
    """What a scheduled run is decided by; the other sections may be wrong."""

    retrain: RetrainParams
    release: ReleaseParams


@flow(name="scheduled-retrain", log_prints=False)
def scheduled_retrain(
    root: str = ".", on_busy: OnBusy | None = None, variant: str | None = None, *, release: bool = True
) -> State[Any]:
    """Retrain once, if there is something to learn and the month's budget allows it.

    Args:
        root: the workspace, or a folder in it.
        on_busy: what to do while another run holds the workspace; None takes `retrain.on_busy`.
        variant: whose overlay lies over the parameters, `params/variants/NAME.yaml`.
        release: whether a passed model is published and promoted.

    Returns:
        `Completed`, named Passed, Refused, Inconclusive or Skipped; `Cancelled` where the workspace is busy and
        `on_busy` is `cancel`, without a record. A crash raises, after its record was committed.
    """
    home = repository_root(Path(root))
    sections = given(home, "HEAD", variant).sections
    here = None if sections is None else sections.retrain
    with ExitStack() as held:
        try:
            _enter_lock(held, home, here, on_busy)
        except WorkspaceBusy as busy:
            if _choice(here, on_busy) == "cancel":
                return Cancelled(message=str(busy))
            run_id = workspace.new_run_id(datetime.now(UTC))
            _record_busy(home, run_id, variant)
        else:
            run_id = workspace.new_run_id(datetime.now(UTC))  # after the wait: runs are ordered by their ids
            _run_and_tell_crashes(home, run_id, variant, release=release)
    ended = record.read_run(home, run_id)
    _tell(home, ended)
    return Completed(name=ended.status.capitalize(), message=ended.reason)


def _run_and_tell_crashes(home: Path, run_id: str, variant: str | None, *, release: bool) -> None:
    try:
        with workspace.state_outlives_the_worktree(home):
            run_or_skip(home, run_id, variant, release=release)
    except BaseException as error:
        try:
            _tell(home, record.read_run(home, run_id))
        except (TunegateError, ValueError):  # it ended before its first record, or no record can be read
            text = f"run {run_id}: crashed before its first record: {type(error).__name__}"
            notifications.tell("crashed", text, _told(home, variant), get_run_logger())
        raise


def run_or_skip(home: Path, run_id: str, variant: str | None, *, release: bool) -> None:
    """Fetch, decide, and run the line or put on record why not; the lock is held."""
    logger = get_run_logger()
    recover(home)
    here = given(home, "HEAD", variant).sections
    head = git(home, "rev-parse", "HEAD")
    fetched = newest_commit(home) if here is None or here.retrain.fetch else Fetched(head)
    for note in fetched.notes:
        logger.warning(note)
    text, problem, sections = given(home, fetched.commit, variant)
    runs = own_runs(home)
    params = None if sections is None else sections.retrain
    last = None if sections is None else last_judged(runs, sections.release.name)
    if params is not None:
        same_as = last.run_id if last is not None and _is_same_start(home, last, fetched.commit, text) else None
        decision = reason_to_skip(params, used_in(record.now()[:7], runs), same_as)
        if decision is not None:
            decision = decision.model_copy(update={"notes": fetched.notes})
            record_skip(home, run_id, fetched.commit, decision, flow_run(), variant)
            return
    progress = Progress(started_at=record.now(), trigger="schedule", variant=variant)
    look = None if params is None else Look(params, None if last is None else last.run_id, fetched.notes)
    place: RunPlace = workspace.open_place(home, run_id, text, fetched.commit)
    carry_out(place, progress, problem, look, release=release)  # without parameters it says what is wrong with them


def own_runs(home: Path) -> list[RunRecord]:
    """The runs of this clone: those of others have a budget and a cache of their own."""
    branches = run_branches(home)
    return [record for record in read_runs(home) if branches[record.run_id].remote is None]


def flow_run() -> dict[str, str]:
    """Prefect's names of this flow run."""
    return {"flow_run_id": str(runtime.flow_run.id or ""), "flow_run_name": str(runtime.flow_run.name or "")}


class Given(NamedTuple):
    """The parameters of a commit: a variant's text for params.yaml, what is wrong with it, and what decides."""

    text: str | None
    problem: ParamsInvalid | None
    sections: ScheduleSections | None


def given(home: Path, commit: str, variant: str | None) -> Given:
    """What a scheduled run of `commit` takes; without `sections` where they cannot be read: the run itself says why."""
    text: str | None = None
    problem: ParamsInvalid | None = None
    if variant is not None:
        with workspace.at_commit(home, commit) as there:
            text, problem = given_params(there, None, variant)
    if problem is not None:
        return Given(text, problem, None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / PARAMS
        write_text(file, text or show_file(home, commit, str(PARAMS)) or "")
        try:
            return Given(text, None, load_sections(ScheduleSections, file))
        except ParamsInvalid:
            return Given(text, None, None)


def _is_same_start(home: Path, last: RunRecord, commit: str, text: str | None) -> bool:
    """Whether the last run with a verdict started from exactly the files of `commit`, with `text` for params.yaml."""
    if text is None:
        return _tree(home, last.snapshot_commit) == _tree(home, commit)
    has_same_params = show_file(home, last.snapshot_commit, str(PARAMS)) == text
    is_clean = set(last.changed_files) <= {str(PARAMS)}
    return has_same_params and is_clean and _tree(home, last.base_commit) == _tree(home, commit)


def _tree(home: Path, commit: str) -> str:
    return git(home, "rev-parse", f"{commit}^{{tree}}")


def _choice(params: RetrainParams | None, on_busy: OnBusy | None) -> OnBusy:
    return on_busy or (params.on_busy if params is not None else "skip")


def _enter_lock(held: ExitStack, home: Path, params: RetrainParams | None, on_busy: OnBusy | None) -> None:
    """Take the workspace, after a wait where runs queue.

    Raises:
        WorkspaceBusy: another run has it, still.
    """
    wait = params.max_wait_seconds if params is not None and _choice(params, on_busy) == "queue" else 0
    end = time.monotonic() + wait
    while True:
        try:
            held.enter_context(workspace.lock(home))
        except WorkspaceBusy:
            if time.monotonic() >= end:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return


def _record_busy(home: Path, run_id: str, variant: str | None) -> None:
    """Put on record that the run found the workspace taken."""
    why = f"another run holds this workspace ({workspace.lock_holder(home) or 'it has ended meanwhile'})"
    decision = Decision(action="skip", cause="busy", why=why)
    record_skip(home, run_id, git(home, "rev-parse", "HEAD"), decision, flow_run(), variant)


def _tell(home: Path, ended: RunRecord) -> None:
    """Tell people what became of the run; what cannot be told is logged."""
    event = notifications.event_of(ended, asks_for_approval=asks_for_approval(home, ended.variant))
    text = notifications.text_of(ended, event)
    notifications.tell(event, text, _told(home, ended.variant), get_run_logger())


def _told(home: Path, variant: str | None) -> list[str]:
    """The notification blocks of the parameters; none where they cannot be read."""
    sections = given(home, "HEAD", variant).sections
    return [] if sections is None else sections.retrain.notify
