"""Stage `validate`: data/split/, the summaries, the champion, tasks/expectations/ -> data/validate/.

Writes validation.json, docs/ (Data Docs), profile.json, drift.json and approval.json. The partitions become one flat
table on the disk (`validation_parts`, `validation_table`), the suite runs over it (`validation_run`), and a failed
expectation refuses the data. Drift is judged apart (`drift`): the approval's evidence is about the data alone, so that
a new champion makes no training stale.
"""

import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from tasks import drift, paths
from tasks.approvals import Approval, write_approval
from tasks.data_profile import CompletionCounts, build_profile
from tasks.digests import digest_file, digest_path
from tasks.entry import run_stage
from tasks.errors import DataRefused, FileInvalid
from tasks.files import read_json, write_json
from tasks.params import Params, load_params
from tasks.records import Champion, DataProfile, DataSummary, ExpectationResult, Partition, Validation
from tasks.validation_parts import derive_all
from tasks.validation_table import TABLE, count_by, filling, flagged_rows

if TYPE_CHECKING:
    from tasks.validation_run import Checks

FILES: dict[Partition, Path] = {
    "train": paths.TRAIN_EXAMPLES,
    "validation": paths.VALIDATION_EXAMPLES,
    "test": paths.TEST_EXAMPLES,
}
SUMMARIES = tuple(folder / paths.SUMMARY for folder in (paths.INGEST, paths.CLEAN, paths.DEDUP, paths.SPLIT))
NOT_LOST = frozenset({"compared_only", "not_sampled", "duplicate_of_test", "replay_not_needed"})
"""Rules that set good rows aside on purpose: they do not count against `max_dropped_share`."""
TOLD_ROWS = 5


def main() -> None:
    """Validate the partitions; write the evidence and the decision, then refuse if it must be.

    Raises:
        DataRefused: an expectation of the suite failed, or the data has drifted too far from the champion's.
    """
    params = load_params()
    share = dropped_share([read_json(path, DataSummary) for path in SUMMARIES])
    old = read_json(paths.CHAMPION, Champion).data
    # Great Expectations takes 4 s to import: not at the top, for the processes of the pool import this module too, and
    # beside their work, for this process waits for it.
    Thread(target=import_module, args=("tasks.validation_run",), daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="tunegate-validate-") as folder:
        database = Path(folder) / "examples.sqlite"
        known = old.shares.get("completion", {}) if old else {}
        profile = fill(database, params, share, known)
        from tasks.validation_run import Checks  # noqa: PLC0415  as said above

        checks = Checks()
        validation = check_examples(checks, database, params)
        drifted = check_drift(checks, Path(folder) / "drift.sqlite", profile, old, params.validate_.max_drift)
        checks.write_docs(paths.DATA_DOCS)
    write_json(paths.DATA_PROFILE, profile)
    write_json(paths.VALIDATION, validation)
    write_json(paths.DRIFT, drifted)
    write_approval(paths.DATA_APPROVAL, decide(validation, drifted))
    print(outcome(profile, validation, drifted))
    if not (validation.success and drifted.success):
        raise DataRefused(refusal(validation, drifted))


def fill(database: Path, params: Params, share: float, known: Collection[str]) -> DataProfile:
    """Fill the flat table in `database`, batch by batch; what comes back is the data set's profile.

    Args:
        database: a new file.
        params: all of them.
        share: of `dropped_share`.
        known: the completions that the champion's profile has shares of.
    """
    completions = CompletionCounts()
    files = {partition: path.absolute() for partition, path in FILES.items()}  # workers of a cluster start elsewhere
    derived = derive_all(files, params.clean, params.sources, paths.BASE_TOKENIZER.absolute(), params.engine)
    with filling(database, share) as table:
        for part in derived:
            table.write(part.rows)
            completions.add(part.completions)
    rows = count_by(database, "partition")
    sources, tokens = (count_by(database, column) for column in ("source", "tokens"))
    return build_profile({partition: rows[partition] for partition in FILES}, sources, tokens, completions, known)


def check_examples(checks: "Checks", database: Path, params: Params) -> Validation:
    """Run the suite of the examples over the table in `database`."""
    from tasks.validation_run import read_suite  # noqa: PLC0415  as `main` says

    flagged = partial(flagged_rows, database)
    return checks.run(read_suite(paths.SUITE), database, TABLE, thresholds(params), flagged=flagged)


