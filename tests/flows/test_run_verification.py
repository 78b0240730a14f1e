"""The links of one run's proof that are not of its files: its verdict, computed again."""

from pathlib import Path

from flows.branches import add_files
from flows.git import git
from flows.record import read_run
from flows.run_branches import record_path
from flows.run_record import RunRecord
from flows.run_verification import CacheDigests, Link, run_links
from tasks.files import dump_json
from tests.flows.fake_run import refused_record
from tests.flows.judged_run import forgetful, judged_record


def link_of(root: Path, record: RunRecord, name: str) -> Link:
    return next(link for link in run_links(root, record, CacheDigests(root)) if link.name == name)


def test_a_verdict_that_its_scores_come_to_again_is_ok_and_another_one_is_broken(short_line: Path) -> None:
    record = judged_record(short_line, refused_record(), forgetful())
    assert record.verdict is not None
    link = link_of(short_line, record, "verdict computed again")
    assert (link.state, link.told) == ("ok", f"{record.verdict.verdict}, every byte the same")
    flipped = record.model_copy(update={"verdict": record.verdict.model_copy(update={"verdict": "passed"})})
    link = link_of(short_line, flipped, "verdict computed again")
    assert link.state == "broken"
    assert link.told.startswith(f"comes to {record.verdict.verdict}, on record is passed")


def test_scores_that_were_changed_afterwards_come_to_another_verdict(short_line: Path) -> None:
    record = judged_record(short_line, refused_record(), forgetful())
    branch, path = f"run/{record.run_id}", f"runs/{record.run_id}"
    base = git(short_line, "show", f"{branch}:{path}/base.json")
    add_files(short_line, branch, {f"{path}/candidate.json": base.replace('"base"', '"candidate"')}, "x")
    assert link_of(short_line, record, "verdict computed again").state == "broken"


def test_a_run_that_kept_too_little_to_compute_its_verdict_again_says_so(short_line: Path) -> None:
    record = judged_record(short_line, refused_record(), forgetful())
    branch = f"run/{record.run_id}"
    git(short_line, "update-ref", f"refs/heads/{branch}", "HEAD")
    add_files(short_line, branch, {record_path(record.run_id): dump_json(record)}, "x")
    link = link_of(short_line, read_run(short_line, record.run_id), "verdict computed again")
    assert link.state == "unknown"
    assert "has no gate_evidence.json on record" in link.told
