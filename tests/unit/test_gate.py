from pathlib import Path

import pytest

from tasks import gate as gate_stage
from tasks import paths
from tasks.approvals import Approval, require_approval
from tasks.clean_scores import clean_line, clean_scores
from tasks.digests import digest_path
from tasks.errors import FileInvalid, NotApproved
from tasks.files import read_json, write_json, write_jsonl, write_text
from tasks.finding_changes import PreparedWith
from tasks.params import load_params
from tasks.params_gate import Bound, Rule
from tasks.records import (
    BenchmarkItem,
    Champion,
    Conflict,
    ContaminatedItems,
    DataSummary,
    Ending,
    Evaluation,
    ExpectationResult,
    Sample,
    SupervisionAudit,
    Validation,
)
from tasks.tables import write_examples, write_records
from tasks.verdict_records import CleanScore, GateEvidence, LabelNoise, Verdict
from tests.unit.evaluations import evaluation, gate, rule
from tests.unit.rows import example
from tests.unit.test_diagnosis import METRICS


def without(
    seen: dict[str, tuple[int, ...]], champion: Evaluation | None = None, asked: Rule | None = None
) -> tuple[CleanScore, ...]:
    contaminated = ContaminatedItems(checked={"routing": 100}, seen_by_base=seen)
    rules = gate(asked or rule(min_value=0.1))
    return clean_scores(
        rules, contaminated, evaluation("base", 10), evaluation("candidate", 60), Champion(evaluation=champion)
    )


def test_items_that_the_base_has_seen_are_left_out_of_the_clean_scores() -> None:
    (found,) = without({"routing": tuple(range(20))}, evaluation("champion", 40))
    assert (found.items, found.clean_items) == (100, 80)
    assert (found.base, found.candidate, found.champion) == (0.0, 0.5, 0.25)
    assert clean_line(found) == (
        "routing exact_match: the base has seen 20 of 100 items; "
        "without them base 0.0 %, candidate 50.0 %, champion 25.0 %"
    )


def test_a_benchmark_that_the_base_has_not_seen_has_no_clean_scores() -> None:
    assert without({}) == ()
    assert without({"other": (1, 2)}) == ()


def test_a_benchmark_that_the_base_has_seen_whole_has_no_clean_figure() -> None:
    (found,) = without({"routing": tuple(range(100))})
    assert (found.clean_items, found.base, found.candidate, found.champion) == (0, None, None, None)
    assert clean_line(found).endswith("has seen 100 of 100 items; without them nothing is left")


def test_a_metric_that_was_not_measured_has_no_clean_figure() -> None:
    (found,) = without({"routing": (1,)}, asked=rule(metric="f1", min_value=0.1))
    assert (found.items, found.clean_items, found.candidate) == (0, 0, None)


def test_two_rules_about_one_metric_tell_it_once() -> None:
    contaminated = ContaminatedItems(checked={"routing": 100}, seen_by_base={"routing": (1,)})
    asked = gate(rule(min_value=0.1), rule(min_gain_over_base=0.1))
    found = clean_scores(asked, contaminated, evaluation("base", 10), evaluation("candidate", 60), Champion())
    assert len(found) == 1


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What earlier stages leave to the gate, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_text(paths.ADAPTER / "weights", "w" * 1000)
    candidate = evaluation("candidate", 60).model_copy(update={"adapter_digest": digest_path(paths.ADAPTER)})
    write_json(paths.EVALUATE_BASE / paths.EVALUATION, evaluation("base", 10))
    write_json(paths.EVALUATE_CANDIDATE / paths.EVALUATION, candidate)
    write_json(paths.CHAMPION, Champion())
    seen = {"routing": tuple(range(20))}
    write_json(paths.CONTAMINATED_ITEMS, ContaminatedItems(checked={"routing": 100}, seen_by_base=seen))
    write_json(paths.SUPERVISION, audit("c"))
    write_json(paths.TRAIN_METRICS, METRICS)
    write_jsonl(paths.TRAIN_HISTORY, [])
    write_json(paths.VALIDATION, validation("0.0025"))
    write_items("Where does the parcel with the green bow stand", "Who has the key to the second door")
    write_rows(paths.TRAIN_EXAMPLES, "The printer is out of paper again", "My invoice names the wrong street")
    write_rows(paths.VALIDATION_EXAMPLES, "The password letter never came")
    conflicts = [conflict(f"a{number}", f"b{number}") for number in range(3)]
    write_records(paths.DEDUP / paths.CONFLICTS, conflicts, Conflict)
    write_json(
        paths.DEDUP / paths.SUMMARY,
        DataSummary(stage="dedup", rows_in=600, rows_out=590, dropped={}, changed={}, kept={}),
    )
    samples = [answer(item, "limit") for item in range(100)]
    write_jsonl(paths.EVALUATE_CANDIDATE / paths.SAMPLES, samples)
    return tmp_path


