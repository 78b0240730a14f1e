"""Which number of the version a release raises, by what became other since the release before.

Major: another base model, or a benchmark of the release before that is gone or asks other things; its scores say
nothing about the new ones. Minor: a gain over the champion is proved on a metric that the gate asks a gain of. Patch:
all else.
"""

from pathlib import Path
from typing import Literal

from flows.git import show_file
from flows.record import BASE_RECORD
from tasks import paths
from tasks.files import parse_json, read_json
from tasks.records import BaseRecord, Evaluation, Fingerprint
from tasks.verdict_records import Verdict

Change = Literal["major", "minor", "patch"]


def change_since(root: Path, commit: str, run_folder: str, place: Path) -> tuple[Change, str]:
    """What became other between the release whose record lies in `run_folder` of `commit` and the run at `place`.

    Returns:
        Which number to raise, and why in words.
    """
    base = read_json(place / paths.BASE_RECORD, BaseRecord)
    before_base = show_file(root, commit, f"{run_folder}/{BASE_RECORD}")
    if before_base is None:
        return "major", "the base model of the release before is not on record"
    if parse_json(before_base, BaseRecord, f"{commit[:12]}:{BASE_RECORD}").digest != base.digest:
        return "major", "another base model"
    before_scores = show_file(root, commit, f"{run_folder}/candidate.json")
    if before_scores is None:
        return "major", "the benchmarks of the release before are not on record"
    before = parse_json(before_scores, Evaluation, f"{commit[:12]}:candidate.json")
    changed = changed_benchmarks(before, read_json(place / paths.EVALUATE_CANDIDATE / paths.EVALUATION, Evaluation))
    if changed:
        return "major", f"another definition of {', '.join(changed)}"
    gained = proved_gains(read_json(place / paths.VERDICT, Verdict))
    return ("minor", f"a proved gain in {', '.join(gained)}") if gained else ("patch", "no gain is proved")


def changed_benchmarks(before: Evaluation, after: Evaluation) -> list[str]:
    """The benchmarks of `before` that are gone, or ask other things, in `after`; a new one changes no old promise."""
    asked = {item.benchmark: _asked(item) for item in after.fingerprints}
    return [item.benchmark for item in before.fingerprints if asked.get(item.benchmark) != _asked(item)]


def _asked(item: Fingerprint) -> tuple[object, ...]:
    """What a benchmark asks; the settings that it is computed with are left out."""
    return item.definition_digest, item.data_digest, item.num_fewshot, item.limit


def proved_gains(verdict: Verdict) -> list[str]:
    """The target metrics on which the candidate beats the champion: the interval of the difference is above zero.

    A target is a metric that a rule asks a gain over the base of. Where the gate itself has proved a gain over the
    champion (`gate.tie: champion`), that metric counts too.
    """
    targets = {f"{item.benchmark} {item.metric}" for item in verdict.results if item.condition == "min_gain_over_base"}
    gained = {
        name
        for name in targets
        for comparison in verdict.comparisons.get(name, ())
        if comparison.other == "champion" and comparison.low > 0
    }
    gained |= {
        f"{item.benchmark} {item.metric}"
        for item in verdict.results
        if item.condition == "gain_over_champion" and item.passed
    }
    return sorted(gained)
