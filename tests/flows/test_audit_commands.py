"""`tunegate audit list` with its filters, and `audit diff`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import JsonValue

from flows import workspace
from flows.git import git
from flows.record import commit_record, read_run, resolve_run
from flows.run_branches import read_blobs, read_runs, run_branches
from flows.run_record import RunRecord
from tests.flows.fake_run import fake_digest, fake_scores, passed_record, refused_record
from tests.flows.tiny_repo import run

Tunegate = Callable[..., tuple[int, str]]
A, B, C = "20261120-081502-000a", "20261121-081502-000b", "20261122-081502-000c"


def put(root: Path, record: RunRecord, run_id: str, **changes: object) -> None:
    place = workspace.open_place(root, run_id)
    started = f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}T08:15:02Z"
    told = {"run_id": run_id, "started_at": started, "snapshot_commit": place.start_commit, **changes}
    commit_record(place, record.model_copy(update=told))
    workspace.close_place(place)


@pytest.fixture(scope="module")
def with_three(tmp_path_factory: pytest.TempPathFactory, lines: Callable[[str], Path]) -> Path:
    """A run that passed, one that was refused with another rank, and one that crashed on another base."""
    root = tmp_path_factory.mktemp("audit") / "repo"
    run(root.parent, "cp", "-a", str(lines("short")), str(root))
    put(root, passed_record(), A)
    refused = refused_record()
    params: dict[str, JsonValue] = {
        **refused.params,
        "lora": {"r": 8, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"},
    }
    packages = {**refused.packages, "torch": "2.14.0"}
    put(root, refused, B, params=params, packages=packages)
    other: dict[str, JsonValue] = {
        **refused.params,
        "base_model": {"name": "Other/Base-1B", "origin": {"source": "hub", "revision": "a" * 40}},
    }
    put(root, refused, C, status="crashed", verdict=None, scores=(), params=other, stages=(), reason="out of memory")
    return root


@pytest.fixture
def at_home(with_three: Path, plain_git: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(with_three)
    return with_three


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [C, B, A]),
        (["--status", "crashed"], [C]),
        (["--status", "crashed", "--status", "passed"], [C, A]),
        (["--verdict", "refused"], [B]),
        (["--verdict", "inconclusive"], []),
        (["--since", "2026-11-21"], [C, B]),
        (["--since", "2026-11-21T09:00"], [C]),
        (["--until", "2026-11-21"], [B, A]),
        (["--until", "2026-11-21T08:15:01"], [A]),
        (["--data", fake_digest("split")[:8]], [B, A]),
        (["--data", "ffff0000"], []),
        (["--base", "other/base"], [C]),
        (["--base", "a" * 40], [C]),
        (["--base", fake_digest("base")[:10]], [B, A]),
        (["--base", "SmolLM2", "--verdict", "passed"], [A]),
    ],
)
def test_a_list_has_the_runs_that_are_asked_for(
    at_home: Path, tunegate: Tunegate, words: list[str], found: list[str]
) -> None:
    code, said = tunegate("audit", "list", *words, "--json")
    assert code == 0
    assert [listed["run_id"] for listed in json.loads(said)] == found
    said = tunegate("audit", "list", *words)[1]
    assert [run_id for run_id in (C, B, A) if run_id in said] == found
    assert ("none of the 3 runs on record is like that" in said) == (found == [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--status", "good"], "--status: found 'good', expected one of passed, reached, refused"),
        (["--verdict", "crashed"], "--verdict: found 'crashed', expected one of passed, refused, inconclusive"),
        (["--since", "monday"], "--since: found 'monday', expected a day as 2026-11-23"),
    ],
)
def test_what_no_run_can_be_is_wrong_input(at_home: Path, tunegate: Tunegate, words: list[str], said: str) -> None:
    code, told = tunegate("audit", "list", *words)
    assert (code, said in told) == (2, True)


def test_a_listed_run_carries_its_scores_with_intervals_and_its_release(at_home: Path, tunegate: Tunegate) -> None:
    listed = json.loads(tunegate("audit", "list", "--status", "passed", "--json")[1])[0]
    assert (listed["status"], listed["verdict"], listed["release"]) == ("passed", "passed", "support-router@v0.3.0")
    assert listed["scores"] == [line.model_dump(mode="json") for line in fake_scores(0.708)]


def test_two_runs_differ_in_outcome_parameters_environment_and_scores(at_home: Path, tunegate: Tunegate) -> None:
    found = json.loads(tunegate("audit", "diff", A, B, "--json")[1])
    sections = {section["name"]: section for section in found["sections"]}
    assert list(sections) == ["outcome", "code", "parameters", "data and models", "environment"]
    differing = {
        name: [(row["name"], row["a"], row["b"]) for row in section["differences"]]
        for name, section in sections.items()
    }
    assert differing["parameters"] == [("lora.bias", "none", None), ("lora.r", "16", "8")]
    assert differing["environment"] == [("torch", "2.13.0", "2.14.0")]
    assert ("status", "passed", "refused") in differing["outcome"]
    assert ("release", "support-router@v0.3.0", "none") in differing["outcome"]
    assert [row[0] for row in differing["data and models"]] == ["data/merge"]
    assert "data/split" in sections["data and models"]["same"]
    scores = {(score["benchmark"], score["model"]): score for score in found["scores"]}
    routed = scores["ticket_routing", "candidate"]
    assert (routed["a"]["value"], routed["b"]["value"], routed["intervals_meet"]) == (0.708, 0.271, False)
    assert routed["change"] == pytest.approx(-0.437)
    assert scores["general_knowledge", "base"]["change"] == 0
    assert scores["general_knowledge", "base"]["intervals_meet"] is True


def test_the_difference_is_told_in_tables_and_what_is_the_same_in_words(at_home: Path, tunegate: Tunegate) -> None:
    said = tunegate("audit", "diff", A, B)[1]
    assert said.startswith(f"A: run {A}\nB: run {B}\n")
    assert "\nparameters: 2 differ; 23 are the same\n" in said
    assert "70.8 % (65.0 % to 76.6 %)" in said
    assert "apart" in said
    same = tunegate("audit", "diff", A, A)[1]
    assert "\ndata and models: all 12 are the same\n" in same
    assert "differ" not in same


def test_a_source_that_came_moves_no_other_parameter(short_line: Path) -> None:
    from flows.run_diff import diff_runs  # noqa: PLC0415

    old, new = passed_record(), passed_record()
    sources = [{"name": "first", "role": "train"}, *old.params["sources"]]  # type: ignore[misc]
    found = diff_runs(short_line, old, new.model_copy(update={"params": {**new.params, "sources": sources}}))
    rows = next(section.differences for section in found.sections if section.name == "parameters")
    assert [row.name for row in rows] == ["sources.first.name", "sources.first.role"]
    assert found.notes == ("git no longer has the commit that one of them ran from: files are not compared",)


def test_a_fresh_clone_that_has_only_remotes_knows_every_run(
    at_home: Path, tmp_path: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", str(at_home), str(clone))
    assert git(clone, "branch", "--list", "run/*") == ""
    assert [record.run_id for record in read_runs(clone)] == [C, B, A]
    assert read_run(clone, A) == read_run(at_home, A)
    assert resolve_run(clone, "20261121") == B
    monkeypatch.chdir(clone)
    assert A in tunegate("audit", "list")[1]
    assert "verdict: PASSED" in tunegate("audit", "show", A)[1]
    code, said = tunegate("approve", A)
    assert code == 2
    assert f"run {A} is known from origin alone; `git fetch origin run/{A}:run/{A}` makes a branch of it here" in said


def test_a_branch_of_this_clone_counts_before_that_of_a_remote(at_home: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", str(at_home), str(clone))
    git(clone, "branch", f"run/{A}", f"origin/run/{B}")
    assert run_branches(clone)[A].ref == f"refs/heads/run/{A}"
    assert run_branches(clone)[B].remote == "origin"


def test_many_files_are_read_at_once_and_a_missing_one_is_none(at_home: Path) -> None:
    names = [f"run/{A}:runs/{A}/record.json", f"run/{A}:nowhere", f"run/{A}:.gitignore"]
    found = read_blobs(at_home, names)
    assert found[1] is None
    assert json.loads(found[0] or b"")["run_id"] == A
    assert b"__pycache__" in (found[2] or b"")
