import json
from pathlib import Path

import pytest

from tasks import gate as gate_stage
from tasks import paths
from tasks.clean_scores import clean_line, clean_scores
from tasks.digests import digest_path
from tasks.files import read_json, write_json
from tasks.gate import judge, same_template, summary_lines
from tasks.params import GateParams, Rule, load_params
from tasks.records import (
    Champion,
    CleanScore,
    ContaminatedItems,
    Evaluation,
    Fingerprint,
    Score,
    SupervisionAudit,
    Verdict,
)

ADAPTER = "a" * 64


def rule(**changes: object) -> Rule:
    asked: dict[str, object] = {
        "benchmark": "routing",
        "metric": "exact_match",
        "filter_name": "none",
        "min_value": None,
        "min_gain_over_base": None,
        "max_loss_from_base": None,
        "max_loss_from_champion": None,
    }
    return Rule.model_validate(asked | changes)


def gate(*rules: Rule) -> GateParams:
    return GateParams(rules=list(rules), confidence=0.95, resamples=500, seed=1)


def evaluation(
    model: str,
    right: int,
    items: int = 100,
    *,
    limit: int | None = None,
    batch_size: int = 8,
    lower_is_better: bool = False,
) -> Evaluation:
    values = tuple(float(index < right) for index in range(items))
    fingerprint = Fingerprint(
        benchmark="routing",
        harness_version="0.4.13",
        definition_digest="d",
        num_fewshot=0,
        limit=limit,
        chat_template_digest="c",
        dtype="float32",
        batch_size=batch_size,
        max_length=256,
        seed=1,
    )
    score = Score(
        benchmark="routing",
        metric="exact_match",
        filter_name="none",
        value=right / items if items else 0.0,
        stderr=None,
        samples=items,
        higher_is_better=not lower_is_better,
        per_sample=values,
    )
    return Evaluation(
        model=model, weights_digest=model, adapter_digest=ADAPTER, fingerprints=(fingerprint,), scores=(score,)
    )


def verdict(asked: Rule, base: Evaluation, candidate: Evaluation, champion: Evaluation | None = None) -> Verdict:
    return judge(gate(asked), base, candidate, Champion(evaluation=champion), ADAPTER)


@pytest.mark.parametrize(("right", "expected"), [(49, "refused"), (50, "passed")])
def test_the_floor_itself_passes(right: int, expected: str) -> None:
    assert verdict(rule(min_value=0.5), evaluation("base", 0), evaluation("candidate", right)).verdict == expected


def test_a_gain_must_be_proved_not_only_seen() -> None:
    found = verdict(rule(min_gain_over_base=0.3), evaluation("base", 10), evaluation("candidate", 42))
    assert found.comparisons["routing exact_match"][0].difference == pytest.approx(0.32)
    assert found.verdict == "refused"


def test_a_large_gain_passes_and_counts_wins_and_losses() -> None:
    found = verdict(rule(min_gain_over_base=0.3), evaluation("base", 10), evaluation("candidate", 80))
    assert (found.verdict, found.comparisons["routing exact_match"][0].wins) == ("passed", 70)


@pytest.mark.parametrize(("right", "expected"), [(47, "passed"), (46, "refused")])
def test_a_guard_may_lose_its_margin_and_no_more(right: int, expected: str) -> None:
    found = verdict(rule(max_loss_from_base=0.03), evaluation("base", 50), evaluation("candidate", right))
    assert found.verdict == expected


def test_a_metric_where_less_is_better_is_turned_round() -> None:
    base, candidate = (
        evaluation(name, right, lower_is_better=True) for name, right in (("base", 20), ("candidate", 90))
    )
    assert verdict(rule(max_loss_from_base=0.1), base, candidate).verdict == "refused"


def test_a_candidate_worse_than_the_champion_is_refused_although_it_beats_the_base() -> None:
    asked = rule(min_gain_over_base=0.1, max_loss_from_champion=0.03)
    found = verdict(asked, evaluation("base", 0), evaluation("candidate", 60), evaluation("champion", 70))
    assert found.failures[0].startswith("routing exact_match: moved -10.0 points from the champion (-")
    assert found.verdict == "refused"


def test_no_champion_leaves_its_condition_out() -> None:
    asked = rule(min_value=0.5, max_loss_from_champion=0.03)
    assert [item.condition for item in verdict(asked, evaluation("base", 0), evaluation("candidate", 60)).results] == [
        "min_value"
    ]


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (evaluation("candidate", 0, items=0), "no samples of candidate on routing exact_match"),
        (evaluation("candidate", 90, limit=100), "was limited to 100 items"),
        (evaluation("candidate", 90, batch_size=16), "measured under different fingerprints"),
    ],
)
def test_missing_evidence_is_a_refusal(candidate: Evaluation, reason: str) -> None:
    found = verdict(rule(min_value=0.1, min_gain_over_base=0.1), evaluation("base", 0), candidate)
    assert found.verdict == "refused"
    assert reason in found.failures[0]


