"""The flow `retrain`: reproduce to the gate, read the verdict, merge and release or stop, and always leave a record.

It holds no science: stages are reproduced, verdict files are read, and only what has effects outside happens here.
"""

import contextlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from flows import display, record, registry, workspace
from flows.champion import bring_up_to_date, write_samples
from flows.evidence import data_docs
from flows.index_page import refresh_index
from flows.preflight import check_machine, check_release, check_stage_names
from flows.record import Progress
from flows.release import identical_release, register_and_promote, release_flow
from flows.release_section import asks_for_approval
from flows.reporting import markdown_verdict, score_table, write_report
from flows.reproduce import (
    Stage,
    StageRun,
    StageTimeout,
    checkout,
    read_stages,
    reproduce_stage,
    stages_up_to,
    why_stale,
)
from flows.run_record import ReleaseRecord, RunRecord, RunStatus, StageRecord
from flows.sign_off import check_bytes_not_rejected
from flows.variants import chosen_text
from flows.workspace import RunPlace
from tasks import paths
from tasks.errors import EXIT_INPUT, EXIT_REFUSED, NotApproved, ParamsInvalid, TunegateError
from tasks.files import read_json
from tasks.params import Params, RunParams, load_params
from tasks.records import Pace, Parity, Serving
from tasks.verdict_records import Verdict

if TYPE_CHECKING:  # it reads tables, whose library a run by hand need not wait for
    from flows.look import Look

RETRYABLE = frozenset({"Unavailable"})
LAST_BEFORE_RELEASE = "gate"
MOVED = frozenset({"executed", "restored"})
"""Outcomes after which a stage's outputs may be other bytes than before."""


class StageStopped(Exception):
    """A stage did not succeed; carries how it went."""

    def __init__(self, stage: str, run: StageRun) -> None:
        super().__init__(f"{stage}: {run.message}")
        self.stage = stage
        self.run = run


def is_worth_retrying(_task: object, _run: object, state: State[Any]) -> bool:
    """Only what may be there next time, a network say; a refusal and wrong input stay what they are."""
    try:
        state.result()
    except StageStopped as stopped:
        return stopped.run.kind in RETRYABLE
    except Exception:  # noqa: BLE001  any other failure is none that a retry helps
        return False
    return False


@task
def reproduce(worktree: str, stage: str, timeout_seconds: int, *, is_current: bool) -> dict[str, object]:
    """Bring one stage up to date, its lines streamed to Prefect and to the display.

    Args:
        worktree: the run's own workspace.
        stage: the name in dvc.yaml.
        timeout_seconds: after this long the stage is stopped.
        is_current: dvc has said that nothing of the stage changed; it is not asked again, which takes it a second.

    Raises:
        StageStopped: the stage refused or failed.
    """
    logger, shown = get_run_logger(), display.current()
    if is_current:
        logger.info("nothing changed")
        shown.started(stage)
        shown.ended(stage, "unchanged", 0.0)
        return {"outcome": "unchanged", "seconds": 0.0, "exit_code": 0, "pace": None, "serving": None}

    def on_line(line: str) -> None:
        logger.info(line)
        shown.line(stage, line)

    shown.started(stage)
    try:
        run = reproduce_stage(Path(worktree), stage, timeout_seconds, on_line)
    except StageTimeout as timeout:
        run = StageRun("failed", float(timeout_seconds), None, "StageTimeout", str(timeout))
    except TunegateError as error:
        run = StageRun("failed", 0.0, error.exit_code, type(error).__name__, str(error))
    shown.ended(stage, run.outcome, run.seconds)
    if run.outcome in {"refused", "failed"}:
        raise StageStopped(stage, run)
    pace = None if run.pace is None else run.pace.model_dump()
    serving = None if run.serving is None else run.serving.model_dump()
    return {
        "outcome": run.outcome, "seconds": run.seconds, "exit_code": run.exit_code, "pace": pace, "serving": serving,
    }  # fmt: skip