def write_items(*questions: str) -> None:
    items = [
        BenchmarkItem(benchmark="routing", item=place, part="question", text=text)
        for place, text in enumerate(questions)
    ]
    write_records(paths.BENCHMARK_ITEMS / paths.ITEMS, items, BenchmarkItem)


def write_rows(path: Path, *questions: str) -> None:
    write_examples(path, [example(f"row-{place}", question) for place, question in enumerate(questions)])


def conflict(left: str, right: str) -> Conflict:
    return Conflict(left=left, right=right, similarity=1.0, left_completion="billing", right_completion="sales")


def answer(item: int, ending: Ending | None) -> Sample:
    return Sample(
        benchmark="routing", item=item, prompt="p", target="billing" if item % 2 else "sales",
        answer="sales" if item % 2 else "billing", metrics={"exact_match": 0.0}, ending=ending,
    )  # fmt: skip


def audit(template_digest: str) -> SupervisionAudit:
    return SupervisionAudit(
        rows=1, max_length=256, trained_tokens=2, fewest_trained_tokens=2, median_trained_tokens=2.0,
        most_trained_tokens=2, rows_without_trained_tokens=0, rows_without_stop_token=0, stop_token="<end>",
        generation_stop_tokens=(1,), template_digest=template_digest, checks=(), examples=(),
    )  # fmt: skip


def validation(share: str) -> Validation:
    asked = "expect_column_mean_to_be_between(max_value=0.0, min_value=0)"
    result = ExpectationResult(expectation=asked, subject="has_pii", success=True, observed=share)
    return Validation(suite="examples", success=True, results=(result,))


def run_gate(monkeypatch: pytest.MonkeyPatch, asked: Rule, *measured: Bound) -> Verdict:
    shipped = load_params(Path(__file__).parents[2] / paths.PARAMS)
    params = shipped.model_copy(update={"gate": gate(asked, measured=measured)})
    monkeypatch.setattr(gate_stage, "load_params", lambda: params)
    gate_stage.main()
    return read_json(paths.VERDICT, Verdict)


@pytest.mark.parametrize(
    ("floor", "expected", "decision"),
    [(0.4, "passed", "approved"), (0.6, "inconclusive", "inconclusive"), (0.8, "refused", "refused")],
)
def test_the_decision_about_the_adapter_is_that_of_the_verdict(
    line: Path, monkeypatch: pytest.MonkeyPatch, floor: float, expected: str, decision: str
) -> None:
    assert run_gate(monkeypatch, rule(min_value=floor)).verdict == expected
    assert read_json(paths.ADAPTER_APPROVAL, Approval).decision == decision


