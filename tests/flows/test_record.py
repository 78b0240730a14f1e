import json
from pathlib import Path

import pytest

from flows import record as run_records
from flows import registry, workspace
from flows.git import git, show_file
from flows.record import Progress, gather, output_digests, read_run, resolve_run, score_lines, settle_dead_run
from flows.run_branches import read_runs
from flows.run_record import RunRecord, StageRecord
from flows.workspace import RunPlace
from tasks import paths
from tasks.digests import digest_file
from tasks.errors import RunNotFound
from tasks.files import write_json
from tasks.params import load_params
from tasks.records import Champion
from tests.flows.fake_run import passed_record
from tests.flows.tiny_line import STAGES, evaluation, write_whole_line

RUN, LATER = "20261120-081502-3f9c", "20261121-081502-77aa"


@pytest.fixture
def place(short_line: Path) -> RunPlace:
    """The worktree of a run that went through the whole line."""
    place = workspace.open_place(short_line, RUN)
    write_whole_line(place.worktree)
    return place


def gathered(place: RunPlace, *, ended: int = len(STAGES)) -> RunRecord:
    """The record of a run whose first `ended` stages were executed."""
    stages = [
        StageRecord(
            name=name, outcome="executed" if number < ended else "not_run", seconds=1.0, exit_code=0,
            output_digests={}, message="",
        )
        for number, name in enumerate(STAGES)
    ]  # fmt: skip
    progress = Progress(started_at="2026-11-20T08:15:02+00:00", trigger="manual", status="passed", reason="all holds")
    return gather(place, load_params(place.worktree / paths.PARAMS), progress, stages, {})


def put_on_record(root: Path, run_id: str) -> None:
    place = workspace.open_place(root, run_id)
    run_records.commit_record(place, passed_record().model_copy(update={"run_id": run_id}))
    workspace.close_place(place)


def test_a_record_names_what_ran_and_on_what(place: RunPlace) -> None:
    record = gathered(place)
    assert record.base_commit == record.snapshot_commit == git(place.root, "rev-parse", "HEAD")
    assert (record.dirty, record.branch) == (False, f"run/{RUN}")
    assert record.params_digest == digest_file(place.root / "params.yaml")
    assert record.params["ingest"] == {"max_broken_share": 0.03}
    assert record.seeds == {"dedup": 1, "evaluate": 1, "gate": 1, "split": 1, "train": 1}
    assert record.packages["prefect"] == "3.8.8"


def test_a_record_names_no_host_and_no_user(place: RunPlace) -> None:
    assert set(gathered(place).hardware) == {"cores", "machine", "memory_gib", "processor", "python", "system"}


def test_a_record_holds_verdict_parity_and_every_approval(place: RunPlace) -> None:
    record = gathered(place)
    assert record.verdict is not None
    assert record.verdict.verdict == "passed"
    assert record.parity is not None
    assert record.approvals["merged_model"].digest == record.parity.merged_digest
    assert set(record.approvals) == {"data", "adapter", "merged_model"}


def test_what_an_earlier_run_left_is_not_taken_for_this_runs(place: RunPlace) -> None:
    record = gathered(place, ended=STAGES.index("gate"))
    assert (record.verdict, record.parity, record.scores) == (None, None, ())
    assert set(record.approvals) == {"data"}


def test_scores_carry_their_interval(place: RunPlace) -> None:
    write_json(place.worktree / paths.CHAMPION, Champion(evaluation=evaluation("champion", 0.5)))
    lines = list(score_lines(place.worktree, 0.95))
    assert [(line.model, line.value) for line in lines] == [("base", 0.0), ("candidate", 0.75), ("champion", 0.5)]
    assert (lines[1].low, lines[1].high) == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson, 3 of 4


def test_only_outputs_that_are_there_have_a_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert output_digests(tmp_path, ("a", "b")) == {
        "a": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    }


def test_the_record_and_the_small_results_are_committed_and_read_back(place: RunPlace) -> None:
    record = gathered(place)
    commit = run_records.commit_record(place, record)
    workspace.close_place(place)
    assert read_run(place.root, RUN) == record
    folder = git(place.root, "ls-tree", "--name-only", f"{commit}:runs/{RUN}").splitlines()
    assert folder == [
        "adapter_approval.json", "base.json", "base_record.json", "base_samples.jsonl.gz", "candidate.json",
        "candidate_samples.jsonl.gz", "data_approval.json", "drift.json", "gate_evidence.json", "merged_approval.json",
        "parity.json", "profile.json", "record.json", "train_history.jsonl", "train_metrics.json", "validation.json",
        "verdict.json",
    ]  # fmt: skip
    assert git(place.root, "show", "--no-patch", "--format=%s|%(trailers:key=Run,valueonly)", commit).split("|") == [
        f"Run {RUN}: passed", RUN,
    ]  # fmt: skip


def test_results_of_an_earlier_run_are_not_kept_beside_the_record(place: RunPlace) -> None:
    commit = run_records.commit_record(place, gathered(place, ended=STAGES.index("evaluate_base")))
    assert git(place.root, "ls-tree", "--name-only", f"{commit}:runs/{RUN}").splitlines() == [
        "base_record.json", "data_approval.json", "drift.json", "profile.json", "record.json", "validation.json",
    ]  # fmt: skip


def test_runs_are_read_the_newest_first(short_line: Path) -> None:
    put_on_record(short_line, RUN)
    put_on_record(short_line, LATER)
    assert [record.run_id for record in read_runs(short_line)] == [LATER, RUN]


def test_a_run_is_found_by_the_beginning_of_its_id(short_line: Path) -> None:
    put_on_record(short_line, RUN)
    put_on_record(short_line, LATER)
    assert (resolve_run(short_line, "20261120"), resolve_run(short_line, None)) == (RUN, LATER)


@pytest.mark.parametrize(
    ("wanted", "said"), [("2026", "2 runs begin with '2026'"), ("x", "0 runs begin with 'x'")], ids=["two", "none"]
)
def test_a_beginning_that_fits_no_single_run_is_refused(short_line: Path, wanted: str, said: str) -> None:
    put_on_record(short_line, RUN)
    put_on_record(short_line, LATER)
    with pytest.raises(RunNotFound, match=f"{said}; `tunegate audit list` shows the runs"):
        resolve_run(short_line, wanted)


def test_before_the_first_run_there_is_none_to_resolve(short_line: Path) -> None:
    with pytest.raises(RunNotFound, match="no run is on record yet; `tunegate run` makes one"):
        resolve_run(short_line, None)


def test_a_dead_run_that_published_without_a_tag_released_nothing(short_line: Path) -> None:
    place = workspace.open_place(short_line, RUN)
    run_records.commit_record(place, passed_record().model_copy(update={"run_id": RUN}))
    settle_dead_run(short_line, RUN, None)
    record = read_run(short_line, RUN)
    assert (record.status, record.release) == ("crashed", None)
    assert record.reason == "published, but the run died before it was registered"


def test_a_dead_run_whose_release_is_tagged_stays_as_it_is(short_line: Path) -> None:
    place = workspace.open_place(short_line, RUN)
    record = passed_record().model_copy(update={"run_id": RUN})
    commit = run_records.commit_record(place, record)
    assert record.release is not None
    registry.register(short_line, record.release, commit)
    settle_dead_run(short_line, RUN, None)
    assert read_run(short_line, RUN) == record
    assert json.loads(show_file(short_line, commit, f"runs/{RUN}/record.json") or "")["status"] == "passed"