def run_stage(place: RunPlace, stage: Stage, options: RunParams, progress: Progress, *, is_current: bool) -> None:
    """One stage as one Prefect task, noted in `progress` however it ends.

    Raises:
        StageStopped: the stage refused or failed.
    """
    workspace.note_current(place.root, place.run_id, stage.name)
    limits = options.limits(stage.name)
    configured = reproduce.with_options(
        name=stage.name,
        task_run_name=stage.name,
        retries=limits.retries,
        retry_delay_seconds=exponential_backoff(limits.retry_delay_seconds)(limits.retries),
        retry_condition_fn=is_worth_retrying,
    )
    started = time.monotonic()
    try:
        done = configured(str(place.worktree), stage.name, limits.timeout_seconds, is_current=is_current)
    except StageStopped as stopped:
        run = stopped.run
        progress.stages.append(_stage_record(place, stage, run.outcome, run.seconds, run.exit_code, run.message))
        raise
    except BaseException:
        seconds = time.monotonic() - started
        progress.stages.append(_stage_record(place, stage, "cancelled", seconds, None, "stopped while it ran"))
        raise
    ended = _stage_record(place, stage, done["outcome"], done["seconds"], done["exit_code"], "")
    pace = None if done["pace"] is None else Pace.model_validate(done["pace"])
    serving = None if done["serving"] is None else Serving.model_validate(done["serving"])
    progress.stages.append(ended.model_copy(update={"pace": pace, "serving": serving}))


def _stage_record(
    place: RunPlace, stage: Stage, outcome: object, seconds: object, exit_code: object, message: str
) -> StageRecord:
    finished = outcome in {"executed", "restored", "unchanged"}
    digests = record.output_digests(place.worktree, stage.outs) if finished else {}
    return StageRecord.model_validate(
        {
            "name": stage.name,
            "outcome": outcome,
            "seconds": seconds,
            "exit_code": exit_code,
            "output_digests": digests,
            "message": message,
        }
    )


def run_line(place: RunPlace, params: Params, progress: Progress, look: "Look | None", *, release: bool) -> None:
    """The line in order, or the part of it that `progress.until` needs; stops after the gate when that did not pass it.

    dvc is asked once what is stale; a stage is given to it when it is, or when a stage before it moved. With a `look`
    the data stages come first, and what it decides by their outputs.
    """
    stages = stages_of(place, progress.until, look)
    stale, moved = set(why_stale(place.worktree)), list[str]()
    for stage in stages:
        if look is not None and look.stops_before(stage, place, progress):
            return
        if stage.name == LAST_BEFORE_RELEASE and bring_up_to_date(place, params.run.stage_timeout_seconds):
            moved.append(str(paths.CHAMPION))
        is_current = stage.name not in stale and not stage.deps_among(moved)
        run_stage(place, stage, params.run, progress, is_current=is_current)
        if progress.stages[-1].outcome in MOVED:
            moved += stage.outs
        if stage.name == LAST_BEFORE_RELEASE:
            verdict = read_json(place.worktree / paths.VERDICT, Verdict)
            if verdict.verdict != "passed":
                progress.status, progress.reason = verdict.verdict, "; ".join(verdict.reasons)
                return
    if progress.until is not None:
        progress.status, progress.reason = "reached", f"stopped after {progress.until}, as asked; nothing was released"
        return
    progress.status, progress.reason = "passed", "every rule of the gate holds and the merged model matches the adapter"
    if release:
        publish_or_reuse(place, params, progress)


def stages_of(place: RunPlace, until: str | None, look: "Look | None") -> list[Stage]:
    """The stages of a run in their order: those up to `until`, and those that a `look` needs first."""
    stages = read_stages(place.worktree)
    if until is not None:
        stages = stages_up_to(stages, until)
    return stages if look is None else look.in_order(stages)


def publish_or_reuse(place: RunPlace, params: Params, progress: Progress) -> None:
    """Publish the merged model, unless a release has exactly these bytes already, or a person has to agree first."""
    parity = read_json(place.worktree / paths.PARITY, Parity)
    known = identical_release(place.root, params, parity.merged_digest)
    if known is not None:
        progress.release, progress.released_before = known, True
        display.current().line("release", f"{known.tag} has exactly these bytes; nothing to publish")
        return
    if params.release.require_approval or asks_for_approval(place.root, progress.variant):
        progress.reason += f"; not released yet: another person has to give `tunegate approve {place.run_id}`"
        display.current().line("release", f"waits until another person gives `tunegate approve {place.run_id}`")
        return
    try:
        check_bytes_not_rejected(place.root, parity.merged_digest)
    except NotApproved as error:
        progress.reason += f"; not released, its bytes are those of a rejected run: {error}"
        display.current().line("release", f"not released: {error}")
        return
    workspace.note_current(place.root, place.run_id, "release")
    published = release_flow(str(place.root), str(place.worktree), place.run_id, place.start_commit)
    progress.release = ReleaseRecord.model_validate(published)


