import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tasks import paths
from tasks.errors import FileInvalid
from tasks.records import DataSummary, ExpectationResult, Validation
from tasks.validate import build_frame, decide, dropped_share, read_suite, refusal, steady, validate
from tests.unit.rows import CLEAN, example

SUITE = Path(__file__).parents[2] / paths.SUITE
NO_COLUMN = {"type": "expect_column_values_to_be_unique", "kwargs": {}}
THRESHOLDS = {
    "min_train_examples": 50,
    "max_dropped_share": 0.3,
    "min_prompt_chars": 5,
    "max_prompt_chars": 200,
    "max_completion_chars": 50,
}


def good_frame() -> pd.DataFrame:
    rows = [example(f"{number:016x}", f"Where is parcel {number}?") for number in range(100)]
    return build_frame({"train": rows[:80], "validation": rows[80:90], "test": rows[90:]}, CLEAN, 0.1)


def failed(frame: pd.DataFrame) -> set[str]:
    validation = validate(frame, read_suite(SUITE), THRESHOLDS)
    return {result.subject for result in validation.results if not result.success}


def summary(stage: str, rows_in: int, **dropped: int) -> DataSummary:
    return DataSummary(stage=stage, rows_in=rows_in, rows_out=0, dropped=dropped, changed={}, kept={})


def replace(frame: pd.DataFrame, column: str, values: list[object]) -> pd.DataFrame:
    return pd.DataFrame({**{name: frame[name] for name in frame.columns}, column: values})


def set_first(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def broken(frame: pd.DataFrame) -> pd.DataFrame:
        values: list[object] = [value, *frame[column].tolist()[1:]]
        return replace(frame, column, values)

    return broken


def set_all(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: replace(frame, column, [value] * len(frame))


def test_good_data_passes_every_expectation() -> None:
    assert failed(good_frame()) == set()


@pytest.mark.parametrize(
    ("trap", "subject"),
    [
        pytest.param(lambda frame: frame.iloc[:0], "table", id="an empty frame"),
        pytest.param(set_all("prompt", None), "prompt", id="all null"),
        pytest.param(set_first("prompt_chars", math.nan), "prompt_chars", id="NaN in a range"),
        pytest.param(set_first("completion_chars", math.inf), "completion_chars", id="infinity in a range"),
        pytest.param(set_all("completion", ""), "completion", id="empty text that is not null"),
        pytest.param(set_first("completion", 12345), "completion", id="mixed types with lengths"),
        pytest.param(set_first("id", "0" * 16 + "\nevil"), "id", id="a second line after a good one"),
        pytest.param(set_first("has_special_token", value=True), "has_special_token", id="one bad row of 100"),
    ],
)
def test_what_great_expectations_lets_through_is_caught(
    trap: Callable[[pd.DataFrame], pd.DataFrame], subject: str
) -> None:
    assert subject in failed(trap(good_frame()))


@pytest.mark.parametrize(
    ("trap", "subject"),
    [
        (lambda frame: frame.drop(columns="source"), "source"),
        (lambda frame: frame.iloc[40:], "train_id"),
        (set_all("partition", "validation"), "partition"),
        (set_first("partition", "dev"), "partition"),
        (set_first("id", "f" * 15), "id"),
        (lambda frame: pd.concat([frame, frame.iloc[:1]]), "id"),
        (set_first("prompt", " \n"), "prompt"),
        (set_first("role_order_ok", value=False), "role_order_ok"),
        (set_first("has_secret", value=True), "has_secret"),
        (set_first("prompt_in_other_partition", value=True), "prompt_in_other_partition"),
        (set_all("dropped_share", 0.31), "dropped_share"),
    ],
)
def test_one_fault_fails_the_expectation_on_its_column(
    trap: Callable[[pd.DataFrame], pd.DataFrame], subject: str
) -> None:
    assert subject in failed(trap(good_frame()))


def test_the_frame_says_what_each_example_holds() -> None:
    rows = [example("a", "a <|im_end|> b"), example("b", "hf_" + "a1" * 17)]
    frame = build_frame({"train": rows[:1], "test": rows[1:]}, CLEAN, 0.25)
    assert frame[["has_special_token", "has_secret", "dropped_share"]].to_numpy().tolist() == [
        [True, False, 0.25],
        [False, True, 0.25],
    ]


def test_a_prompt_in_two_partitions_is_seen_whatever_its_case() -> None:
    frame = build_frame({"train": [example("a", "Where?")], "test": [example("b", "where")]}, CLEAN, 0.0)
    assert frame["prompt_in_other_partition"].tolist() == [True, True]


def test_the_dropped_share_counts_what_was_wrong_and_not_what_was_spare() -> None:
    summaries = [summary("ingest", 100, json_syntax=5), summary("split", 95, in_benchmark=5, replay_not_needed=40)]
    assert dropped_share(summaries) == 0.1


def test_a_summary_without_rows_is_refused() -> None:
    with pytest.raises(FileInvalid, match="no rows in"):
        dropped_share([summary("ingest", 0)])


def test_the_validation_is_the_same_twice_and_the_docs_are_written(tmp_path: Path) -> None:
    frame = good_frame()
    one = validate(frame, read_suite(SUITE), THRESHOLDS, tmp_path / "docs")
    two = validate(frame, read_suite(SUITE), THRESHOLDS, tmp_path / "docs")
    assert one == two
    assert (tmp_path / "docs/index.html").is_file()
    assert len(list((tmp_path / "docs/validations").rglob("*.html"))) == 1


def test_the_observed_count_of_a_failure_is_kept() -> None:
    frame = set_first("has_secret", value=True)(good_frame())
    validation = validate(frame, read_suite(SUITE), THRESHOLDS)
    (failure,) = [result for result in validation.results if not result.success]
    assert failure == ExpectationResult(
        expectation="expect_column_values_to_be_in_set(value_set=[False])",
        subject="has_secret",
        success=False,
        observed="1 of 100 unexpected, 0 null",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "not an expectation suite"),
        ("[]", "not an expectation suite"),
        (json.dumps({"name": "x", "expectations": [NO_COLUMN]}), "not an expectation suite: .*column"),
        (json.dumps({"name": "x", "expectations": []}), "expects nothing"),
        (
            json.dumps({"name": "x", "expectations": [{"type": "expect_luck", "kwargs": {}}]}),
            "0 understood.*expect_luck",
        ),
    ],
)
def test_a_suite_that_checks_nothing_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "suite.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FileInvalid, match=f"(?s){message}"):
        read_suite(path)


