"""What the findings of a run suggest to try, as the candidates of a sweep."""

from dataclasses import dataclass
from pathlib import Path

from flows.git import show_file
from flows.record import read_run
from flows.run_branches import read_runs, run_revision
from flows.run_record import RunRecord
from flows.sweep import Candidate
from tasks.errors import NothingSuggested, RunNotFound
from tasks.findings import Mode
from tasks.params_changes import with_values, written
from tasks.paths import PARAMS, STATE

SWEEPS = STATE / "sweeps"
"""Where the parameters of candidates lie, each under the beginning of its digest."""


@dataclass(frozen=True)
class Suggestion:
    """A candidate, and the failure modes that it is to mend; none for the run as it was."""

    candidate: Candidate
    modes: tuple[Mode, ...]


def run_to_mend(root: Path, wanted: str | None) -> RunRecord:
    """The run whose findings are taken: the one that is asked for, or the newest with a verdict.

    Candidates of sweeps do not count as the newest: the same command is to carry on with the same run.

    Raises:
        RunNotFound: there is no such run, or it has no verdict.
    """
    if wanted is not None:
        record = read_run(root, wanted)
        if record.verdict is None:
            raise RunNotFound(
                f"run {record.run_id} has no verdict: it ended as {record.status}; `tunegate audit show "
                f"{record.run_id}` says why"
            )
        return record
    judged = (record for record in read_runs(root) if record.verdict is not None)
    found = next((record for record in judged if not _is_candidate(root, record)), None)
    if found is None:
        raise RunNotFound("no run on record has a verdict yet; `tunegate run` makes one")
    return found


def _is_candidate(root: Path, record: RunRecord) -> bool:
    """Whether a sweep wrote the run's parameters and stopped it at the gate."""
    return record.until is not None and (root / SWEEPS / f"{record.params_digest[:12]}.yaml").exists()


def suggestions(root: Path, record: RunRecord, params_text: str | None) -> list[Suggestion]:
    """Every alternative of the run's findings, in their order, duplicates left out.

    A run that passed is a candidate too, as it was: what its hints suggest has to be better than that.

    Args:
        root: the repository.
        record: of the run.
        params_text: what the alternatives change; None for the run's own parameters.

    Raises:
        NothingSuggested: no finding names a change.
        RunNotFound: the run's branch has no parameters.
    """
    verdict = record.verdict
    findings = () if verdict is None else verdict.diagnosis
    alternatives = [(found.mode, changes) for found in findings for changes in found.changes]
    if not alternatives:
        raise NothingSuggested(_why_nothing(record, [found.mode for found in findings]))
    text = params_text or _own_params(root, record)
    has_passed = verdict is not None and verdict.verdict == "passed"
    made: dict[str, Suggestion] = {text: Suggestion(Candidate((), text), ())} if has_passed else {}
    for mode, changes in alternatives:
        changed = with_values(text, changes.items(), top=str(PARAMS))
        names = tuple(f"{key}={written(value)}" for key, value in changes.items())
        known = made.get(changed)
        modes = (mode,) if known is None else tuple(dict.fromkeys([*known.modes, mode]))
        made[changed] = Suggestion(Candidate(names, changed) if known is None else known.candidate, modes)
    return list(made.values())


def _own_params(root: Path, record: RunRecord) -> str:
    text = show_file(root, run_revision(root, record.run_id), PARAMS.as_posix())
    if text is None:
        raise RunNotFound(f"the branch of run {record.run_id} has no {PARAMS}; name a file with --params")
    return text


def _why_nothing(record: RunRecord, modes: list[Mode]) -> str:
    where = f"run {record.run_id}"
    if not modes:
        return f"{where} has no findings; try values of your own: tunegate sweep --set KEY=VALUE,VALUE"
    if set(modes) == {"unclassified"}:
        return f"{where} was recorded before findings named changes; run again (`tunegate run`), or use --set"
    return (
        f"{where} has findings ({', '.join(dict.fromkeys(modes))}), and none that a parameter would cure; "
        f"`tunegate gate explain {record.run_id}` says what would, or try values of your own with --set"
    )