@flow(name="retrain", log_prints=False)
def retrain(  # noqa: PLR0913  each is a parameter of the deployment
    root: str,
    run_id: str,
    trigger: Literal["manual", "schedule"] = "manual",
    *,
    release: bool = True,
    until: str | None = None,
    params_file: str | None = None,
    variant: str | None = None,
) -> State[Any]:
    """Retrain once in a worktree of its own.

    Args:
        root: the user's repository; its branch, index and working tree are not touched.
        run_id: the id that `flows.workspace.new_run_id` made.
        trigger: who asked.
        release: whether a passed model is published and promoted.
        until: the stage to stop after; such a run is never released.
        params_file: a file whose text the run takes for params.yaml.
        variant: whose overlay lies over the parameters, `params/variants/NAME.yaml`.

    Returns:
        `Completed`, named Passed, Reached, Refused or Inconclusive; a crash raises, after its record was committed.
    """
    home = Path(root)
    with workspace.lock(home), workspace.state_outlives_the_worktree(home):
        recover(home)
        text, problem = given_params(home, params_file, variant)
        place = workspace.open_place(home, run_id, text)
        progress = Progress(started_at=record.now(), trigger=trigger, until=until, variant=variant)
        carry_out(place, progress, problem, release=release)
    return Completed(name=progress.status.capitalize(), message=progress.reason)


def given_params(root: Path, params_file: str | None, variant: str | None) -> tuple[str | None, ParamsInvalid | None]:
    """What the run takes for params.yaml, None for the user's own; or what is wrong with the variant."""
    try:
        return chosen_text(root, None if params_file is None else Path(params_file), variant), None
    except ParamsInvalid as error:
        return None, error


def carry_out(
    place: RunPlace,
    progress: Progress,
    problem: ParamsInvalid | None = None,
    look: "Look | None" = None,
    *,
    release: bool,
) -> None:
    """Run the line in its worktree and leave a record, however it ends; a crash raises after that.

    `problem` is what is wrong with the parameters that it was given; `look` decides whether a scheduled one trains.
    """
    workspace.note_current(place.root, place.run_id, "start")  # before its first record, which is not its last
    try:
        attempt(place, progress, problem, look, release=release)
    finally:
        finish(place, progress)


def attempt(
    place: RunPlace, progress: Progress, problem: ParamsInvalid | None, look: "Look | None", *, release: bool
) -> None:
    """Run the line, unless there is a `problem`, and turn every way to end into a status and a reason."""
    try:
        commit_record(place, progress)  # first of all: a run that is killed from here on is on record
        params = params_of(place, problem)
        check_stage_names(place.worktree, params, paths.PARAMS)
        if look is not None:  # nobody has looked before it was started
            check_machine(place.worktree, params)
            check_release(place.root, params.release, is_asked_for=release)
        champion, _ = registry.champion(place.root, params.release.name, params.release.stage)
        registry.write_champion(place.worktree, champion)
        write_samples(place, champion)
        checkout(place.worktree)
        if look is None or look.finds_sources(place, progress):
            run_line(place, params, progress, look, release=release)
    except StageStopped as stopped:
        progress.status, progress.reason = status_of(stopped.run.exit_code), str(stopped)
        if progress.status != "refused":
            raise
        if look is not None and progress.decision is None:
            look.note_refused_data(progress)
    except Exception as error:
        progress.status = status_of(error.exit_code if isinstance(error, TunegateError) else None)
        progress.reason = f"{type(error).__name__}: {error}" if progress.status == "crashed" else str(error)
        raise
    except BaseException as error:
        progress.status, progress.reason = "cancelled", f"stopped from outside ({type(error).__name__}); run again"
        raise


def params_of(place: RunPlace, problem: ParamsInvalid | None) -> Params:
    """The run's parameters.

    Raises:
        ParamsInvalid: they do not parse, or there is a `problem` with what the run was given for them.
    """
    if problem is not None:
        raise problem
    return load_params(place.worktree / paths.PARAMS)