def check_drift(
    checks: "Checks", database: Path, new: DataProfile, old: DataProfile | None, max_drift: float
) -> Validation:
    """Compare with the data of the champion's run; without a champion there is nothing to expect, and it passes.

    Args:
        checks: runs the suite.
        database: a new file for the indices.
        new: the profile of this data.
        old: that of the champion's data, or None.
        max_drift: the bound on the population stability index of every column.
    """
    from tasks.validation_run import read_suite  # noqa: PLC0415  as `main` says

    suite = read_suite(paths.DRIFT_SUITE)
    if old is None:
        return Validation(suite=suite.name, success=True, results=())
    drift.write_table(database, drift.compare(new, old))
    found = checks.run(suite, database, drift.TABLE, {"max_drift": max_drift})
    left_out = drift.not_compared(new, old)
    results = []
    for result in found.results:
        if result.subject in left_out:
            results.append(result.model_copy(update={"observed": drift.TOO_FEW_ROWS}))
        elif result.success:
            results.append(result)
        else:
            results.append(result.model_copy(update={"rows": drift.moved_most(new, old, result.subject)}))
    return found.model_copy(update={"results": tuple(results)})


def dropped_share(summaries: Sequence[DataSummary]) -> float:
    """The share that some stage dropped because something was wrong with them, of the rows not set aside on purpose.

    Raises:
        FileInvalid: the first summary, that of `ingest`, counts no rows.
    """
    rows_in = summaries[0].rows_in
    if not rows_in:
        raise FileInvalid(f"{SUMMARIES[0]}: no rows in; run `dvc repro ingest`")
    dropped = Counter[str]()
    for summary in summaries:
        dropped.update(summary.dropped)
    set_aside = sum(count for rule, count in dropped.items() if rule in NOT_LOST)
    return (dropped.total() - set_aside) / max(rows_in - set_aside, 1)


def thresholds(params: Params) -> dict[str, float | list[str] | None]:
    """The suite's parameters, by the names that its `$PARAMETER` entries have; None leaves a side open."""
    return {
        "min_train_examples": params.validate_.min_train_examples,
        "min_validation_examples": params.validate_.min_validation_examples,
        "min_test_examples": params.validate_.min_test_examples,
        "max_dropped_share": params.validate_.max_dropped_share,
        "max_duplicate_share": params.validate_.max_duplicate_share,
        "max_pii_share": params.validate_.max_pii_share,
        "min_prompt_chars": params.clean.min_prompt_chars or 0,
        "max_prompt_chars": params.clean.max_prompt_chars,
        "min_completion_chars": params.clean.min_completion_chars or 0,
        "max_completion_chars": params.clean.max_completion_chars,
        "max_tokens": params.clean.max_tokens,
        "source_names": sorted(source.name for source in params.sources),
    }


def decide(validation: Validation, drifted: Validation) -> Approval:
    """The approval, or refusal, of the partitions as they lie in data/split.

    Its evidence is what was expected of the data and what was found in it, without the champion: of another champion's
    drift only the decision can change.
    """
    return Approval(
        subject="data",
        digest=digest_path(paths.SPLIT),
        evidence={"suite": digest_file(paths.SUITE), "validation": digest_file(paths.VALIDATION)},
        approved_by=f"expectation suite {validation.suite}",
        decision="approved" if validation.success and drifted.success else "refused",
    )


def outcome(profile: DataProfile, validation: Validation, drifted: Validation) -> str:
    """The stage's lines on the terminal."""
    failed, moved = len(_failures(validation)), len(_failures(drifted))
    compared = [f"{result.subject} {result.observed}" for result in drifted.results if result.subject in drift.COLUMNS]
    return (
        f"validate: {sum(profile.rows.values()):,} examples, {len(validation.results)} expectations, {failed} failed\n"
        f"validate: drift from the champion's data: {', '.join(compared) or 'no champion with a data profile yet'}"
        + (f"; {moved} of {len(drifted.results)} expectations failed" if moved else "")
    )


def refusal(validation: Validation, drifted: Validation) -> str:
    """Every failed expectation with what was observed and the first rows that broke it, and the next move."""
    failures, moved = [*_failures(validation), *_failures(drifted)], len(_failures(drifted))
    of_drift = f", {moved} of them on drift from the champion's data" if moved else ""
    lines = [line for result in failures for line in _told(result)]
    advice = (
        "mend the sources or the rules of `clean`, or widen the bound in params.yaml; "
        f"{paths.VALIDATION.name} and {paths.DRIFT.name} name more rows, the Data Docs show everything"
    )
    many = "" if len(failures) == 1 else "s"
    return "\n".join([f"the data breaks {len(failures)} expectation{many}{of_drift}:", *lines, advice])


def _failures(validation: Validation) -> list[ExpectationResult]:
    return [result for result in validation.results if not result.success]


def _told(result: ExpectationResult) -> list[str]:
    lines = [f"  {result.subject}: {result.expectation}; observed {result.observed}"]
    return [*lines, *(f"    {row}" for row in result.rows[:TOLD_ROWS])]


if __name__ == "__main__":
    run_stage(main)
