"""Expectation suites run over a table in SQLite: the one owner of Great Expectations.

A suite is a JSON file in the repository; `$PARAMETER` entries are filled in from params.yaml. What comes out is a
condensed result without a time in it, and Data Docs, which are the same for the same data.
"""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import great_expectations as gx
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.exceptions import GreatExpectationsError

from tasks.data_docs import settle
from tasks.errors import FileInvalid
from tasks.files import whole
from tasks.records import ExpectationResult, Validation

NO_TIME = RunIdentifier(run_name="data", run_time=datetime(2000, 1, 1, tzinfo=UTC))
"""Data Docs carry the time of the run; a fixed one makes the same data give the same pages."""
MAX_ROWS = 20
PLACE = ("id", "place", "partition")
SHARE_OF_FLAGS = "expect_column_mean_to_be_between"
"""Its column is a flag, and the rows that broke it are those where the flag is set."""
Flagged = Callable[[str, int], list[dict[str, Any]]]


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


class Checks:
    """Suites that are run one after the other, and Data Docs of them all."""

    def __init__(self) -> None:
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False)

    def run(
        self,
        suite: Any,
        database: Path,
        table: str,
        parameters: Mapping[str, float | list[str] | None],
        *,
        flagged: Flagged | None = None,
    ) -> Validation:
        """Run `suite` over a table; the condensed result names the first rows that broke each expectation.

        Args:
            suite: of `read_suite`.
            database: the SQLite file.
            table: its table, which has the columns of `PLACE` when `flagged` is given.
            parameters: the suite's `$PARAMETER` values by name.
            flagged: finds the first rows whose flag in a column is set; without it no rows are named.
        """
        suite = self._context.suites.add(suite)
        source = self._context.data_sources.add_sqlite(table, connection_string=f"sqlite:///{database}")
        asset = source.add_table_asset(table, table_name=table)
        definition = gx.ValidationDefinition(
            name=suite.name, data=asset.add_batch_definition_whole_table("all"), suite=suite
        )
        definition = self._context.validation_definitions.add(definition)
        form: dict[str, Any] = {"result_format": "SUMMARY", "partial_unexpected_count": MAX_ROWS}
        if flagged:
            form["unexpected_index_column_names"] = list(PLACE)
        gx_checkpoint = gx.Checkpoint(name=suite.name, validation_definitions=[definition], result_format=form)
        outcome = self._context.checkpoints.add(gx_checkpoint).run(
            expectation_parameters=dict(parameters), run_id=NO_TIME
        )
        results = tuple(condensed(result, flagged) for run in outcome.run_results.values() for result in run.results)
        return Validation(suite=suite.name, success=all(result.success for result in results), results=results)

    def write_docs(self, folder: Path) -> None:
        """Data Docs of everything that was run."""
        with whole(folder) as partial:
            store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(partial.absolute())}
            site = {
                "class_name": "SiteBuilder",
                "store_backend": store,
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            }
            self._context.add_data_docs_site("docs", site)
            self._context.build_data_docs(site_names=["docs"])
            settle(partial)


def condensed(result: Any, flagged: Flagged | None) -> ExpectationResult:
    """One result without times and ids, with the first rows that broke the expectation."""
    config = result.expectation_config
    shown = {key: value for key, value in config.kwargs.items() if key not in {"column", "batch_id"}}
    details = ", ".join(f"{key}={value}" for key, value in sorted(shown.items()))
    success = result.success is True
    return ExpectationResult(
        expectation=f"{config.type}({details})",
        subject=config.kwargs.get("column", "table"),
        success=success,
        observed=_observed(result.result),
        rows=() if success or flagged is None else _rows(result, flagged),
    )


def _rows(result: Any, flagged: Flagged) -> tuple[str, ...]:
    found = result.result.get("partial_unexpected_index_list")
    config = result.expectation_config
    if found is None and config.type == SHARE_OF_FLAGS:
        found = flagged(config.kwargs["column"], MAX_ROWS)
    return tuple(" ".join(str(row.get(name)) for name in PLACE) for row in (found or ())[:MAX_ROWS])


def _observed(found: Mapping[str, Any]) -> str:
    if "unexpected_count" in found:
        return (
            f"{found['unexpected_count']} of {found['element_count']} unexpected, {found.get('missing_count', 0)} null"
        )
    if "observed_value" in found:
        return _rounded(found["observed_value"])
    return "nothing: it could not be evaluated"


def _rounded(value: object) -> str:
    """A share or an index to four digits; a count is whole."""
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 10_000 else str(value)