def status_of(exit_code: int | None) -> RunStatus:
    """What a run is that a stage, or one of our errors, ended with this exit code."""
    if exit_code == EXIT_INPUT:
        return "invalid"
    return "refused" if exit_code == EXIT_REFUSED else "crashed"


def finish(place: RunPlace, progress: Progress) -> None:
    """Commit the record, register and promote, show the artifacts, and remove the worktree."""
    try:
        run_record, commit = commit_record(place, progress)
        if progress.release is not None and not progress.released_before:
            settle_release(place, progress, progress.release, commit)
        with contextlib.suppress(Exception):  # artifacts are a courtesy: a server that is gone must not cost the record
            show_artifacts(place, run_record)
        refresh_index(place.root)
    finally:
        workspace.close_place(place)
        (place.root / workspace.CURRENT).unlink(missing_ok=True)


def settle_release(place: RunPlace, progress: Progress, release: ReleaseRecord, commit: str) -> None:
    """Tag the commit that holds the record; when that fails, the record is mended: what no tag names is no release."""
    try:
        register_and_promote(str(place.root), release.model_dump(mode="json"), commit)
    except BaseException as error:
        progress.status, progress.reason = "crashed", f"published, but not registered: {type(error).__name__}: {error}"
        progress.release = None
        commit_record(place, progress)
        raise


def commit_record(place: RunPlace, progress: Progress) -> tuple[RunRecord, str]:
    """Make the record and the report of the run as it stands, and commit both to its branch."""
    run_record = record.gather(
        place,
        params_or_none(place),
        progress,
        with_stages_not_run(place, progress),
        {"flow_run_id": str(runtime.flow_run.id or ""), "flow_run_name": str(runtime.flow_run.name or "")},
    )
    if progress.stages:
        try:
            keep_report(place, run_record)
        except Exception as error:  # noqa: BLE001  a page that cannot be drawn must not cost the record
            display.current().note(f"the report could not be written: {type(error).__name__}: {error}")
    return run_record, record.commit_record(place, run_record)


def keep_report(place: RunPlace, run_record: RunRecord) -> None:
    """Write the report into the run's commit, and a copy to where the user finds it."""
    report = place.worktree / record.run_folder(place.run_id) / "report.html"
    write_report(run_record, place.worktree, report)
    kept = place.root / workspace.REPORTS / place.run_id / "report.html"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(report.read_bytes())
    if (docs := data_docs(run_record, place.worktree)) is not None:
        shutil.copytree(docs, kept.parent / Path(workspace.DOCS_LINK).parent, dirs_exist_ok=True)


def params_or_none(place: RunPlace) -> Params | None:
    """The run's parameters, or None when they do not parse."""
    try:
        return load_params(place.worktree / paths.PARAMS)
    except ParamsInvalid:
        return None


def with_stages_not_run(place: RunPlace, progress: Progress) -> list[StageRecord]:
    """The stages of `progress`, and after them those of dvc.yaml that the run did not come to."""
    known = {stage.name for stage in progress.stages}
    missing = [stage for stage in read_stages(place.worktree) if stage.name not in known]
    return [*progress.stages, *(_stage_record(place, stage, "not_run", 0.0, None, "") for stage in missing)]


def show_artifacts(place: RunPlace, run_record: RunRecord) -> None:
    """The scores, the verdict and a link to the report, as Prefect artifacts."""
    report = place.root / workspace.REPORTS / place.run_id / "report.html"
    create_link_artifact(key="report", link=report.resolve().as_uri(), description=f"Report of run {place.run_id}")
    if run_record.verdict is not None:
        create_table_artifact(key="scores", table=score_table(run_record), description="Scores with intervals")
        create_markdown_artifact(key="verdict", markdown=markdown_verdict(run_record.verdict))


def recover(root: Path) -> None:
    """Clean up after runs that died: what they had committed stays on record as crashed, their worktrees go."""
    last = workspace.read_current(root)
    for worktree in workspace.leftovers(root):
        record.settle_dead_run(root, worktree.name, last)
        get_run_logger().warning("run %s died; its record says crashed, its worktree is removed", worktree.name)
        display.current().note(f"run {worktree.name} died before it finished; it stays on record as crashed")
        workspace.remove_worktree(root, worktree)
    (root / workspace.CURRENT).unlink(missing_ok=True)