def test_a_champion_measured_otherwise_is_refused_with_the_command_that_takes_it_out() -> None:
    asked = rule(min_value=0.1, max_loss_from_champion=0.03)
    champion = evaluation("champion", 70, batch_size=16)
    found = verdict(asked, evaluation("base", 0), evaluation("candidate", 90), champion)
    assert found.failures[0].endswith(
        "go back to the settings it was measured under, or take the champion out of its stage with "
        "`gto deprecate NAME VERSION STAGE`; `tunegate status` names all three"
    )


def test_a_metric_that_was_not_measured_is_a_refusal() -> None:
    found = verdict(rule(metric="f1", min_value=0.0), evaluation("base", 0), evaluation("candidate", 90))
    assert "no samples of candidate on routing f1" in found.failures[0]


def test_scores_of_another_adapter_are_no_evidence() -> None:
    candidate = evaluation("candidate", 90).model_copy(update={"adapter_digest": "b" * 64})
    found = verdict(rule(min_value=0.1), evaluation("base", 0), candidate)
    assert found.failures == ("routing exact_match: measured was adapter bbbbbbbbbbbb, to judge is aaaaaaaaaaaa",)


def test_a_rule_that_asks_nothing_proves_nothing() -> None:
    found = verdict(rule(), evaluation("base", 0), evaluation("candidate", 90))
    assert (found.verdict, found.failures) == ("refused", ("no rule asks anything, so nothing was proved",))


def test_the_same_evidence_gives_the_same_verdict() -> None:
    asked = rule(min_gain_over_base=0.3)
    first, second = (verdict(asked, evaluation("base", 10), evaluation("candidate", 60)) for _ in range(2))
    assert first == second


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


def test_clean_scores_stand_in_the_lines_and_change_no_verdict() -> None:
    asked, evaluations = rule(min_value=0.6), (evaluation("base", 10), evaluation("candidate", 60))
    judged = judge(gate(asked), *evaluations, Champion(), ADAPTER)
    told = judged.model_copy(update={"clean_scores": without({"routing": tuple(range(20))})})
    assert (told.verdict, told.results) == ("passed", judged.results)
    assert summary_lines(told) == [
        "gate: ok      routing exact_match: 60.0 % reaches the floor of 60.0 %",
        (
            "gate: clean   routing exact_match: the base has seen 20 of 100 items; "
            "without them base 0.0 %, candidate 50.0 %"
        ),
        "gate: PASSED",
    ]


def test_a_verdict_of_before_clean_scores_parses() -> None:
    judged = judge(gate(rule(min_value=0.6)), evaluation("base", 10), evaluation("candidate", 60), Champion(), ADAPTER)
    old = judged.model_dump(mode="json", exclude={"clean_scores"})
    assert Verdict.model_validate_json(json.dumps(old)) == judged


def test_the_gate_tells_clean_scores_from_the_items_that_split_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / paths.ADAPTER).mkdir(parents=True)
    (tmp_path / paths.ADAPTER / "weights").write_text("w")
    base, candidate = evaluation("base", 10), evaluation("candidate", 60)
    candidate = candidate.model_copy(update={"adapter_digest": digest_path(paths.ADAPTER)})
    write_json(paths.EVALUATE_BASE / paths.EVALUATION, base)
    write_json(paths.EVALUATE_CANDIDATE / paths.EVALUATION, candidate)
    write_json(paths.CHAMPION, Champion())
    write_json(
        paths.CONTAMINATED_ITEMS,
        ContaminatedItems(checked={"routing": 100}, seen_by_base={"routing": tuple(range(20))}),
    )
    write_json(paths.SUPERVISION, audit("c"))
    shipped = load_params(Path(__file__).parents[2] / paths.PARAMS)
    params = shipped.model_copy(update={"gate": gate(rule(min_value=0.6))})
    monkeypatch.setattr(gate_stage, "load_params", lambda: params)
    gate_stage.main()
    found = read_json(paths.VERDICT, Verdict)
    assert (found.verdict, [score.candidate for score in found.clean_scores]) == ("passed", [0.5])


def audit(template_digest: str) -> SupervisionAudit:
    return SupervisionAudit(
        rows=1, max_length=256, trained_tokens=2, fewest_trained_tokens=2, median_trained_tokens=2.0,
        most_trained_tokens=2, rows_without_trained_tokens=0, rows_without_stop_token=0, stop_token="<end>",
        generation_stop_tokens=(1,), template_digest=template_digest, checks=(), examples=(),
    )  # fmt: skip


@pytest.mark.parametrize(("trained", "expected"), [("c", "passed"), ("other", "refused")])
def test_scores_under_another_chat_template_than_training_s_are_refused(trained: str, expected: str) -> None:
    candidate = evaluation("candidate", 60)
    passed = judge(gate(rule(min_value=0.5)), evaluation("base", 10), candidate, Champion(), ADAPTER)
    found = same_template(passed, candidate, trained)
    assert found.verdict == expected
    assert [failure.split(";")[0] for failure in found.failures] == (
        [] if expected == "passed" else ["routing: measured with chat template c, trained with other"]
    )
