import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tasks import paths, validate
from tasks.approvals import Approval
from tasks.clean_tools import build_tools
from tasks.data_docs import steady
from tasks.errors import DataRefused, FileInvalid
from tasks.files import read_json, write_json
from tasks.label_sets import LabelSets
from tasks.params import load_params
from tasks.params_data import EngineParams, Source, ValidateParams
from tasks.records import Champion, DataProfile, DataSummary, Example, ExpectationResult, Message, Validation
from tasks.tables import write_examples
from tasks.validate import decide, dropped_share, outcome, refusal, thresholds
from tasks.validation_columns import Deriver, asked_key, blank_turns, prompt_key
from tasks.validation_run import Checks, read_suite
from tasks.validation_table import TABLE, Columns, filling, flagged_rows
from tests.unit.cleaning import tools_with, write_tokenizer
from tests.unit.rows import CLEAN, conversation, example

ROOT = Path(__file__).parents[2]
SUITE = ROOT / paths.SUITE
NO_COLUMN = {"type": "expect_column_values_to_be_unique", "kwargs": {}}
THRESHOLDS: dict[str, float | list[str] | None] = {
    "min_train_examples": 80,
    "min_validation_examples": 10,
    "min_test_examples": 10,
    "max_dropped_share": 0.3,
    "max_duplicate_share": 0.05,
    "max_pii_share": 0.02,
    "min_prompt_chars": 5,
    "max_prompt_chars": 200,
    "min_completion_chars": 2,
    "max_completion_chars": 50,
    "max_tokens": 64,
    "source_names": ["tickets"],
}
LABELLED = Source.model_validate(
    {
        "name": "tickets",
        "role": "train",
        "path": "data/sources/tickets.jsonl",
        "sha256": None,
        "repo_id": None,
        "revision": None,
        "weight": 1.0,
        "layout": {
            "kind": "template",
            "system": "",
            "prompt": "{text}",
            "completion": "queue: {queue}",
            "required": [],
            "allowed": {"queue": ["sales", "shipping", "repair"]},
        },
    }
)
PARAMS = load_params(ROOT / "params.yaml").model_copy(
    update={
        "sources": [LABELLED],
        "clean": CLEAN,
        "engine": EngineParams(runner="native", ray_address=None, workers=1),
        "validate_": ValidateParams(
            min_train_examples=80,
            min_validation_examples=10,
            min_test_examples=10,
            max_dropped_share=0.3,
            max_duplicate_share=0.05,
            max_pii_share=0.02,
            max_drift=0.25,
        ),
    }
)
ADVICE = (
    "mend the sources or the rules of `clean`, or widen the bound in params.yaml; validation.json and drift.json name "
    "more rows, the Data Docs show everything"
)
Rows = list[Columns]


def row(number: int) -> Columns:
    return Columns(
        id=f"{number:016x}",
        source="tickets",
        role="train",
        partition="train" if number < 80 else "validation" if number < 90 else "test",
        place=f"tickets.jsonl:{number}",
        n_messages=2,
        prompt_chars=20,
        completion_chars=8,
        longest_answer_chars=8,
        blank_turns=0,
        tokens=30,
        role_order_ok=1,
        label_known=1,
        has_special_token=0,
        has_secret=0,
        has_pii=0,
        prompt_key=number,
        asked_key=number,
    )


def good_rows() -> Rows:
    return [row(number) for number in range(100)]


def validated(
    folder: Path,
    rows: Iterable[Any],
    *,
    share: float = 0.1,
    docs: Path | None = None,
    bounds: Mapping[str, float | list[str] | None] = THRESHOLDS,
) -> tuple[ExpectationResult, ...]:
    database = folder / "examples.sqlite"
    database.unlink(missing_ok=True)
    with filling(database, share) as table:
        table.write(rows)
    checks = Checks()
    found = checks.run(read_suite(SUITE), database, TABLE, bounds, flagged=partial(flagged_rows, database))
    if docs is not None:
        checks.write_docs(docs)
    return found.results


def failed(folder: Path, rows: Iterable[Any], *, share: float = 0.1) -> set[str]:
    return {result.subject for result in validated(folder, rows, share=share) if not result.success}


