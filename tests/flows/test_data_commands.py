"""What becomes of rows, asked for by the command, on made-up outputs of runs."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import cli, workspace
from flows.git import git, tree_with
from flows.outputs import OutputGone, newest_outputs, run_outputs
from flows.record import commit_record
from flows.workspace import RUN_BRANCHES, cache_folder
from tasks import paths
from tasks.errors import FileInvalid, RunNotFound
from tasks.files import write_json
from tasks.records import (
    ClusterMember,
    Conflict,
    ContaminatedItems,
    Example,
    LedgerEntry,
    Message,
    Pair,
    QuarantinedRow,
)
from tasks.tables import write_examples, write_records
from tests.flows.fake_run import PARAMS, passed_record
from tests.flows.tiny_repo import run

A, B = "20261120-081502-3f9c", "20261121-081502-77aa"
CONFLICTING, STOPPED = "20261119-081502-1111", "20261122-000000-0000"
LONG, SHORT, LOST, BROKEN, OTHER = (name * 16 for name in "abcde")
FILE = "data/sources/tickets.jsonl"


def entry(row_id: str, line: int, stage: str, fate: str, rule: str, value: str = "") -> LedgerEntry:
    return LedgerEntry.model_validate(
        {
            "id": row_id, "source": "tickets", "file": FILE, "line": line, "stage": stage, "fate": fate, "rule": rule,
            "value": value,
        }
    )  # fmt: skip


def example(row_id: str, line: int, text: str, repeat: int = 1) -> Example:
    messages = (Message(role="user", content=text), Message(role="assistant", content="billing"))
    return Example(id=row_id, source="tickets", role="train", file=FILE, line=line, messages=messages, repeat=repeat)


ROWS = (
    example(LONG, 1, "I was charged twice for the Annual plan, please refund"),
    example(SHORT, 2, "I was charged twice for the annual plan"),
    example(LOST, 3, "hi"),
)
LEDGERS: dict[Path, Sequence[LedgerEntry]] = {
    paths.INGEST: [entry(BROKEN, 4, "ingest", "dropped", "json_syntax", "column 9")],
    paths.CLEAN: [
        entry(LONG, 1, "clean", "changed", "unicode_repaired", "1 turn"),
        entry(LOST, 3, "clean", "dropped", "prompt_too_short", "2 characters"),
    ],
    paths.DEDUP: [entry(SHORT, 2, "dedup", "dropped", "near_duplicate", f"{LONG} similarity 0.812")],
    paths.SPLIT: [entry(LONG, 1, "split", "kept", "train", LONG)],
}


def write_data(root: Path, ledgers: dict[Path, Sequence[LedgerEntry]] = LEDGERS, repeat: int = 2) -> None:
    """The data of a run of four rows: one is kept, one a duplicate, one too short and one broken."""
    for folder, entries in ledgers.items():
        write_records(root / folder / paths.LEDGER, entries, LedgerEntry)
    write_examples(root / paths.INGEST / paths.EXAMPLES, ROWS)
    broken = QuarantinedRow(
        id=BROKEN, source="tickets", file=FILE, line=4, rule="json_syntax", value="column 9", text='{"text": oh no'
    )
    write_records(root / paths.INGEST / paths.QUARANTINE, [broken], QuarantinedRow)
    dropped = QuarantinedRow(
        id=LOST, source="tickets", file=FILE, line=3, rule="prompt_too_short", value="2 characters",
        text=ROWS[2].model_dump_json(include={"messages", "tools"}),
    )  # fmt: skip
    write_records(root / paths.CLEAN / paths.QUARANTINE, [dropped], QuarantinedRow)
    write_examples(root / paths.CLEAN / paths.EXAMPLES, ROWS[:2])
    write_examples(root / paths.DEDUP / paths.EXAMPLES, ROWS[:1])
    members = [ClusterMember(id=row, cluster=LONG, anchor=LONG) for row in (LONG, SHORT)]
    write_records(root / paths.DEDUP / paths.CLUSTERS, members, ClusterMember)
    pair = Pair(left=LONG, right=SHORT, similarity=0.8125)
    write_records(root / paths.DEDUP / paths.PAIRS, [pair], Pair)
    conflict = Conflict(left=LONG, right=SHORT, similarity=0.8125, left_completion="billing", right_completion="sales")
    write_records(root / paths.DEDUP / paths.CONFLICTS, [conflict], Conflict)
    kept = ROWS[0].model_copy(update={"repeat": repeat})
    for file, rows in ((paths.TRAIN_EXAMPLES, [kept]), (paths.VALIDATION_EXAMPLES, []), (paths.TEST_EXAMPLES, [])):
        write_examples(root / file, rows)
    write_json(root / paths.CONTAMINATED_ITEMS, ContaminatedItems(checked={"acc": 9}, seen_by_base={"acc": (1,)}))


def put_on_record(root: Path, run_id: str, write: Callable[[Path], None], params: Mapping[str, object]) -> None:
    """A run whose data stages wrote these files, which dvc took into the cache."""
    place = workspace.open_place(root, run_id)
    write(place.worktree)
    stages = {name: {"cmd": "true", "outs": [f"data/{name}"]} for name in ("ingest", "clean", "dedup", "split")}
    (place.worktree / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    (place.worktree / "dvc.lock").unlink(missing_ok=True)
    run(place.worktree, sys.executable, "-m", "dvc", "commit", "--force", "--quiet")
    commit_record(place, passed_record().model_copy(update={"run_id": run_id, "params": params}))
    workspace.close_place(place)


@pytest.fixture(scope="module")
def with_runs(tmp_path_factory: pytest.TempPathFactory, lines: Callable[[str], Path]) -> Path:
    """A repository with two runs: in B the short row is kept for validation, and another one came."""
    root = tmp_path_factory.mktemp("data") / "repo"
    run(root.parent, "cp", "-a", str(lines("short")), str(root))
    put_on_record(root, A, write_data, PARAMS)
    asked_alike = [
        entry(row, line, "dedup", "dropped", "conflicting_answers", "2 rows") for row, line in ((LONG, 1), (SHORT, 2))
    ]
    conflicting = {**LEDGERS, paths.DEDUP: asked_alike, paths.SPLIT: []}
    put_on_record(root, CONFLICTING, lambda place: write_data(place, conflicting), PARAMS)
    moved = {
        **LEDGERS,
        paths.CLEAN: LEDGERS[paths.CLEAN][1:],
        paths.DEDUP: [],
        paths.SPLIT: [
            *LEDGERS[paths.SPLIT],
            entry(SHORT, 2, "split", "kept", "validation", LONG),
            entry(OTHER, 5, "split", "kept", "train", OTHER),
        ],
    }
    sources = [{"name": "new", "role": "train", "path": "data/sources/new.jsonl"}, *PARAMS["sources"]]
    put_on_record(root, B, lambda place: write_data(place, moved), {**PARAMS, "sources": sources, "dedup": {"seed": 2}})
    return root


@pytest.fixture
def at_home(with_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(with_runs)
    monkeypatch.setenv("COLUMNS", "200")
    return with_runs


def ask(*words: str) -> str:
    result = CliRunner().invoke(cli.app, ["data", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_a_kept_row_is_told_from_its_file_to_its_partition(at_home: Path) -> None:
    said = ask("why", LONG, "--run", A)
    assert f"row {LONG} of run {A}" in said
    assert f"place:   {FILE}:1" in said
    assert "clean:   changed by unicode_repaired (a broken encoding was repaired): 1 turn" in said
    assert "split:   kept in train" in said
    assert "user:      I was charged twice for the Annual plan, please refund" in said
    assert said.endswith("\nIt is in train, seen 2 times in an epoch.\n")


def test_a_duplicate_names_the_row_that_stayed_and_how_alike_it_is(at_home: Path) -> None:
    said = ask("why", "bbb", "--run", A)
    assert f"cluster: {LONG} (2 rows alike)" in said
    assert f"nearest: {LONG} at {FILE}:1, which is kept (similarity 0.812)\n" in said
    assert "           I was charged twice for the Annual plan, please refund\n" in said
    assert "as it left clean:" in said
    assert said.splitlines()[-1] == (
        "It was dropped by dedup: near_duplicate (nearly the same question is there already); "
        f"the nearest row that is kept is {LONG} at {FILE}:1, similarity 0.812."
    )


def test_a_broken_row_is_found_by_its_place_and_shown_as_it_was(at_home: Path) -> None:
    said = ask("why", "tickets.jsonl:4", "--run", A)
    assert said.startswith(f"row {BROKEN} of ")
    assert '{"text": oh no' in said
    assert said.endswith("It was dropped by ingest: json_syntax (not valid JSON).\n")


def test_a_row_that_clean_dropped_is_shown_as_a_conversation(at_home: Path) -> None:
    said = ask("why", LOST, "--run", A)
    assert "    user:      hi\n    assistant: billing\n" in said
    assert "{" not in said


def test_rows_of_one_question_name_each_others_place_and_answer(at_home: Path) -> None:
    said = ask("why", SHORT, "--run", CONFLICTING)
    assert f"differs: {LONG} at {FILE}:1, which asks the same\n           and answers billing\n" in said
    assert said.splitlines()[-1] == (
        "It was dropped by dedup: conflicting_answers (the same question with different answers); "
        f"{LONG} at {FILE}:1 answers billing."
    )
    assert f"differs: {SHORT} at {FILE}:2" in ask("why", LONG, "--run", CONFLICTING)


def test_without_a_run_the_newest_is_asked(at_home: Path) -> None:
    assert ask("why", SHORT).splitlines()[-1] == "It is in validation."


def test_the_story_as_json_is_a_record(at_home: Path) -> None:
    story = json.loads(ask("why", SHORT, "--run", A, "--json"))
    assert story["nearest_kept"] == {
        "id": LONG, "similarity": 0.8125, "file": FILE, "line": 1, "prompt": ROWS[0].messages[0].content,
    }  # fmt: skip
    assert (story["partition"], story["stage"], story["cluster_rows"]) == (None, "clean", 2)


def test_rows_are_searched_by_a_text_whatever_its_case(at_home: Path) -> None:
    said = ask("why", "--text", "ANNUAL plan", "--run", A).splitlines()
    assert said[0] == f"of run {A}:"
    assert [line.split()[:2] for line in said[1:]] == [[LONG, f"{FILE}:1"], [SHORT, f"{FILE}:2"]]
    assert ask("why", "--text", "oh no", "--run", A).startswith(f"of run {A}:\n{BROKEN}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ffff"], "has no row 'ffff'; give an id or its beginning, FILE:LINE, or --text with words of it"),
        ([""], "4 rows are named ''; give more of the id:\n  aaaaaaaaaaaaaaaa  data/sources/tickets.jsonl:1"),
        ([f"{FILE}:44"], f"has no row '{FILE}:44': it has 4 rows of this file, from line 1 to 4; give an id"),
        (["other.jsonl:1"], "has no row 'other.jsonl:1': it has read no file of this name; give an id"),
        (["--text", "refund", "0e"], "or give --text to search, not both"),
        ([], "name a row by its id, the beginning of it, or FILE:LINE"),
        (["--text", "nowhere"], "no row has 'nowhere' in it"),
        (["aaa", "--run", "1999"], "0 runs begin with '1999'"),
    ],
)
def test_what_names_no_single_row_is_wrong_input(
    at_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["tunegate", "data", "why", *([] if "--run" in words else ["--run", A]), *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_two_runs_differ_by_rule_by_row_and_by_parameter(at_home: Path) -> None:
    found = json.loads(ask("diff", A, B, "--json"))
    assert (found["rows_a"], found["rows_b"]) == (4, 5)
    assert found["added"] == [{"a": "", "b": "kept in train", "rows": 1, "ids": [OTHER]}]
    assert found["removed"] == []
    assert found["moved"] == [{"a": "dedup · near_duplicate", "b": "kept in validation", "rows": 1, "ids": [SHORT]}]
    assert found["changed"] == [{"rule": "clean · unicode_repaired", "only_in": f"run {A}", "rows": 1, "ids": [LONG]}]
    counts = {(c["stage"], c["fate"], c["rule"]): (c["a"], c["b"]) for c in found["counts"]}
    assert counts["split", "kept", "train"] == (1, 2)
    assert counts["dedup", "dropped", "near_duplicate"] == (1, 0)
    assert [(p["name"], p["a"], p["b"]) for p in found["params"]] == [
        ("dedup.seed", None, "2"),
        ("sources.new.name", None, "new"),
        ("sources.new.path", None, "data/sources/new.jsonl"),
        ("sources.new.role", None, "train"),
    ]
    assert found["benchmark_items"] == [{"benchmark": "acc", "a": 9, "b": 9, "seen_a": 1, "seen_b": 1}]


def test_the_difference_is_told_in_tables(at_home: Path) -> None:
    said = ask("diff", A, B)
    assert f"A: run {A}, 4 rows\nB: run {B}, 5 rows\n" in said
    assert "rows that only B has: 1" in said
    assert "dedup · near_duplicate → kept in validation" in said
    assert "dedup.seed" in said


def test_a_run_does_not_differ_from_itself(at_home: Path) -> None:
    assert ask("diff", A, A) == f"A: run {A}, 4 rows\nB: run {A}, 4 rows\nevery row has the same fate in both\n"


def put_stopped_run_on_record(root: Path) -> None:
    """A run with the outputs of A that was cancelled in dedup."""
    record = passed_record()
    outcomes = {"dedup": "cancelled", "split": "not_run"}
    stages = tuple(
        stage.model_copy(update={"outcome": outcomes.get(stage.name, stage.outcome)}) for stage in record.stages
    )
    place = workspace.open_place(root, STOPPED)
    run(place.worktree, "git", "checkout", f"{RUN_BRANCHES}{A}", "--", "dvc.lock")
    commit_record(place, record.model_copy(update={"run_id": STOPPED, "stages": stages}))
    workspace.close_place(place)


def test_a_newer_run_that_was_stopped_on_the_way_neither_answers_nor_looks_like_rows_that_went(
    with_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "repo"
    run(tmp_path, "cp", "-a", str(with_runs), str(root))
    put_stopped_run_on_record(root)
    assert newest_outputs(root).name == f"run {B}"
    monkeypatch.chdir(root)
    found = json.loads(ask("diff", A, STOPPED, "--json"))
    assert (found["rows_a"], found["rows_b"]) == (4, 4)
    assert [found[name] for name in ("added", "removed", "moved", "benchmark_items")] == [[], [], [], []]
    assert found["notes"] == [f"run {STOPPED} has no ledger of dedup, split: compared as far as clean only"]
    assert ask("diff", A, STOPPED).endswith("\nevery row has the same fate in both, as far as compared\n")


def test_an_older_run_without_some_files_is_compared_with_a_note(with_runs: Path, tmp_path: Path) -> None:
    root = tmp_path / "repo"
    run(tmp_path, "cp", "-a", str(with_runs), str(root))
    put_on_record(root, "20261101-000000-0000", write_old_data, PARAMS)
    found = newest_outputs(root).name, run_outputs(root, "20261101-000000-0000")
    assert found[0] == f"run {B}"
    result = CliRunner().invoke(cli.app, ["data", "--help"])
    assert result.exit_code == 0
    from flows.data_diff import compare  # noqa: PLC0415

    notes = compare(found[1], run_outputs(root, A)).notes
    assert notes == ("run 20261101-000000-0000 is older than the record of the items that the base has seen",)


def write_old_data(root: Path) -> None:
    write_data(root)
    (root / paths.CONTAMINATED_ITEMS).unlink()
    (root / paths.DEDUP / paths.PAIRS).unlink()
    (root / paths.INGEST / paths.QUARANTINE).unlink()


def test_an_object_that_the_cache_has_lost_or_damaged_is_never_read(with_runs: Path, tmp_path: Path) -> None:
    root = tmp_path / "repo"
    run(tmp_path, "cp", "-a", str(with_runs), str(root))
    place = run_outputs(root, A).path(paths.SPLIT / paths.LEDGER)
    assert place is not None
    assert place.is_relative_to(cache_folder(root))
    place.chmod(0o644)
    place.write_bytes(b"")
    with pytest.raises(FileInvalid, match=r"damaged: data/split/ledger\.parquet of run"):
        run_outputs(root, A).path(paths.SPLIT / paths.LEDGER)
    place.unlink()
    with pytest.raises(OutputGone, match=r"no longer has data/split/ledger\.parquet"):
        run_outputs(root, A).path(paths.SPLIT / paths.LEDGER)


def test_a_stage_that_did_not_end_in_a_run_has_no_outputs_of_it(with_runs: Path, tmp_path: Path) -> None:
    root = tmp_path / "repo"
    run(tmp_path, "cp", "-a", str(with_runs), str(root))
    record = passed_record()
    stages = tuple(
        stage.model_copy(update={"outcome": "failed"}) if stage.name == "split" else stage for stage in record.stages
    )
    run_id = "20261122-000000-0000"
    place = workspace.open_place(root, run_id)
    run(place.worktree, "git", "checkout", f"{RUN_BRANCHES}{A}", "--", "dvc.lock")
    commit_record(place, record.model_copy(update={"run_id": run_id, "stages": stages}))
    workspace.close_place(place)
    found = run_outputs(root, run_id)
    assert found.path(paths.SPLIT / paths.LEDGER) is None
    assert found.path(paths.DEDUP / paths.LEDGER) is not None


def test_the_workspaces_own_data_answers_when_no_run_can(short_line: Path) -> None:
    with pytest.raises(RunNotFound, match="`tunegate run --until validate` makes some"):
        newest_outputs(short_line)
    write_data(short_line)
    assert newest_outputs(short_line).name == "the workspace"


def test_a_file_is_put_into_a_tree_without_touching_the_working_tree(short_line: Path) -> None:
    before = git(short_line, "status", "--porcelain")
    tree = tree_with(short_line, "HEAD", {"params.yaml": "other: 1\n"})
    assert git(short_line, "show", f"{tree}:params.yaml") == "other: 1"
    assert git(short_line, "diff", "--name-only", "HEAD", tree) == "params.yaml"
    assert git(short_line, "status", "--porcelain") == before
