"""The chain of the records: what was changed, dropped, moved or swapped afterwards is found."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import late_release, workspace
from flows.branches import add_files
from flows.git import git
from flows.record import read_run
from flows.record_chain import chain_findings, ends, ends_of_the_chain
from flows.run_branches import read_runs, record_path
from flows.sign_off import approve
from tests.flows.data_runs import object_of, put_data_run
from tests.flows.real_release import NAME, RUNS, pass_only
from tests.flows.test_data_commands import write_data
from tests.flows.tiny_repo import run

Tunegate = Callable[..., tuple[int, str]]
EVE = ("-c", "user.name=Eve", "-c", "user.email=eve@example.org")


def problems(root: Path) -> list[str]:
    return [f"{finding.run_id}: {finding.problem}" for finding in chain_findings(root, read_runs(root))]


def rewrite(root: Path, run_id: str, change: Callable[[dict[str, object]], object], *, amend: bool) -> None:
    """Change the record of a run, in a commit on top of its branch or in place of its last one."""
    place = root / "elsewhere"
    git(root, "worktree", "add", "--quiet", str(place), f"run/{run_id}")
    path = place / record_path(run_id)
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")
    git(place, *EVE, "commit", "--quiet", "--all", *(["--amend", "--no-edit"] if amend else ["--message", "mend"]))
    git(root, "worktree", "remove", "--force", str(place))


@pytest.fixture
def three(short_line: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs that passed, one after the other."""
    monkeypatch.chdir(short_line)
    for number in (1, 2, 3):
        pass_only(short_line, number)
    return short_line


def test_a_record_vouches_for_the_run_before_it_and_the_newest_has_nobody(three: Path) -> None:
    named = [[earlier.run_id for earlier in record.vouches_for or ()] for record in read_runs(three)]
    assert named == [[RUNS[1]], [RUNS[0]], []]
    assert ends(read_runs(three)) == {RUNS[2]}
    assert problems(three) == []


def test_after_clones_were_apart_the_next_run_vouches_for_both_ends(three: Path) -> None:
    git(three, "branch", "-D", f"run/{RUNS[2]}")
    rewrite(three, RUNS[1], lambda record: record.update(vouches_for=[]), amend=True)
    assert [earlier.run_id for earlier in ends_of_the_chain(three, RUNS[2])] == [RUNS[0], RUNS[1]]


def test_a_record_that_was_changed_in_a_commit_on_top_is_found(three: Path) -> None:
    rewrite(three, RUNS[0], lambda record: record.update(status="refused", seeds={}), amend=False)
    assert problems(three) == [
        f"{RUNS[0]}: changed after the fact: seeds, status; run {RUNS[1]} names it as it was"
    ]  # fmt: skip


def test_a_record_that_was_rewritten_in_place_is_found(three: Path) -> None:
    commit = git(three, "rev-parse", f"run/{RUNS[0]}")
    rewrite(three, RUNS[0], lambda record: record.update(trigger="schedule"), amend=True)
    assert problems(three) == [
        f"{RUNS[0]}: rewritten: its branch no longer has the commit {commit[:12]}; run {RUNS[1]} names it as it was"
    ]


def test_a_dropped_run_is_found(three: Path) -> None:
    git(three, "branch", "-D", f"run/{RUNS[1]}")
    assert problems(three) == [
        f"{RUNS[1]}: dropped: run {RUNS[2]} names it, and no branch has it; deleted, or not fetched into this clone"
    ]


def test_an_approval_and_a_late_release_leave_the_chain_whole(three: Path) -> None:
    git(three, "config", "user.name", "Grace")
    git(three, "config", "user.email", "grace@example.org")
    approve(three, read_run(three, RUNS[0]), None, "read it", is_required=False)
    assert problems(three) == []
    late = passed_late(three)
    assert problems(three) == []
    add_files(three, f"run/{RUNS[0]}", {record_path(RUNS[0]): late.replace(late_release.LATE, "no reason")}, "x")
    rewrite(three, RUNS[0], lambda record: record.update(seeds={"train": 9}), amend=False)
    assert problems(three) == [
        f"{RUNS[0]}: changed after the fact: reason, release, seeds; run {RUNS[1]} names it as it was"
    ]


def test_of_a_run_in_progress_nobody_vouches_for_its_first_record(three: Path) -> None:
    with workspace.lock(three):
        workspace.note_current(three, RUNS[2], "start")
        assert ends_of_the_chain(three, "another") == ()
    assert [earlier.run_id for earlier in ends_of_the_chain(three, "another")] == [RUNS[2]]


@pytest.fixture
def signed(three: Path) -> Path:
    """The second run was signed off before the third, which vouches for it, was on record."""
    git(three, "branch", "-D", f"run/{RUNS[2]}")
    git(three, "config", "user.name", "Grace")
    git(three, "config", "user.email", "grace@example.org")
    approve(three, read_run(three, RUNS[1]), None, "read it", is_required=False)
    pass_only(three, 3)
    assert problems(three) == []
    return three