def first(count: int = 1, **values: Any) -> Callable[[Rows], list[Any]]:
    return lambda rows: [rows[at]._replace(**values) if at < count else rows[at] for at in range(len(rows))]


def cleaned(name: str, prompt: str, completion: str) -> Example:
    return example(name, prompt, completion).model_copy(update={"tokens": 50})


def summary(stage: str, rows_in: int, **dropped: int) -> DataSummary:
    return DataSummary(stage=stage, rows_in=rows_in, rows_out=0, dropped=dropped, changed={}, kept={})


def test_good_data_passes_every_expectation(tmp_path: Path) -> None:
    assert failed(tmp_path, good_rows()) == set()


@pytest.mark.parametrize(
    ("trap", "subjects"),
    [
        pytest.param(lambda _rows: [], {"table", "in_train", "in_validation", "in_test"}, id="an empty frame"),
        pytest.param(first(100, source=None), {"source", "wrong_types"}, id="all null"),
        pytest.param(first(prompt_chars=math.nan), {"prompt_chars", "wrong_types"}, id="NaN in a range"),
        pytest.param(
            first(completion_chars=math.inf), {"completion_chars", "wrong_types"}, id="infinity over a minimum"
        ),
        pytest.param(first(source=""), {"source"}, id="empty text that is not null"),
        pytest.param(first(source=12345), {"source", "wrong_types"}, id="mixed types with lengths"),
        pytest.param(first(id="0" * 16 + "\nevil"), {"id"}, id="a second line after a good one"),
        pytest.param(first(has_special_token=1), {"has_special_token"}, id="one bad row of 100"),
    ],
)
def test_frames_that_great_expectations_passes_by_itself_are_refused(
    tmp_path: Path, trap: Callable[[Rows], list[Any]], subjects: set[str]
) -> None:
    assert failed(tmp_path, trap(good_rows())) >= subjects


def test_what_sqlite_would_convert_is_of_the_wrong_type(tmp_path: Path) -> None:
    rows: list[Any] = good_rows()
    for number, value in enumerate((True, "1", 1.0, 2**63)):
        rows[number] = rows[number]._replace(role_order_ok=value)
    results = [result for result in validated(tmp_path, rows) if not result.success]
    assert {(result.subject, result.observed) for result in results} == {
        ("role_order_ok", "4 of 100 unexpected, 0 null"),
        ("wrong_types", "4 of 100 unexpected, 0 null"),
    }


def test_each_fault_fails_the_expectation_on_its_column_and_no_other(tmp_path: Path) -> None:
    faults: dict[str, Any] = {
        "source": "unheard_of",
        "role": "seen_by_base",
        "n_messages": 1,
        "blank_turns": 1,
        "tokens": 0,
        "role_order_ok": 0,
        "label_known": 0,
        "has_secret": 1,
        "has_special_token": 1,
    }
    rows = good_rows()
    for number, (column, value) in enumerate(faults.items()):
        rows[number] = rows[number]._replace(**{column: value})
    results = [result for result in validated(tmp_path, rows) if not result.success]
    assert {result.subject: result.rows for result in results} == {
        column: (f"{number:016x} tickets.jsonl:{number} train",) for number, column in enumerate(faults)
    }


def set_each(rows: Rows, values: list[dict[str, Any]]) -> Rows:
    return [one._replace(**value) for one, value in zip(rows, values, strict=False)] + rows[len(values) :]


def test_the_bounds_themselves_pass(tmp_path: Path) -> None:
    values: list[dict[str, Any]] = [
        {"prompt_chars": 5},
        {"prompt_chars": 200},
        {"completion_chars": 2},
        {"longest_answer_chars": 50},
        {"tokens": 64},
        *[{"has_pii": 1}] * 2,
        *[{"prompt_key": 500, "asked_key": 500}] * 4,
    ]
    assert failed(tmp_path, set_each(good_rows(), values)) == set()


@pytest.mark.parametrize("chars", [4, 201])
def test_a_prompt_one_character_outside_its_bounds_fails(tmp_path: Path, chars: int) -> None:
    assert failed(tmp_path, set_each(good_rows(), [{"prompt_chars": chars}])) == {"prompt_chars"}


