import math
import sqlite3
from pathlib import Path

import pytest

from tasks import validate
from tasks.drift import compare, moved_most, stability_index, write_table
from tasks.records import DataProfile
from tasks.validation_run import Checks

ROOT = Path(__file__).parents[2]


def profile(**shares: dict[str, float]) -> DataProfile:
    return DataProfile(rows={"train": 100, "validation": 10, "test": 10}, shares=shares)


def test_the_same_shares_have_not_moved() -> None:
    assert stability_index({"a": 0.3, "b": 0.7}, {"b": 0.7, "a": 0.3}) == 0.0


def test_the_index_is_the_sum_of_differences_times_log_ratios() -> None:
    expected = (0.5 - 0.4) * math.log(0.5 / 0.4) + (0.5 - 0.6) * math.log(0.5 / 0.6)
    assert stability_index({"a": 0.5, "b": 0.5}, {"a": 0.4, "b": 0.6}) == round(expected, 6) == 0.040547


def test_the_index_is_the_same_both_ways() -> None:
    new, old = {"a": 0.9, "b": 0.1}, {"a": 0.2, "c": 0.8}
    assert stability_index(new, old) == stability_index(old, new) == 6.849771


def test_a_value_that_is_new_counts_as_one_in_a_thousand_before() -> None:
    assert stability_index({"a": 0.95, "b": 0.05}, {"a": 1.0}) == round(
        -0.05 * math.log(0.95) + 0.049 * math.log(50), 6
    )


def test_a_column_that_is_profiled_in_neither_has_not_moved_and_in_one_alone_has() -> None:
    old, new = profile(source={"a": 1.0}, tokens={"1-1": 1.0}), profile(source={"a": 1.0}, tokens={"1-1": 1.0})
    assert compare(new, old) == {"source": 0.0, "completion": 0.0, "tokens": 0.0}
    labelled = profile(source={"a": 1.0}, tokens={"1-1": 1.0}, completion={"yes": 1.0})
    assert compare(labelled, old)["completion"] == compare(old, labelled)["completion"] > 10


def test_the_values_that_moved_most_are_told_with_both_shares() -> None:
    new, old = profile(source={"a": 0.9, "b": 0.1}), profile(source={"a": 0.95, "b": 0.03, "c": 0.02})
    assert moved_most(new, old, "source", 2) == (
        "b: 3.0% of the champion's rows, 10.0% of these",
        "a: 95.0% of the champion's rows, 90.0% of these",
    )


@pytest.fixture(scope="module")
def checks() -> Checks:
    return Checks()


@pytest.mark.parametrize(("bound", "success"), [(0.040547, True), (0.040546, False)])
def test_the_bound_itself_passes_and_less_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: float, *, success: bool
) -> None:
    monkeypatch.chdir(ROOT)
    new, old = profile(source={"a": 0.5, "b": 0.5}), profile(source={"a": 0.4, "b": 0.6})
    found = validate.check_drift(Checks(), tmp_path / "drift.sqlite", new, old, bound)
    assert found.success is success
    (result,) = [result for result in found.results if result.subject == "source"]
    assert (result.observed, result.success) == ("0.04055", success)
    assert len(result.rows) == (0 if success else 2)


@pytest.mark.parametrize("which", ["new", "old", "both"])
def test_a_column_with_too_few_rows_is_said_to_be_so_and_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.chdir(ROOT)
    labelled = profile(source={"a": 1.0}, completion={"yes": 0.5, "no": 0.5})
    small = DataProfile(rows={"train": 9}, shares={"source": {"a": 1.0}}, too_few_rows=("completion",))
    new, old = {"new": (small, labelled), "old": (labelled, small), "both": (small, small)}[which]
    found = validate.check_drift(Checks(), tmp_path / "drift.sqlite", new, old, 0.25)
    assert found.success
    (result,) = [result for result in found.results if result.subject == "completion"]
    assert (result.observed, result.rows) == ("too few rows to compare", ())


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_an_index_that_is_no_number_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float | None
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("tasks.drift.compare", lambda _new, _old: {"source": value, "completion": 0.0, "tokens": 0.0})
    found = validate.check_drift(Checks(), tmp_path / "drift.sqlite", profile(), profile(), 0.25)
    assert [result.subject for result in found.results if not result.success] == ["source"]


def test_the_table_holds_one_row(tmp_path: Path) -> None:
    write_table(tmp_path / "x.sqlite", {"source": 0.1, "tokens": 0.2})
    rows = sqlite3.connect(tmp_path / "x.sqlite").execute("SELECT source, completion, tokens FROM drift").fetchall()
    assert rows == [(0.1, None, 0.2)]
