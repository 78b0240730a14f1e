"""The champion evaluated again from its own adapter, when its scores were taken under other fingerprints.

Scores under different fingerprints are never compared: after a change of a benchmark, a setting or a library the
champion's stored scores say nothing about the candidate. Its adapter is in DVC at the commit of its release, and its
digest on record; measured is by the same code as base and candidate, and kept like theirs, so that it is done once.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from flows import display, registry, workspace
from flows.git import show_bytes
from flows.record import CANDIDATE_SAMPLES, read_run
from flows.reproduce import checkout, run_lines, stage_environment
from flows.workspace import RunPlace
from tasks import paths
from tasks.digests import digest_path
from tasks.entry import OUTCOME_VARIABLE
from tasks.errors import EvidenceMissing, NotApproved, TunegateError
from tasks.files import read_json, write_json
from tasks.records import BaseRecord, Champion, ChampionModel, Evaluation

STAGE = "evaluate_candidate"
"""The stage whose environment the champion is evaluated in, and that it follows."""


def write_samples(place: RunPlace, champion: Champion) -> None:
    """Put what the champion answered beside its scores, for the report to show; runs of old kept none."""
    kept = f"runs/{champion.run}/{CANDIDATE_SAMPLES}"
    answers = None if champion.commit is None else show_bytes(place.root, champion.commit, kept)
    target = place.worktree / paths.CHAMPION_SAMPLES
    target.unlink(missing_ok=True)
    if answers is not None:
        target.write_bytes(answers)


def bring_up_to_date(place: RunPlace, timeout_seconds: float) -> bool:
    """Evaluate the champion again when the candidate was measured otherwise; whether its file is another now.

    What stands in the way is told, and the gate refuses: without the champion's scores there is nothing to compare.
    """
    champion = read_json(place.worktree / paths.CHAMPION, Champion)
    measured, shown = place.worktree / paths.EVALUATE_CANDIDATE / paths.EVALUATION, display.current()
    if champion.evaluation is None:
        shown.note("no release holds production: the base stands in for it")
        return False
    if not measured.is_file():
        return False  # the gate says so
    changed = outdated(champion.evaluation, read_json(measured, Evaluation))
    if not changed:
        return False
    shown.note(f"{champion.release} was measured otherwise on {', '.join(changed)}: it is evaluated again")
    try:
        fetch(place, champion)
        again = evaluate(place, timeout_seconds)
    except TunegateError as error:
        shown.note(f"{champion.release} cannot be evaluated again, so that the gate will refuse: {error}")
        return False
    registry.write_champion(place.worktree, champion.model_copy(update={"evaluation": again}))
    shutil.copyfile(place.worktree / paths.EVALUATE_CHAMPION / paths.SAMPLES, place.worktree / paths.CHAMPION_SAMPLES)
    return True


def outdated(champion: Evaluation, candidate: Evaluation) -> list[str]:
    """The candidate's benchmarks on which the champion has no scores under the same fingerprint."""
    return [item.benchmark for item in candidate.fingerprints if champion.fingerprint(item.benchmark) != item]


def fetch(place: RunPlace, champion: Champion) -> None:
    """Put the champion's adapter, and what it stands in front of, into the run's worktree.

    Raises:
        NotApproved: the adapter's digest is not the one that was released.
        WorkspaceInvalid: neither DVC's cache nor its remote has the adapter.
    """
    wanted = champion.evaluation.adapter_digest if champion.evaluation else None
    with workspace.at_commit(place.root, str(champion.commit)) as worktree:
        checkout(worktree, paths.BASE, paths.ADAPTER)
        if (found := digest_path(worktree / paths.ADAPTER)) != wanted:
            raise NotApproved(
                f"the adapter of {champion.release} has digest {found[:12]}, released was {str(wanted)[:12]}; "
                "take it out of its stage with `gto deprecate NAME VERSION STAGE`"
            )
        _copy(worktree / paths.ADAPTER, place.worktree / paths.CHAMPION_ADAPTER)
        base = _with_weights(place, worktree, read_json(worktree / paths.BASE_RECORD, BaseRecord))
    params: Any = read_run(place.root, str(champion.run)).params
    parts = {"base": base.model_dump(), "quantization": params["quantization"], "adapter_digest": found}
    write_json(place.worktree / paths.CHAMPION_MODEL, ChampionModel.model_validate(parts))


def _with_weights(place: RunPlace, worktree: Path, base: BaseRecord) -> BaseRecord:
    """The champion's base with weights where they will be found: its own, where the run has another in their place."""
    ours = read_json(place.worktree / paths.BASE_RECORD, BaseRecord)
    if base.weights != str(paths.BASE_MODEL) or ours.digest == base.digest:
        return base
    own = place.worktree / paths.CHAMPION_BASE
    _copy(worktree / paths.BASE_MODEL, own)
    return base.model_copy(update={"weights": f"path:{own.absolute()}"})


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def evaluate(place: RunPlace, timeout_seconds: float) -> Evaluation:
    """The champion's scores, by the same module as those of base and candidate.

    Raises:
        EvidenceMissing: it failed; the message is its own.
        StageTimeout: the time was up.
    """
    with tempfile.TemporaryDirectory() as scratch:
        outcome = Path(scratch) / "outcome.json"
        told = stage_environment(place.worktree, STAGE) | {OUTCOME_VARIABLE: str(outcome)}
        command = [sys.executable, "-m", "tasks.evaluate", "champion"]
        for line in run_lines(command, place.worktree, told, timeout_seconds):
            if isinstance(line, str):
                display.current().line("champion", line)
            elif line:
                told_why = json.loads(outcome.read_text(encoding="utf-8")) if outcome.exists() else {}
                raise EvidenceMissing(told_why.get("message", f"it ended with {line}"))
    return read_json(place.worktree / paths.EVALUATE_CHAMPION / paths.EVALUATION, Evaluation)
