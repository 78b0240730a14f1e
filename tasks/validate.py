"""Stage `validate`: data/split/, the summaries, tasks/expectations/examples.json -> data/validate/.

Writes validation.json, docs/ (Data Docs) and approval.json. The one owner of Great
Expectations: the partitions become one flat data frame, the suite is data, and a failed expectation refuses the data.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.exceptions import GreatExpectationsError

from tasks import paths
from tasks.approvals import Approval, write_approval
from tasks.clean_rules import role_order, secret, special_token
from tasks.digests import digest_file, digest_path
from tasks.entry import run_stage
from tasks.errors import DataRefused, FileInvalid
from tasks.files import read_json, whole, write_json
from tasks.near_duplicates import normalised
from tasks.params import CleanParams, Params, load_params
from tasks.records import DataSummary, Example, ExpectationResult, Partition, Validation
from tasks.split import FILES, PARTITIONS
from tasks.tables import read_examples

SUMMARIES = tuple(folder / paths.SUMMARY for folder in (paths.INGEST, paths.CLEAN, paths.DEDUP, paths.SPLIT))
NO_TIME = RunIdentifier(run_name="data", run_time=datetime(2000, 1, 1, tzinfo=UTC))
"""Data Docs carry the time of the run; a fixed one makes the same data give the same pages."""
TIME = re.compile(r"\d{8}T\d{6}\.\d+Z")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LOGO = re.compile(r'src="https://great-expectations-web-assets[^"]*"')
NOT_LOST = frozenset({"replay_not_needed"})
"""Rules that set good rows aside on purpose: they do not count against `max_dropped_share`."""
DTYPES = {
    **dict.fromkeys(("id", "partition", "source", "role", "prompt", "completion"), "str"),
    **dict.fromkeys(("n_messages", "prompt_chars", "completion_chars"), "int64"),
    **dict.fromkeys(("role_order_ok", "has_special_token", "has_secret", "prompt_in_other_partition"), "bool"),
    "train_id": "str",
    "dropped_share": "float64",
}


def main() -> None:
    """Validate the partitions; write the evidence and the decision, then refuse if it must be.

    Raises:
        DataRefused: an expectation of the suite failed.
    """
    params = load_params()
    partitions = {partition: read_examples(FILES[partition]) for partition in PARTITIONS}
    share = dropped_share([read_json(path, DataSummary) for path in SUMMARIES])
    frame = build_frame(partitions, params.clean, share)
    validation = validate(frame, read_suite(paths.SUITE), thresholds(params), paths.DATA_DOCS)
    write_json(paths.VALIDATION, validation)
    write_approval(paths.DATA_APPROVAL, decide(validation))
    failures = [result for result in validation.results if not result.success]
    print(f"validate: {len(frame):,} examples, {len(validation.results)} expectations, {len(failures)} failed")
    if failures:
        raise DataRefused(refusal(failures))


def build_frame(partitions: Mapping[Partition, Sequence[Example]], params: CleanParams, share: float) -> pd.DataFrame:
    """One row for every example, with the columns of `DTYPES`; `share` of dropped rows stands in every row."""
    places: dict[str, set[str]] = {}
    for partition, examples in partitions.items():
        for example in examples:
            places.setdefault(normalised(example.prompt), set()).add(partition)
    rows = [
        {
            **_columns(example, params),
            "partition": partition,
            "dropped_share": share,
            "prompt_in_other_partition": len(places[normalised(example.prompt)]) > 1,
            "train_id": example.id if partition == "train" else None,
        }
        for partition, examples in partitions.items()
        for example in examples
    ]
    return pd.DataFrame(rows, columns=list(DTYPES)).astype(DTYPES)


def dropped_share(summaries: Sequence[DataSummary]) -> float:
    """The share of ingested rows that some stage dropped because something was wrong with them.

    Raises:
        FileInvalid: the first summary, that of `ingest`, counts no rows.
    """
    rows_in = summaries[0].rows_in
    if not rows_in:
        raise FileInvalid(f"{SUMMARIES[0]}: no rows in; run `dvc repro ingest`")
    dropped = sum(count for summary in summaries for rule, count in summary.dropped.items() if rule not in NOT_LOST)
    return dropped / rows_in


def thresholds(params: Params) -> dict[str, float]:
    """The suite's parameters, by the names that its `$PARAMETER` entries have."""
    return {
        "min_train_examples": params.validate_.min_train_examples,
        "max_dropped_share": params.validate_.max_dropped_share,
        "min_prompt_chars": params.clean.min_prompt_chars,
        "max_prompt_chars": params.clean.max_prompt_chars,
        "max_completion_chars": params.clean.max_completion_chars,
    }


