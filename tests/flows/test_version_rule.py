"""Which number of the version a release raises."""

from pathlib import Path

import pytest

from flows import registry
from flows.git import git
from flows.version_rule import change_since, changed_benchmarks, proved_gains
from tasks import paths
from tasks.files import read_json, write_json
from tasks.records import BaseRecord, Evaluation
from tasks.verdict_records import Comparison, RuleResult, Verdict
from tests.flows.fake_run import fake_verdict
from tests.flows.real_release import NAME, RUNS
from tests.flows.tiny_line import evaluation, write_whole_line

TARGET = "ticket_routing exact_match"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What a run leaves that made the same as the releases before."""
    write_whole_line(tmp_path / "place")
    return tmp_path / "place"


def change(root: Path, place: Path) -> tuple[str, str]:
    commit = git(root, "rev-parse", f"{NAME}@v0.0.3^{{commit}}")
    return change_since(root, commit, f"runs/{RUNS[2]}", place)


def gained(low: float) -> Verdict:
    verdict = fake_verdict(passed=True)
    against = Comparison(other="champion", difference=0.05, low=low, high=0.1, wins=9, losses=1)
    return verdict.model_copy(update={"comparisons": {TARGET: (against,)}})


def test_the_same_base_and_benchmarks_without_a_proved_gain_are_a_patch(released: Path, place: Path) -> None:
    assert change(released, place) == ("patch", "no gain is proved")


def test_a_proved_gain_over_the_champion_is_minor(released: Path, place: Path) -> None:
    write_json(place / paths.VERDICT, gained(0.01))
    assert change(released, place) == ("minor", f"a proved gain in {TARGET}")


def test_another_base_is_major_whatever_was_gained(released: Path, place: Path) -> None:
    base = read_json(place / paths.BASE_RECORD, BaseRecord)
    write_json(place / paths.BASE_RECORD, base.model_copy(update={"digest": "9" * 64}))
    write_json(place / paths.VERDICT, gained(0.01))
    assert change(released, place) == ("major", "another base model")


def test_another_definition_of_a_benchmark_is_major(released: Path, place: Path) -> None:
    measured = read_json(place / paths.EVALUATE_CANDIDATE / paths.EVALUATION, Evaluation)
    other = measured.fingerprints[0].model_copy(update={"definition_digest": "8" * 64})
    write_json(
        place / paths.EVALUATE_CANDIDATE / paths.EVALUATION, measured.model_copy(update={"fingerprints": (other,)})
    )
    assert change(released, place) == ("major", "another definition of ticket_routing")


def test_a_release_before_that_is_not_ours_is_no_ground_to_say_that_nothing_changed(
    released: Path, place: Path
) -> None:
    head = git(released, "rev-parse", "HEAD")
    assert change_since(released, head, "runs/", place)[0] == "major"


def test_how_a_benchmark_was_computed_does_not_count_and_a_new_one_breaks_no_promise() -> None:
    before = evaluation("candidate", 0.5)
    print_ = before.fingerprints[0]
    computed = print_.model_copy(update={"dtype": "bfloat16", "batch_size": 1, "engine": "another", "seed": 2})
    new = print_.model_copy(update={"benchmark": "another"})
    assert changed_benchmarks(before, before.model_copy(update={"fingerprints": (computed, new)})) == []
    gone = before.model_copy(update={"fingerprints": (new,)})
    assert changed_benchmarks(before, gone) == ["ticket_routing"]


@pytest.mark.parametrize(("low", "names"), [(0.0, []), (0.001, [TARGET])])
def test_a_gain_is_proved_when_its_interval_lies_above_zero(low: float, names: list[str]) -> None:
    assert proved_gains(gained(low)) == names


def test_a_gain_on_what_the_gate_only_guards_does_not_count() -> None:
    verdict = gained(0.01)
    guarded = verdict.model_copy(update={"comparisons": {"general_knowledge acc": verdict.comparisons[TARGET]}})
    assert proved_gains(guarded) == []


@pytest.mark.parametrize(("outcome", "names"), [("passed", [TARGET]), ("refused", [])])
def test_a_gain_that_the_gate_itself_decided_counts(outcome: str, names: list[str]) -> None:
    result = RuleResult(
        benchmark="ticket_routing", metric="exact_match", condition="gain_over_champion", threshold=0.0, found=0.1,
        outcome=outcome, reason="",
    )  # fmt: skip
    verdict = fake_verdict(passed=True)
    assert proved_gains(verdict.model_copy(update={"results": (*verdict.results, result)})) == names


@pytest.mark.parametrize(("which", "following"), [("major", "v2.0.0"), ("minor", "v1.3.0"), ("patch", "v1.2.4")])
def test_the_number_that_is_raised_sets_those_after_it_to_zero(short_line: Path, which: str, following: str) -> None:
    git(short_line, "tag", f"{NAME}@v1.2.3")
    assert registry.next_version(short_line, NAME, which) == following  # type: ignore[arg-type]