def test_each_value_just_outside_its_bound_fails(tmp_path: Path) -> None:
    values: list[dict[str, Any]] = [
        {"completion_chars": 1},
        {"longest_answer_chars": 51},
        {"tokens": 65},
        *[{"has_pii": 1}] * 3,
        *[{"prompt_key": 500, "asked_key": 500}] * 5,
    ]
    expected = {"completion_chars", "longest_answer_chars", "tokens", "has_pii", "repeats_prompt"}
    assert failed(tmp_path, set_each(good_rows(), values)) == expected


def test_a_bound_that_is_switched_off_is_not_expected_of_the_data(tmp_path: Path) -> None:
    params = load_params(ROOT / paths.PARAMS)
    bounds = ("min_prompt_chars", "max_prompt_chars", "min_completion_chars", "max_completion_chars", "max_tokens")
    clean = params.clean.model_copy(update=dict.fromkeys(bounds))
    values: list[dict[str, Any]] = [
        {"prompt_chars": 0},
        {"prompt_chars": 10**6},
        {"completion_chars": 0},
        {"longest_answer_chars": 10**6},
        {"tokens": 10**6},
    ]
    rows = set_each(good_rows(), values)
    switched_off = THRESHOLDS | {name: thresholds(params.model_copy(update={"clean": clean}))[name] for name in bounds}
    assert {found.subject for found in validated(tmp_path, rows, bounds=switched_off) if not found.success} == set()


def test_a_partition_of_one_row_too_few_fails(tmp_path: Path) -> None:
    rows = good_rows()
    assert failed(tmp_path, [*rows[1:80], *rows[81:90], *rows[91:]]) == {"in_train", "in_validation", "in_test"}


def test_a_repeated_id_an_unknown_partition_and_a_prompt_in_two_partitions_fail(tmp_path: Path) -> None:
    rows = good_rows()
    again = rows[0]._replace(prompt_key=500, asked_key=500)
    leaked = rows[95]._replace(id="f" * 16, prompt_key=5)
    results = validated(tmp_path, [*rows, again, leaked, rows[2]._replace(id="e" * 16, partition="dev")])
    assert {result.subject: result.observed for result in results if not result.success} == {
        "id": "2 of 103 unexpected, 0 null",
        "partition": "1 of 103 unexpected, 0 null",
        "prompt_in_other_partition": "4 of 103 unexpected, 0 null",
    }


def test_rows_set_aside_on_purpose_do_not_thin_out_the_dropped_share() -> None:
    ingested, cleaned_ = summary("ingest", 100_000), summary("clean", 100_000, language=400)
    compared = summary("split", 99_600, compared_only=98_000, not_sampled=1_000)
    assert dropped_share([ingested, cleaned_, compared]) == pytest.approx(400 / 1_000)


@pytest.mark.parametrize(
    ("share", "subjects"), [(0.3, set()), (0.31, {"dropped_share"}), (math.nan, {"dropped_share"})]
)
def test_the_dropped_share_has_a_bound(tmp_path: Path, share: float, subjects: set[str]) -> None:
    assert failed(tmp_path, good_rows(), share=share) == subjects


def test_a_failure_names_at_most_twenty_of_the_rows_that_broke_it(tmp_path: Path) -> None:
    (failure,) = [result for result in validated(tmp_path, first(70, has_secret=1)(good_rows())) if not result.success]
    assert failure.expectation == "expect_column_values_to_be_in_set(value_set=[0])"
    assert (failure.subject, failure.observed) == ("has_secret", "70 of 100 unexpected, 0 null")
    assert failure.rows == tuple(f"{number:016x} tickets.jsonl:{number} train" for number in range(20))


def test_a_share_over_its_bound_names_the_rows_that_have_the_flag(tmp_path: Path) -> None:
    rows = [one._replace(has_pii=int(number in {7, 33, 95})) for number, one in enumerate(good_rows())]
    (failure,) = [result for result in validated(tmp_path, rows) if not result.success]
    assert (failure.subject, failure.observed) == ("has_pii", "0.03")
    assert failure.rows == (
        "0000000000000007 tickets.jsonl:7 train",
        "0000000000000021 tickets.jsonl:33 train",
        "000000000000005f tickets.jsonl:95 test",
    )