def test_an_inconclusive_adapter_is_not_merged(line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_gate(monkeypatch, rule(min_value=0.6))
    with pytest.raises(NotApproved, match="gate proved neither good nor bad; see the verdict"):
        require_approval(paths.ADAPTER_APPROVAL, paths.ADAPTER, "see the verdict")


def test_the_gate_leaves_what_its_verdict_rests_on(line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_gate(monkeypatch, rule(min_value=0.4))
    assert [score.candidate for score in found.clean_scores] == [0.5]
    evidence = read_json(paths.GATE_EVIDENCE, GateEvidence)
    assert (evidence.adapter_digest, evidence.template_digest) == (digest_path(paths.ADAPTER), "c")
    assert evidence.figures == {
        "adapter_bytes": 1000, "contaminated_rows": 0,
        "eval_loss": 0.1, "final_loss": 0.1, "pii_share": 0.0025, "seen_items_share": 0.2,
        "trainable_share": 0.01, "train_tokens": 100,
    }  # fmt: skip


@pytest.mark.parametrize("path", [paths.TRAIN_EXAMPLES, paths.VALIDATION_EXAMPLES])
def test_rows_that_hold_an_item_and_came_in_after_the_split_are_refused(
    line: Path, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    write_rows(
        path, "Where does the parcel with the green bow stand?", "where does the parcel with the GREEN bow stand"
    )
    bound = Bound(figure="contaminated_rows", min=None, max=0)
    found = run_gate(monkeypatch, rule(min_value=0.4), bound)
    assert found.verdict == "refused"
    assert found.failures == (
        "run contaminated_rows: rows of training or validation that hold an item of a benchmark: 2, at most 0 is asked",
    )


def test_the_same_evidence_gives_the_same_bytes(line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_gate(monkeypatch, rule(min_value=0.6, min_gain_over_base=0.3))
    first = paths.VERDICT.read_bytes()
    run_gate(monkeypatch, rule(min_value=0.6, min_gain_over_base=0.3))
    assert paths.VERDICT.read_bytes() == first


def test_an_evaluation_with_n_a_in_it_is_refused_by_a_verdict_not_by_a_crash(
    line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = paths.EVALUATE_CANDIDATE / paths.EVALUATION
    write_text(file, file.read_text(encoding="utf-8").replace("1.0,", '"N/A",', 1))
    found = run_gate(monkeypatch, rule(min_value=0.1))
    assert (found.verdict, found.results[0].problem) == ("refused", "unreadable")
    assert "scores.0.per_sample.0: Input should be a valid number" in found.failures[0]


def test_an_evaluation_that_is_not_there_is_no_refusal_but_a_missing_file(
    line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (paths.EVALUATE_BASE / paths.EVALUATION).unlink()
    with pytest.raises(FileInvalid, match="no such file; run `dvc repro` to make it"):
        run_gate(monkeypatch, rule(min_value=0.1))


def test_a_suite_that_does_not_ask_for_personal_data_leaves_no_figure(
    line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(paths.VALIDATION, Validation(suite="examples", success=True, results=()))
    run_gate(monkeypatch, rule(min_value=0.4))
    assert read_json(paths.GATE_EVIDENCE, GateEvidence).figures["pii_share"] is None


def test_what_findings_are_made_of_is_kept_as_evidence(line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_gate(monkeypatch, rule(min_value=0.4))
    kept = read_json(paths.GATE_EVIDENCE, GateEvidence)
    assert kept.trained_with is not None
    assert (kept.trained_with.learning_rate, kept.trained_with.r) == (7e-4, 16)
    assert kept.prepared_with == PreparedWith(replay_share=0.08, has_replay=True, conflicting_answers="drop")
    assert kept.label_noise == LabelNoise(pairs=3, rows=6, compared=600, example=("a0", "b0"))
    assert [(item.generated, item.at_limit) for item in kept.answers] == [(100, 100)]
    assert [(item.labels, item.swapped) for item in kept.swapped_labels] == [(2, 2)]
    assert found.verdict == "passed"
    assert [finding.mode for finding in found.diagnosis] == ["stop_token", "noisy_data", "noisy_data"]


def test_an_evaluation_that_cannot_be_read_is_a_finding(line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(paths.EVALUATE_CANDIDATE / paths.EVALUATION, "{")
    (finding,) = run_gate(monkeypatch, rule(min_value=0.4)).diagnosis
    assert finding.text.startswith("evidence is missing on routing (unreadable): mend the evaluation")
