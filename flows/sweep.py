"""Candidates of a sweep, each an ordinary run until the gate; and the choice among them, by the gate's own rules.

A run is known by the tree that it started from (code, parameters, tracked data) and by the release that it was compared
with. So no candidate is trained twice, and a sweep that was stopped carries on with the same command.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from pydantic import JsonValue

from flows import registry, workspace
from flows.gate_story import replay
from flows.git import git, show_file
from flows.run_branches import read_runs, run_revision
from flows.run_record import RunRecord, ScoreLine
from tasks import paths
from tasks.digests import digest_text
from tasks.errors import ParamsInvalid, TunegateError, WorkspaceInvalid
from tasks.files import parse_json
from tasks.params import Params
from tasks.params_changes import with_values, written
from tasks.records import Champion
from tasks.verdict_records import Outcome, Verdict

JUDGED = frozenset({"reached", "passed", "refused", "inconclusive"})
"""How a run ends whose gate came to a verdict."""


@dataclass(frozen=True)
class Candidate:
    """One combination of values: `changes` as they are written (`lora.r=8`), `text` its whole params.yaml."""

    changes: tuple[str, ...]
    text: str

    @property
    def name(self) -> str:
        """The changes in one line."""
        return ", ".join(self.changes) or "as it is"

    @property
    def file_name(self) -> str:
        """A name for its params.yaml that no other candidate has."""
        return f"{digest_text(self.text)[:12]}.yaml"


@dataclass(frozen=True)
class Judged:
    """A candidate and what its run came to; `record` is None while it has none.

    `adjusted` is the outcome at the confidence that accounts for all candidates of the sweep.
    """

    candidate: Candidate
    record: RunRecord | None
    adjusted: Outcome | None
    gain: float | None


def combinations(text: str, settings: Sequence[str]) -> list[Candidate]:
    """Every combination of the values that `settings` name, in order, duplicates left out.

    Args:
        text: of params.yaml; its comments stay.
        settings: in Hydra's grammar, as `dvc exp run --set-param` takes them: `lora.r=8,16`, `train.seed=range(1,4)`.

    Raises:
        ParamsInvalid: a setting does not parse, or names a key that the file does not have.
    """
    choices = [[(key, value) for value in values] for key, values in map(_parsed, settings)]
    found: dict[str, Candidate] = {}
    for chosen in itertools.product(*choices):
        changed = with_values(text, chosen, top=str(paths.PARAMS))
        changes = tuple(f"{key}={written(value)}" for key, value in chosen)
        found.setdefault(changed, Candidate(changes, changed))
    return list(found.values())


def _parsed(setting: str) -> tuple[str, list[JsonValue]]:
    try:
        override: Override = OverridesParser.create().parse_override(setting)
    except HydraException as error:
        raise ParamsInvalid(
            f"--set {setting}: {str(error).splitlines()[0]}; expected KEY=VALUE or KEY=VALUE,VALUE, such as lora.r=8,16"
        ) from None
    values: list[Any] = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
    return override.key_or_group, values


def on_record(root: Path, params: Params, candidates: Sequence[Candidate]) -> list[RunRecord | None]:
    """For every candidate the newest run on record that the gate judged; None for one that is still to run.

    A run is a candidate's when it started from the same tree with these parameters, and was compared with the release
    that holds production now.
    """
    champion = registry.champion(root, params.release.name, params.release.stage)[0].release
    judged: dict[str | None, RunRecord] = {}
    for record in read_runs(root):  # the newest first
        if record.verdict is not None and record.status in JUDGED and compared_with(root, record) == champion:
            judged.setdefault(_tree(root, record.snapshot_commit), record)
    return [judged.get(_tree(root, workspace.snapshot(root, "sweep", one.text)[0])) for one in candidates]


def _tree(root: Path, commit: str) -> str | None:
    """The tree of a commit; None where the repository no longer has it."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}")
    except WorkspaceInvalid:
        return None


def compared_with(root: Path, record: RunRecord) -> str | None:
    """The release that held production when the run was judged."""
    kept = show_file(root, run_revision(root, record.run_id), paths.CHAMPION.as_posix())
    return None if kept is None else parse_json(kept, Champion, f"{record.run_id}:{paths.CHAMPION}").release


def judge_all(root: Path, params: Params, candidates: Sequence[Candidate]) -> list[Judged]:
    """What is known of every candidate, with verdicts that account for how many there are."""
    settings = [f"confidence={adjusted_confidence(params.gate.confidence, len(candidates))!r}"]
    return [
        Judged(candidate, record, *(_adjusted(root, params, record, settings) if record else (None, None)))
        for candidate, record in zip(candidates, on_record(root, params, candidates), strict=True)
    ]


def adjusted_confidence(confidence: float, count: int) -> float:
    """The confidence for each of `count` candidates so that all together are wrong as seldom as one (Bonferroni)."""
    return 1.0 - (1.0 - confidence) / count


def _adjusted(
    root: Path, params: Params, record: RunRecord, settings: list[str]
) -> tuple[Outcome | None, float | None]:
    try:
        verdict = replay(root, record, settings)
    except TunegateError:
        return None, None
    return verdict.verdict, gain_on_target(params, verdict)


def gain_on_target(params: Params, verdict: Verdict) -> float | None:
    """The mean gain over the base on what is to improve: the rules of benchmarks with the role `target`."""
    targets = {benchmark.name for benchmark in params.evaluate.benchmarks if benchmark.role == "target"}
    gains = [
        comparison.difference
        for rule in params.gate.rules
        if rule.benchmark in targets
        for comparison in verdict.comparisons.get(f"{rule.benchmark} {rule.metric}", ())
        if comparison.other == "base"
    ]
    return sum(gains) / len(gains) if gains else None


def choose(judged: Sequence[Judged]) -> Judged | None:
    """Of the candidates that pass with all of them accounted for, the one that gained most; None when none passes."""
    passed = [one for one in judged if one.adjusted == "passed" and one.gain is not None]
    return max(passed, key=lambda one: one.gain or 0.0, default=None)


def shown_scores(params: Params, record: RunRecord) -> Iterator[ScoreLine | None]:
    """The candidate's score for each of the gate's rules, in their order; None where there is none."""
    found = {(score.benchmark, score.metric): score for score in record.scores if score.model == "candidate"}
    for rule in params.gate.rules:
        yield found.get((rule.benchmark, rule.metric))