def test_a_prompt_under_other_instructions_is_no_repetition_but_still_may_not_cross(tmp_path: Path) -> None:
    rows = set_each(good_rows(), [{"prompt_key": 500}] * 5)
    assert failed(tmp_path, rows) == set()
    assert failed(tmp_path, [*rows[:-1], rows[-1]._replace(prompt_key=500)]) == {"prompt_in_other_partition"}


def test_a_prompt_that_validation_repeats_is_no_duplicate_of_train(tmp_path: Path) -> None:
    rows = [
        one._replace(prompt_key=one.prompt_key % 5 + 100 if one.partition != "train" else one.prompt_key)
        for one in good_rows()
    ]
    assert failed(tmp_path, rows) == {"prompt_in_other_partition"}


def test_the_validation_and_its_docs_are_the_same_bytes_twice_and_fetch_nothing(tmp_path: Path) -> None:
    rows = first(has_secret=1)(good_rows())
    one, two = (validated(tmp_path, rows, docs=tmp_path / name) for name in ("one", "two"))
    assert one == two
    pages = {page.relative_to(tmp_path / "one"): page.read_bytes() for page in files(tmp_path / "one")}
    assert pages == {page.relative_to(tmp_path / "two"): page.read_bytes() for page in files(tmp_path / "two")}
    assert len([page for page in pages if page.parts[0] == "validations"]) == 1
    assert b'href="validations/examples/' in pages[Path("index.html")]
    for content in pages.values():
        assert b"<script" not in content
        assert b'src="http' not in content
        assert b"url('http" not in content
    assert sum(map(len, pages.values())) < 500_000


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def test_data_docs_lose_times_random_ids_and_what_they_would_fetch() -> None:
    pages = [
        f'<a href="#70c70051-ef8d-4e52-8f72-a431f539d38{end}">20261123T15215{end}.146713Z</a>'
        f'<p id="70c70051-ef8d-4e52-8f72-a431f539d38{end}"><img src="https://assets.x/l.png?d={end}">'
        f'<link rel="stylesheet" href="https://cdn.x/{end}.css"><script src="https://cdn.x/x.js"></script>'
        f"<script>\n$('#x').table()\n</script><style>a {{background: url('https://assets.x/d.png')}}</style>"
        for end in "45"
    ]
    assert steady(pages[0]) == steady(pages[1])
    assert steady(pages[0]) == (
        '<a href="#id-0">20000101T000000.000000Z</a><p id="id-0"><style>a {background: none}</style>'
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
    suite["expectations"][6]["type"] = "expect_column_values_to_be_lucky"
    (tmp_path / "suite.json").write_text(json.dumps(suite))
    count = len(suite["expectations"])
    with pytest.raises(
        FileInvalid, match=f"{count} .* written, {count - 1} understood; .* expect_column_values_to_be_lucky"
    ):
        read_suite(tmp_path / "suite.json")


def test_the_dropped_share_counts_what_was_wrong_and_not_what_was_set_aside() -> None:
    aside = {"replay_not_needed": 40, "compared_only": 10, "not_sampled": 20, "duplicate_of_test": 3}
    summaries = [summary("ingest", 100, json_syntax=5), summary("split", 95, in_benchmark=5, **aside)]
    assert dropped_share(summaries) == pytest.approx(10 / 27)


def test_a_summary_without_rows_is_refused() -> None:
    with pytest.raises(FileInvalid, match="no rows in"):
        dropped_share([summary("ingest", 0)])


@pytest.mark.parametrize(
    ("good", "near", "decision"),
    [(True, True, "approved"), (False, True, "refused"), (True, False, "refused")],
)
def test_the_approval_names_partitions_and_evidence_but_not_the_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decision: str, *, good: bool, near: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (paths.VALIDATION, paths.TRAIN_EXAMPLES, paths.SUITE):
        path.parent.mkdir(parents=True)
        path.write_text("content")
    approval = decide(
        Validation(suite="examples", success=good, results=()), Validation(suite="drift", success=near, results=())
    )
    assert (approval.decision, approval.subject, sorted(approval.evidence)) == (
        decision,
        "data",
        ["suite", "validation"],
    )
    assert (approval.approved_by, len(approval.digest)) == ("expectation suite examples", 64)


def test_a_refusal_names_every_failure_with_what_was_observed_and_five_rows() -> None:
    failure = ExpectationResult(
        expectation="expect_x(min_value=5)", subject="prompt", success=False, observed="3", rows=tuple("abcdefg")
    )
    nothing = Validation(suite="drift", success=True, results=())
    assert refusal(Validation(suite="examples", success=False, results=(failure,)), nothing).splitlines() == [
        "the data breaks 1 expectation:",
        "  prompt: expect_x(min_value=5); observed 3",
        *(f"    {name}" for name in "abcde"),
        ADVICE,
    ]


def test_the_counts_of_the_stages_lines_and_of_its_refusal_agree() -> None:
    def results(suite: str, held: int, failed: int) -> Validation:
        result = ExpectationResult(expectation="x", subject="tokens", success=True, observed="1", rows=())
        broken = result.model_copy(update={"success": False})
        return Validation(suite=suite, success=not failed, results=(result,) * held + (broken,) * failed)

    examples, drifted = results("examples", 41, 4), results("drift", 3, 2)
    profile = DataProfile(rows={"train": 202}, shares={})
    lines = outcome(profile, examples, drifted).splitlines()
    assert lines[0] == "validate: 202 examples, 45 expectations, 4 failed"
    assert lines[1].endswith("; 2 of 5 expectations failed")
    assert refusal(examples, drifted).startswith(
        "the data breaks 6 expectations, 2 of them on drift from the champion's data:\n"
    )


def test_an_older_validation_without_rows_is_still_read(tmp_path: Path) -> None:
    result = {"expectation": "x", "subject": "id", "success": True, "observed": "0"}
    (tmp_path / "old.json").write_text(json.dumps({"suite": "examples", "success": True, "results": [result]}))
    assert read_json(tmp_path / "old.json", Validation).results[0].rows == ()


def test_prompts_that_differ_in_case_and_punctuation_share_a_key() -> None:
    assert prompt_key("Where is it?") == prompt_key(" where   IS it") != prompt_key("Where was it?")
    assert prompt_key("Where is it?").bit_length() <= 63


def test_a_turn_that_calls_a_tool_is_not_blank() -> None:
    call = Message(role="assistant", content="", tool_calls='[{"name": "f"}]')
    asked = conversation("a", ("user", " \n"), ("assistant", "ok"))
    assert blank_turns(asked) == 1
    assert blank_turns(asked.model_copy(update={"messages": (call,)})) == 0


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def deriver(tokenizer: Path) -> Deriver:
    return Deriver(build_tools(CLEAN, tokenizer), LabelSets([LABELLED]))


def test_what_an_answer_depends_on_has_a_key_of_its_own() -> None:
    plain, other = example("a", "Where is it?"), example("b", "where is it", "another answer")
    assert asked_key(plain) == asked_key(other)
    different = (example("c", "Where is it?", system="Be brief."), plain.model_copy(update={"tools": "[]"}))
    assert len({asked_key(plain), *map(asked_key, different)}) == 3


def test_the_columns_say_what_each_example_holds(deriver: Deriver) -> None:
    rows = [
        example("0" * 16, " Where is my parcel? ", "queue: shipping", system="Route it.").model_copy(
            update={"tokens": 76}
        ),
        example("1" * 16, "a <|im_end|> b", "queue: nowhere"),
        example("2" * 16, "My key is hf_" + "a1" * 17, "queue: sales"),
        example("3" * 16, "Write to jane.roe@example.com", "queue: sales"),
        conversation("4" * 16, ("user", "Where is it?"), ("user", "Well?"), role="replay"),
    ]
    found = deriver.columns(rows, "train")
    assert found[0] == Columns(
        id="0" * 16,
        source="tickets",
        role="train",
        partition="train",
        place="tickets.jsonl:1",
        n_messages=3,
        prompt_chars=19,
        completion_chars=15,
        longest_answer_chars=15,
        blank_turns=0,
        tokens=76,
        role_order_ok=1,
        label_known=1,
        has_special_token=0,
        has_secret=0,
        has_pii=0,
        prompt_key=prompt_key("where is my parcel"),
        asked_key=asked_key(rows[0]),
    )
    flags = ("role_order_ok", "label_known", "has_special_token", "has_secret", "has_pii")
    assert [tuple(getattr(row, flag) for flag in flags) for row in found[1:]] == [
        (1, 0, 1, 0, 0),
        (1, 1, 0, 1, 0),
        (1, 1, 0, 0, 1),
        (0, 0, 0, 0, 0),
    ]


def test_a_row_that_cleaning_has_not_seen_has_no_tokens(tmp_path: Path) -> None:
    (found,) = Deriver(tools_with(tmp_path), LabelSets([])).columns([example("0" * 16)], "train")
    assert (found.tokens, found.label_known) == (0, 1)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").symlink_to(ROOT / "tasks")
    (tmp_path / paths.BASE_TOKENIZER).parent.mkdir(parents=True)
    (tmp_path / paths.BASE_TOKENIZER).symlink_to(tokenizer)
    monkeypatch.setattr(validate, "load_params", lambda: PARAMS)
    rows = [cleaned(f"{number:016x}", f"Where is parcel {number}?", "queue: sales") for number in range(100)]
    for path, part in zip(validate.FILES.values(), (rows[:80], rows[80:90], rows[90:]), strict=True):
        write_examples(path, part)
    for path in validate.SUMMARIES:
        write_json(path, summary(path.parent.name, 100))
    write_json(paths.CHAMPION, Champion())
    return tmp_path


def test_the_stage_approves_good_data_and_without_a_champion_says_so(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    validate.main()
    assert read_json(paths.DATA_APPROVAL, Approval).decision == "approved"
    assert read_json(paths.DRIFT, Validation) == Validation(suite="drift", success=True, results=())
    assert read_json(paths.DATA_PROFILE, DataProfile) == DataProfile(
        rows={"train": 80, "validation": 10, "test": 10},
        shares={"source": {"tickets": 1.0}, "completion": {"queue: sales": 1.0}, "tokens": {"32-63": 1.0}},
    )
    assert (workspace / paths.DATA_DOCS / "index.html").is_file()
    assert capsys.readouterr().out == (
        "validate: 100 examples, 45 expectations, 0 failed\n"
        "validate: drift from the champion's data: no champion with a data profile yet\n"
    )


def test_a_champion_moves_the_decision_but_never_the_evidence(workspace: Path) -> None:
    validate.main()
    alone = read_json(paths.DATA_APPROVAL, Approval)
    profile = read_json(paths.DATA_PROFILE, DataProfile)
    write_json(paths.CHAMPION, Champion(data=profile))
    validate.main()
    assert read_json(paths.DATA_APPROVAL, Approval) == alone
    assert [result.observed for result in read_json(paths.DRIFT, Validation).results][2:] == ["0"] * 3
    moved = profile.model_copy(update={"shares": {**profile.shares, "completion": {"queue: repair": 1.0}}})
    write_json(paths.CHAMPION, Champion(data=moved))
    with pytest.raises(DataRefused, match=r"completion: expect_column_max_to_be_between\(max_value=0.25") as refused:
        validate.main()
    assert "queue: repair: 100.0% of the champion's rows, 0.0% of these" in str(refused.value)
    assert read_json(paths.DATA_APPROVAL, Approval) == alone.model_copy(update={"decision": "refused"})


def test_the_stage_refuses_bad_rows_and_names_them(workspace: Path) -> None:
    rows = [cleaned(f"{number:016x}", f"Where is parcel {number}?", "queue: sales") for number in range(1000, 1010)]
    rows[3] = cleaned("f" * 16, "Is it here?", "queue: nowhere")
    write_examples(paths.TEST_EXAMPLES, rows)
    with pytest.raises(DataRefused, match=r"label_known.*\n    ffffffffffffffff tickets.jsonl:1 test\n"):
        validate.main()
    assert read_json(paths.DATA_APPROVAL, Approval).decision == "refused"
    (failure,) = [result for result in read_json(paths.VALIDATION, Validation).results if not result.success]
    assert failure.rows == ("ffffffffffffffff tickets.jsonl:1 test",)