def test_a_reason_alone_is_not_written_anew_and_no_sign_off_goes(signed: Path) -> None:
    add_files(signed, f"run/{RUNS[1]}", {f"runs/{RUNS[1]}/sign_offs.json": '{"entries": []}'}, "x")
    assert problems(signed) == [
        f"{RUNS[1]}: changed: an approval or a rejection is gone; run {RUNS[2]} names it as it was"
    ]
    rewrite(signed, RUNS[0], lambda record: record.update(reason="approved by legal"), amend=False)
    assert f"{RUNS[0]}: changed after the fact: reason; run {RUNS[1]} names it as it was" in problems(signed)


def test_a_branch_that_is_behind_its_remote_is_not_said_to_be_rewritten(signed: Path) -> None:
    branch = f"run/{RUNS[1]}"
    git(signed, "update-ref", f"refs/remotes/origin/{branch}", branch)
    git(signed, "update-ref", f"refs/heads/{branch}", f"{branch}~1")
    assert problems(signed) == []


@pytest.mark.parametrize("text", ['{"run_id": 7}', '{"vouches_for": [{}]}', "torn {"])
def test_a_record_of_another_version_that_a_remote_has_stops_nothing(three: Path, text: str) -> None:
    git(three, "branch", "run/20991231-000000-ffff", "main")
    add_files(three, "run/20991231-000000-ffff", {record_path("20991231-000000-ffff"): text}, "newer")
    git(three, "update-ref", "refs/remotes/origin/run/20991231-000000-ffff", "run/20991231-000000-ffff")
    git(three, "update-ref", "-d", "refs/heads/run/20991231-000000-ffff")
    assert [record.run_id for record in read_runs(three)] == [RUNS[2], RUNS[1], RUNS[0]]
    assert {earlier.run_id for earlier in ends_of_the_chain(three, "x")} == {RUNS[2], "20991231-000000-ffff"}


def test_a_lock_of_dvcs_that_cannot_be_read_is_named_and_the_rest_is_looked_at(
    released: Path, tunegate: Tunegate
) -> None:
    add_files(released, f"run/{RUNS[0]}", {"dvc.lock": "stages: [\n"}, "x")
    code, found = broken(tunegate, "--all")
    assert code == 3
    assert any(line.startswith("outputs: its dvc.lock cannot be read") for line in found[f"run {RUNS[0]}"])


def passed_late(root: Path) -> str:
    """Put a release on the record of the first run, as `flows.late_release` does; returns the text of the record."""
    record = json.loads(git(root, "show", f"run/{RUNS[0]}:{record_path(RUNS[0])}"))
    record["release"] = {
        "name": NAME, "version": "v0.0.1", "tag": f"{NAME}@v0.0.1", "target": "folder", "location": "x", "digest": "d",
        "promoted_stage": None, "files": {},
    }  # fmt: skip
    record["reason"] = f"{late_release.LATE}: {NAME}@v0.0.1"
    text = json.dumps(record)
    add_files(root, f"run/{RUNS[0]}", {record_path(RUNS[0]): text}, f"Run {RUNS[0]}: released")
    return text


def test_a_branch_that_went_apart_from_its_remote_is_found(three: Path, tmp_path: Path) -> None:
    run(tmp_path, "git", "clone", "--quiet", "--bare", str(three), str(tmp_path / "bare.git"))
    git(three, "remote", "add", "origin", str(tmp_path / "bare.git"))
    git(three, "fetch", "--quiet", "origin")
    assert problems(three) == []
    rewrite(three, RUNS[2], lambda record: record.update(trigger="schedule"), amend=True)
    ref = f"run/{RUNS[2]}"
    assert problems(three) == [
        f"{RUNS[2]}: refs/heads/{ref} and refs/remotes/origin/{ref} went apart: one of them was rewritten"
    ]


def broken(tunegate: Tunegate, *words: str) -> tuple[int, dict[str, list[str]]]:
    """The exit code of `audit verify`, and what it found broken by subject."""
    code, said = tunegate("audit", "verify", *words, "--json")
    found = json.loads(said)
    links = {
        subject["subject"]: [
            f"{link['name']}: {link['told']}" for link in subject["links"] if link["state"] == "broken"
        ]
        for subject in found["subjects"]
    }
    assert found["ok"] == (code == 0)
    return code, {subject: told for subject, told in links.items() if told}


def test_verify_all_finds_nothing_where_nothing_happened_and_says_what_it_cannot_vouch_for(
    released: Path, tunegate: Tunegate
) -> None:
    assert broken(tunegate, "--all") == (0, {})
    said = tunegate("audit", "verify", "--all")[1]
    assert "ok       chain of records: 2 of 3 runs are vouched for\n" in said
    assert f"  unknown  ends: no later record vouches yet for {RUNS[2]}\n" in said
    assert said.count("ok       run 2026") == 3
    assert said.count(f"ok       {NAME}@") == 3