def read_suite(path: Path) -> Any:
    """The expectation suite in `path`, a gx.ExpectationSuite.

    Raises:
        FileInvalid: it is missing, no suite, or expects nothing.
    """
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)  # what it logs, we raise
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        suite = gx.ExpectationSuite(**written)
    except FileNotFoundError:
        raise FileInvalid(f"{path}: no such file; restore the expectation suite from git") from None
    except (ValueError, TypeError, GreatExpectationsError) as error:
        raise FileInvalid(f"{path}: not an expectation suite: {error}; restore it from git") from None
    if not suite.expectations and not written.get("expectations"):
        raise FileInvalid(f"{path}: expects nothing, which would approve anything; restore it from git")
    understood = {expectation.expectation_type for expectation in suite.expectations}
    lost = [item.get("type") for item in written["expectations"] if item.get("type") not in understood]
    if lost or len(suite.expectations) != len(
        written["expectations"]
    ):  # Great Expectations drops these with a log line
        raise FileInvalid(
            f"{path}: {len(written['expectations'])} expectations written, {len(suite.expectations)} understood; "
            f"check type and arguments of {', '.join(map(str, lost)) or 'those that were changed last'}"
        )
    return suite


def validate(frame: pd.DataFrame, suite: Any, parameters: Mapping[str, float], docs: Path | None = None) -> Validation:
    """Run `suite` over `frame`; the condensed result has no time in it. Data Docs go to `docs`."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    suite = context.suites.add(suite)
    asset = context.data_sources.add_pandas("split").add_dataframe_asset("partitions")
    definition = gx.ValidationDefinition(
        name="data", data=asset.add_batch_definition_whole_dataframe("all"), suite=suite
    )
    definition = context.validation_definitions.add(definition)
    gx_checkpoint = gx.Checkpoint(
        name="data", validation_definitions=[definition], result_format={"result_format": "SUMMARY"}
    )
    outcome = context.checkpoints.add(gx_checkpoint).run(
        batch_parameters={"dataframe": frame}, expectation_parameters=dict(parameters), run_id=NO_TIME
    )
    if docs is not None:
        _write_docs(context, docs)
    results = tuple(_condensed(result) for run in outcome.run_results.values() for result in run.results)
    return Validation(suite=suite.name, success=all(result.success for result in results), results=results)


def decide(validation: Validation) -> Approval:
    """The approval, or refusal, of the partitions as they lie in data/split."""
    return Approval(
        subject="data",
        digest=digest_path(paths.SPLIT),
        evidence={"validation": digest_file(paths.VALIDATION)},
        approved_by=f"expectation suite {validation.suite}",
        decision="approved" if validation.success else "refused",
    )


def refusal(failures: Sequence[ExpectationResult]) -> str:
    """Every failed expectation with what was observed, and the next move."""
    lines = [f"  {result.subject}: {result.expectation}; observed {result.observed}" for result in failures]
    advice = f"mend the sources or the rules of `clean`; the failing rows are shown in {paths.DATA_DOCS / 'index.html'}"
    return "\n".join([f"the data breaks {len(failures)} expectation(s):", *lines, advice])


def _columns(example: Example, params: CleanParams) -> dict[str, Any]:
    return {
        "id": example.id,
        "source": example.source,
        "role": example.role,
        "n_messages": len(example.messages),
        "prompt": example.prompt,
        "completion": example.completion,
        "prompt_chars": len(example.prompt),
        "completion_chars": len(example.completion),
        "role_order_ok": role_order(example, params) is None,
        "has_special_token": special_token(example, params) is not None,
        "has_secret": secret(example, params) is not None,
    }


def _condensed(result: Any) -> ExpectationResult:
    config = result.expectation_config
    shown = {key: value for key, value in config.kwargs.items() if key not in {"column", "batch_id"}}
    details = ", ".join(f"{key}={value}" for key, value in sorted(shown.items()))
    return ExpectationResult(
        expectation=f"{config.type}({details})",
        subject=config.kwargs.get("column", "table"),
        success=result.success is True,
        observed=_observed(result.result),
    )


def _observed(found: Mapping[str, Any]) -> str:
    if "unexpected_count" in found:
        return (
            f"{found['unexpected_count']} of {found['element_count']} unexpected, {found.get('missing_count', 0)} null"
        )
    if "observed_value" in found:
        return str(found["observed_value"])
    return "nothing: it could not be evaluated"


def _write_docs(context: Any, folder: Path) -> None:
    with whole(folder) as partial:
        store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(partial.absolute())}
        site = {"class_name": "SiteBuilder", "store_backend": store}
        context.add_data_docs_site("docs", {**site, "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"}})
        context.build_data_docs(site_names=["docs"])
        for page in sorted(partial.rglob("*.html")):
            page.write_text(steady(page.read_text(encoding="utf-8")), encoding="utf-8")


def steady(page: str) -> str:
    """A page of Data Docs without what changes from run to run: the time, random ids, the logo that is fetched."""
    ids: dict[str, str] = {}
    page = LOGO.sub('src=""', TIME.sub("20000101T000000.000000Z", page))
    return UUID.sub(lambda found: ids.setdefault(found[0], f"id-{len(ids)}"), page)


if __name__ == "__main__":
    run_stage(main)
