"""Two runs side by side: outcome, code, parameters, data, environment, scores; what differs, and what does not."""

from collections.abc import Mapping
from pathlib import Path

from flows.git import git
from flows.run_record import Model, RunRecord, ScoreLine
from flows.wording import named_values
from tasks.errors import WorkspaceInvalid
from tasks.records import Record


class Difference(Record):
    """One value that differs; None where a run does not have it."""

    name: str
    a: str | None
    b: str | None


class Section(Record):
    """One kind of facts: the values that differ, and the names of those that are the same."""

    name: str
    differences: tuple[Difference, ...]
    same: tuple[str, ...]


class ScoreDifference(Record):
    """One metric of one model in both runs; `change` is B minus A.

    `intervals_meet` says whether the intervals overlap: then the difference alone says little. The gate's paired
    comparison is the proof; two intervals are none.
    """

    benchmark: str
    metric: str
    model: Model
    a: ScoreLine | None
    b: ScoreLine | None
    change: float | None
    intervals_meet: bool | None


class RunDiff(Record):
    """Everything that two records tell of each other.

    `files` are the files of the repository that differ between the commits that ran; `notes` say what could not be
    compared.
    """

    a: str
    b: str
    sections: tuple[Section, ...]
    scores: tuple[ScoreDifference, ...]
    files: tuple[str, ...]
    notes: tuple[str, ...]


def diff_runs(root: Path, a: RunRecord, b: RunRecord) -> RunDiff:
    """What differs between two runs, from their records and git."""
    sides = [_facts(record) for record in (a, b)]
    sections = tuple(_section(name, sides[0][name], sides[1][name]) for name in sides[0])
    try:
        files = tuple(git(root, "diff", "--name-only", a.snapshot_commit, b.snapshot_commit).splitlines())
        notes: tuple[str, ...] = ()
    except WorkspaceInvalid:
        files, notes = (), ("git no longer has the commit that one of them ran from: files are not compared",)
    return RunDiff(a=a.run_id, b=b.run_id, sections=sections, scores=_scores(a, b), files=files, notes=notes)


def _facts(record: RunRecord) -> dict[str, dict[str, str]]:
    """The facts of a record by section, as names and texts."""
    return {
        "outcome": _outcome(record),
        "code": {
            "commit": record.base_commit,
            "commit that ran": record.snapshot_commit,
            "uncommitted changes": ", ".join(record.changed_files) or "none",
        },
        "parameters": named_values(record.params),
        "data and models": {
            path: digest for stage in record.stages for path, digest in stage.output_digests.items()
        },
        "environment": {**record.packages, **{f"hardware: {key}": text for key, text in record.hardware.items()}},
    }  # fmt: skip


def _outcome(record: RunRecord) -> dict[str, str]:
    return {
        "status": record.status,
        "verdict": record.verdict.verdict if record.verdict else "none",
        "release": record.release.tag if record.release else "none",
        "until": record.until or "the end",
        "trigger": record.trigger,
    }


def _section(name: str, a: Mapping[str, str], b: Mapping[str, str]) -> Section:
    names = [*a, *(other for other in b if other not in a)]
    differences = [Difference(name=key, a=a.get(key), b=b.get(key)) for key in names if a.get(key) != b.get(key)]
    return Section(
        name=name, differences=tuple(differences), same=tuple(key for key in names if a.get(key) == b.get(key))
    )


def _scores(a: RunRecord, b: RunRecord) -> tuple[ScoreDifference, ...]:
    sides = [{(line.benchmark, line.metric, line.model): line for line in record.scores} for record in (a, b)]
    return tuple(_score(key, sides[0].get(key), sides[1].get(key)) for key in dict.fromkeys([*sides[0], *sides[1]]))


def _score(key: tuple[str, str, Model], a: ScoreLine | None, b: ScoreLine | None) -> ScoreDifference:
    change = b.value - a.value if a is not None and b is not None else None
    return ScoreDifference(
        benchmark=key[0], metric=key[1], model=key[2], a=a, b=b, change=change, intervals_meet=_meet(a, b)
    )


def _meet(a: ScoreLine | None, b: ScoreLine | None) -> bool | None:
    """Whether two intervals overlap; None where one of them is not there."""
    if a is None or b is None or a.low is None or a.high is None or b.low is None or b.high is None:
        return None
    return a.low <= b.high and b.low <= a.high