def test_verify_all_finds_a_changed_record_and_a_dropped_run(released: Path, tunegate: Tunegate) -> None:
    rewrite(released, RUNS[0], lambda record: record.update(seeds={"train": 9}), amend=False)
    code, found = broken(tunegate, "--all")
    assert code == 3
    assert found == {
        "chain of records": [f"{RUNS[0]}: changed after the fact: seeds; run {RUNS[1]} names it as it was"]
    }
    git(released, "branch", "-D", f"run/{RUNS[0]}")
    code, found = broken(tunegate, "--all")
    assert code == 3
    assert found["chain of records"][0].startswith(f"{RUNS[0]}: dropped: run {RUNS[1]} names it")
    assert found["tags"][0].startswith(f"{NAME}@v0.0.1: moved, or its run is gone: no run that released it has ")


def test_verify_all_finds_parameters_that_are_not_those_on_record(released: Path, tunegate: Tunegate) -> None:
    text = git(released, "show", f"run/{RUNS[2]}:params.yaml") + "\n# another line\n"
    add_files(released, f"run/{RUNS[2]}", {"params.yaml": text}, "x")
    code, found = broken(tunegate, "--all")
    assert code == 3
    assert list(found) == [f"run {RUNS[2]}"]
    assert found[f"run {RUNS[2]}"][0].startswith("parameters: git has ")


def test_verify_all_finds_moved_replaced_and_missing_tags(released: Path, tunegate: Tunegate) -> None:
    for version in ("v0.0.1", "v0.0.2", "v0.0.3"):
        assert tunegate("promote", version, "--stage", "production")[0] == 0
    assert broken(tunegate, "--all") == (0, {})
    commits = [git(released, "rev-parse", f"{NAME}@v0.0.{number}^{{commit}}") for number in (1, 2, 3)]
    message = git(released, "tag", "--list", "--format=%(contents)", f"{NAME}#production#3")
    git(released, *EVE, "tag", "--force", "--annotate", "--message", message, f"{NAME}#production#3", commits[0])
    git(released, "tag", "--delete", f"{NAME}#production#2")
    git(released, "tag", "--force", f"{NAME}#production#1", commits[0])
    code, found = broken(tunegate, "--all")
    assert code == 3
    assert found["tags"] == [
        f"{NAME}#production#1: replaced: it has no message, as the tags have that a promotion makes",
        f"{NAME}#production#3: moved: its message says {NAME}@v0.0.3, it names the commit of {NAME}@v0.0.1",
        f"{NAME}#…#2: missing: a later tag of the model is there; deleted, or not fetched",
    ]


def test_the_numbers_of_a_models_tags_run_over_all_its_stages(released: Path, tunegate: Tunegate) -> None:
    for version, stage in (("v0.0.1", "production"), ("v0.0.1", "staging"), ("v0.0.2", "production")):
        assert tunegate("promote", version, "--stage", stage)[0] == 0
    run(released, "gto", "deprecate", NAME, "v0.0.1", "staging")
    assert broken(tunegate, "--all") == (0, {})
    git(released, "tag", "--delete", f"{NAME}#staging#2")
    assert broken(tunegate, "--all")[0] == 3


def test_verify_all_finds_a_version_whose_tag_was_deleted_or_moved(released: Path, tunegate: Tunegate) -> None:
    git(released, "tag", "--delete", f"{NAME}@v0.0.1")
    git(released, *EVE, "tag", "--force", "--annotate", "--message", "x", f"{NAME}@v0.0.2", f"{NAME}@v0.0.3^{{commit}}")
    code, found = broken(tunegate, "--all")
    assert code == 3
    assert (
        f"{NAME}@v0.0.1: run {RUNS[0]} released it, and there is no such tag: deleted, or not fetched here"
        in found["tags"]
    )
    assert found[f"{NAME}@v0.0.2"][0].startswith(f"tag: {NAME}@v0.0.2 names the record of run {RUNS[2]}")


def test_what_was_swapped_in_dvcs_cache_is_found_and_what_is_gone_is_told(
    short_line: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(short_line)
    put_data_run(short_line, RUNS[0], write_data, status="refused")
    assert broken(tunegate, RUNS[0]) == (0, {})
    assert "  ok       outputs: 4 as on record\n" in tunegate("audit", "verify", RUNS[0])[1]
    place = object_of(short_line, RUNS[0], "data/split/train.parquet")
    place.chmod(0o644)
    content = place.read_bytes()
    place.write_bytes(b"swapped")
    for words in ((RUNS[0],), ("--all",)):
        code, found = broken(tunegate, *words)
        assert code == 3
        assert found[f"run {RUNS[0]}"][0].startswith("outputs: data/split has digest ")
    place.unlink()
    code, said = tunegate("audit", "verify", RUNS[0])
    assert code == 0
    assert "  unknown  outputs: 3 as on record; DVC's cache does not hold data/split (1 in all)" in said
    place.write_bytes(content)
    assert broken(tunegate, RUNS[0]) == (0, {})