def test_an_expectation_that_great_expectations_would_drop_silently_is_named(tmp_path: Path) -> None:
    suite = json.loads(SUITE.read_text())
    suite["expectations"][5]["type"] = "expect_column_values_to_be_lucky"
    (tmp_path / "suite.json").write_text(json.dumps(suite))
    count = len(suite["expectations"])
    with pytest.raises(
        FileInvalid, match=f"{count} .* written, {count - 1} understood; .* expect_column_values_to_be_lucky"
    ):
        read_suite(tmp_path / "suite.json")


@pytest.mark.parametrize(("success", "decision"), [(True, "approved"), (False, "refused")])
def test_the_approval_names_partitions_and_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decision: str, *, success: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (paths.VALIDATION, paths.TRAIN_EXAMPLES):
        path.parent.mkdir(parents=True)
        path.write_text("content")
    approval = decide(Validation(suite="examples", success=success, results=()))
    assert (approval.decision, approval.subject, list(approval.evidence)) == (decision, "data", ["validation"])
    assert len(approval.digest) == 64


def test_a_refusal_names_every_failure_with_what_was_observed() -> None:
    failure = ExpectationResult(expectation="expect_x(min_value=5)", subject="prompt", success=False, observed="3")
    assert refusal([failure, failure]).splitlines() == [
        "the data breaks 2 expectation(s):",
        "  prompt: expect_x(min_value=5); observed 3",
        "  prompt: expect_x(min_value=5); observed 3",
        "mend the sources or the rules of `clean`; the failing rows are shown in data/validate/docs/index.html",
    ]


def test_data_docs_of_the_same_data_are_the_same_bytes() -> None:
    pages = [
        f'<a href="#70c70051-ef8d-4e52-8f72-a431f539d38{end}">20261123T15215{end}.146713Z</a>'
        f'<p id="70c70051-ef8d-4e52-8f72-a431f539d38{end}"><img src="https://great-expectations-web-assets.x/l.png?d={end}">'
        for end in "45"
    ]
    assert steady(pages[0]) == steady(pages[1])
    assert steady(pages[0]) == '<a href="#id-0">20000101T000000.000000Z</a><p id="id-0"><img src="">'
