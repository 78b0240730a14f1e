"""What verdicts planted evaluations get: the gate without any model."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from tasks.errors import FileInvalid
from tasks.files import dump_json, parse_json
from tasks.findings import Finding
from tasks.gate_evidence import Case
from tasks.params import load_params
from tasks.params_gate import Bound, GateParams
from tasks.records import Champion, Evaluation
from tasks.verdict import judge
from tasks.verdict_records import RuleResult, Verdict
from tasks.verdict_text import summary_lines
from tests.contract.imports import ROOT
from tests.unit.evaluations import EVIDENCE, evaluation, fingerprint, gate, measured, rule, score, verdict


def only(found: Verdict) -> RuleResult:
    (result,) = found.results
    return result


@pytest.mark.parametrize(
    ("right", "expected"), [(59, "passed"), (58, "inconclusive"), (42, "inconclusive"), (41, "refused")]
)
def test_a_floor_is_proved_to_hold_or_not_to_or_neither(right: int, expected: str) -> None:
    found = verdict(rule(min_value=0.5), evaluation("base", 0), evaluation("candidate", right))
    assert found.verdict == expected
    assert only(found).method == "exact_binomial"


def test_an_inconclusive_condition_names_the_items_that_would_decide() -> None:
    found = verdict(rule(min_value=0.5), evaluation("base", 0), evaluation("candidate", 58))
    assert only(found).items_needed == 236
    assert found.undecided == (
        (
            "routing exact_match: 58.0 % (48.0 % to 67.0 %), the floor is 50.0 %: neither proved nor disproved by 100 "
            "items, about 236 would decide"
        ),
    )
    assert (found.failures, found.reasons) == ((), found.undecided)


def test_where_the_estimate_is_the_threshold_no_number_of_items_is_named() -> None:
    found = verdict(rule(min_value=0.5), evaluation("base", 0), evaluation("candidate", 50))
    assert (only(found).outcome, only(found).items_needed) == ("inconclusive", None)
    assert only(found).reason.endswith("by 100 items, no number of them would")


def test_a_gain_must_be_proved_not_only_seen() -> None:
    found = verdict(rule(min_gain_over_base=0.3), evaluation("base", 10), evaluation("candidate", 42))
    assert found.comparisons["routing exact_match"][0].difference == pytest.approx(0.32)
    assert found.verdict == "inconclusive"


def test_a_gain_without_a_margin_is_decided_by_the_exact_mcnemar_test() -> None:
    found = verdict(rule(min_gain_over_base=0.0), evaluation("base", 10), evaluation("candidate", 15))
    assert (only(found).method, only(found).p_holds) == ("exact_mcnemar", 2**-5)
    assert found.verdict == "passed"


def test_a_large_gain_passes_and_counts_wins_and_losses() -> None:
    found = verdict(rule(min_gain_over_base=0.3), evaluation("base", 10), evaluation("candidate", 80))
    assert (found.verdict, found.comparisons["routing exact_match"][0].wins) == ("passed", 70)


@pytest.mark.parametrize(
    ("right", "expected"), [(50, "passed"), (47, "inconclusive"), (30, "refused")], ids=["equal", "less", "far less"]
)
def test_a_loss_within_the_margin_must_be_proved(right: int, expected: str) -> None:
    found = verdict(rule(max_loss_from_base=0.05), evaluation("base", 50), evaluation("candidate", right))
    assert found.verdict == expected


def test_where_less_is_better_floors_gains_and_losses_are_turned_round() -> None:
    def errors(model: str, value: float) -> Evaluation:
        return measured(model, score([value, value + 0.02] * 30, higher_is_better=False))

    better = rule(min_value=0.5, min_gain_over_base=0.1)
    assert verdict(better, errors("base", 0.6), errors("candidate", 0.2)).verdict == "passed"
    assert verdict(better, errors("base", 0.2), errors("candidate", 0.6)).verdict == "refused"
    found = verdict(rule(min_value=0.5), errors("base", 0.6), errors("candidate", 0.2))
    assert (only(found).found, only(found).threshold) == (0.21, 0.5)


def test_real_values_are_decided_by_drawing_within_the_rule_s_range() -> None:
    values = [float(value) for value in np.random.default_rng(1).normal(-2.0, 0.3, 80).clip(-3, 0)]
    base, candidate = measured("base", score([value - 0.5 for value in values])), measured("candidate", score(values))
    found = verdict(rule(range=[-4.0, 0.0], min_gain_over_base=0.1), base, candidate)
    assert (found.verdict, only(found).method) == ("passed", "bounded_mean")


def test_a_candidate_worse_than_the_champion_is_refused_although_it_beats_the_base() -> None:
    asked = rule(min_gain_over_base=0.1, max_loss_from_champion=0.03)
    found = verdict(asked, evaluation("base", 0), evaluation("candidate", 60), evaluation("champion", 80))
    assert found.verdict == "refused"
    assert found.failures[0].startswith("routing exact_match: moved -20.0 points from the champion (-")
    assert found.champion == "router@v0.0.1"


def test_without_a_champion_the_base_stands_in_and_it_is_said() -> None:
    asked = rule(max_loss_from_champion=0.1)
    found = verdict(asked, evaluation("base", 50), evaluation("candidate", 60))
    assert (found.verdict, found.champion, only(found).other) == ("passed", None, "base")
    assert "moved +10.0 points from the base, which stands in as there is no champion (" in only(found).reason
    assert verdict(asked, evaluation("base", 50), evaluation("candidate", 10)).verdict == "refused"


@pytest.mark.parametrize(
    ("tie", "right", "expected"),
    [("candidate", 70, "passed"), ("champion", 70, "refused"), ("champion", 85, "passed"), ("champion", 72, "refused")],
)
def test_a_tie_goes_to_whom_the_parameters_say(tie: str, right: int, expected: str) -> None:
    asked = gate(rule(min_gain_over_base=0.1, max_loss_from_champion=0.1), tie=tie)
    found = verdict(asked, evaluation("base", 0), evaluation("candidate", right), evaluation("champion", 70))
    assert found.verdict == expected
    if expected == "refused":
        assert "and gate.tie asks for a gain: no gain is proved" in found.failures[0]


def test_a_tie_is_broken_by_one_metric_of_several_at_the_price_of_having_chosen_it() -> None:
    def both(model: str, first: int, second: int) -> Evaluation:
        made = [
            score([float(item < right) for item in range(100)], metric=name) for name, right in named(first, second)
        ]
        return measured(model, *made)

    def named(first: int, second: int) -> list[tuple[str, int]]:
        return [("exact_match", first), ("f1", second)]

    asked = gate(*(rule(metric=name, max_loss_from_champion=0.2) for name, _ in named(0, 0)), tie="champion")
    base, champion = both("base", 0, 0), both("champion", 70, 70)
    assert verdict(asked, base, both("candidate", 70, 78), champion).verdict == "passed"
    assert verdict(asked, base, both("candidate", 70, 75), champion).verdict == "refused"  # 2 x 1/32 > 0.05
    assert verdict(asked, base, both("candidate", 70, 78), champion).results[-1].metric == "f1"


def test_holm_counts_the_conditions() -> None:
    base, candidate = evaluation("base", 50), evaluation("candidate", 59)
    alone = verdict(rule(min_value=0.5), base, candidate)
    beside = verdict(rule(min_value=0.5, min_gain_over_base=0.0, max_loss_from_base=0.0), base, candidate)
    assert alone.verdict == "passed"
    assert [result.p_holds for result in beside.results] == pytest.approx([0.0443, 3 * 2**-9, 3 * 2**-9], rel=0.01)
    harder = verdict(gate(rule(min_value=0.5), rule(min_value=0.5)), base, candidate)
    assert harder.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("candidate", "problem", "reason"),
    [
        (
            measured("candidate"),
            "not_measured",
            "candidate was not measured on routing; name it in",
        ),
        (
            measured("candidate", score([1.0], metric="f1")),
            "not_measured",
            "no samples of candidate on routing exact_match with filter 'none'; measured was f1 with filter 'none'",
        ),
        (evaluation("candidate", 0, items=0), "no_samples", "no samples of candidate on routing exact_match"),
        (measured("candidate", score([1.0] * 99, samples=100)), "torn", "99 values of 100 items"),
        (measured("candidate", score([1.0, math.nan] * 50)), "not_finite", "item 1: nan is not a finite number"),
        (measured("candidate", score([1.0, math.inf] * 50)), "not_finite", "item 1: inf is not a finite number"),
        (measured("candidate", score([1.0] * 100, value=math.nan)), "not_finite", "nan is not a finite number"),
        (evaluation("candidate", 90, limit=100), "limited", "was limited to 100 items; set evaluate.limit to null"),
        (measured("candidate", score([1.0, 7.5] * 50)), "outside_range", "item 1: 7.5 lies outside the rule's range"),
        (
            evaluation("candidate", 90, batch_size=16),
            "other_fingerprint",
            "under different fingerprints (batch_size 16 and 8); run `dvc repro evaluate_base`",
        ),
        (evaluation("candidate", 90, items=101), "other_items", "candidate has 101 items of routing and base has 100"),
        (
            evaluation("candidate", 90).model_copy(update={"adapter_digest": "b" * 64}),
            "other_adapter",
            "measured was adapter bbbbbbbbbbbb, to judge is aaaaaaaaaaaa",
        ),
        (
            evaluation("candidate", 90, chat_template_digest="other"),
            "other_template",
            "measured with chat template other, trained with c; run `dvc repro train evaluate_candidate`",
        ),
    ],
)
def test_no_evidence_is_a_refusal_with_its_own_reason(candidate: Evaluation, problem: str, reason: str) -> None:
    found = verdict(rule(min_value=0.1, min_gain_over_base=0.1), evaluation("base", 0), candidate)
    assert found.verdict == "refused"
    assert (only(found).condition, only(found).problem) == ("evidence", problem)
    assert reason in found.failures[0]


def test_a_missing_task_is_a_refusal_although_all_others_pass() -> None:
    asked = gate(rule(min_value=0.1), rule(benchmark="knowledge", metric="acc", max_loss_from_base=0.1))
    found = verdict(asked, evaluation("base", 0), evaluation("candidate", 90))
    assert [(item.outcome, item.problem) for item in found.results] == [("passed", None), ("refused", "not_measured")]
    assert found.verdict == "refused"


def test_a_champion_measured_otherwise_is_refused_with_the_command_that_takes_it_out() -> None:
    asked = rule(min_value=0.1, max_loss_from_champion=0.03)
    champion = evaluation("champion", 70, batch_size=16)
    found = verdict(asked, evaluation("base", 0), evaluation("candidate", 90), champion)
    assert found.failures[0].endswith(
        "go back to the settings it was measured under, or take the champion out of its stage with "
        "`gto deprecate NAME VERSION STAGE`; `tunegate status` names all three"
    )


def test_a_rule_that_asks_nothing_proves_nothing() -> None:
    found = verdict(rule(), evaluation("base", 0), evaluation("candidate", 90))
    assert (found.verdict, found.failures) == ("refused", ("no rule asks anything, so nothing was proved",))


@pytest.mark.parametrize(
    ("bound", "outcome", "reason"),
    [
        ({"figure": "adapter_bytes", "min": None, "max": 1000.0}, "passed", "1,000, at most 1,000 is asked"),
        ({"figure": "adapter_bytes", "min": None, "max": 999.0}, "refused", "1,000, at most 999 is asked"),
        ({"figure": "adapter_bytes", "min": 1001.0, "max": None}, "refused", "1,000, at least 1,001 is asked"),
        (
            {"figure": "pii_share", "min": None, "max": 0.0},
            "passed",
            "share of examples with personal data: 0, at most 0",
        ),
        ({"figure": "eval_loss", "min": None, "max": 9.0}, "refused", "not measured in this run"),
        ({"figure": "train_tokens", "min": None, "max": 9.0}, "refused", "not measured in this run"),
    ],
)
def test_a_figure_besides_scores_is_held_against_its_bound(bound: dict[str, object], outcome: str, reason: str) -> None:
    asked = gate(rule(min_value=0.1), measured=[Bound.model_validate(bound)])
    found = verdict(asked, evaluation("base", 0), evaluation("candidate", 90))
    assert (found.results[-1].outcome, found.verdict) == (outcome, outcome)
    assert reason in found.results[-1].reason


def test_the_lines_for_a_terminal_say_what_is_proved() -> None:
    asked = gate(rule(min_value=0.45), rule(min_gain_over_base=0.45), rule(max_loss_from_base=0.1))
    assert summary_lines(verdict(asked, evaluation("base", 10), evaluation("candidate", 60))) == [
        (
            "gate: ok      routing exact_match: 60.0 % (51.0 % to 70.0 %), the floor is 45.0 %: "
            "proved to hold (p = 0.0036)"
        ),
        (
            "gate: open    routing exact_match: gained +50.0 points over the base (+41.0 points to +60.0 points), "
            "+45.0 points asked: neither proved nor disproved by 100 items, about 882 would decide"
        ),
        (
            "gate: ok      routing exact_match: moved +50.0 points from the base (+41.0 points to +60.0 points), a "
            "loss of 10.0 points is allowed: proved to hold (p < 0.0001)"
        ),
        "gate: INCONCLUSIVE",
    ]


def test_a_verdict_survives_writing_and_reading_and_its_bytes_are_stable() -> None:
    asked = gate(rule(min_value=0.5, min_gain_over_base=0.3, max_loss_from_champion=0.1))
    first, second = (verdict(asked, evaluation("base", 10), evaluation("candidate", 60)) for _ in range(2))
    assert dump_json(first) == dump_json(second)
    assert parse_json(dump_json(first), Verdict, "verdict.json") == first
    assert json.loads(dump_json(first))["schema_version"] == 3


def test_a_verdict_of_an_unknown_version_is_refused_with_what_to_do() -> None:
    text = dump_json(verdict(rule(min_value=0.1), evaluation("base", 0), evaluation("candidate", 60)))
    with pytest.raises(FileInvalid, match=r"a verdict of schema version 4; this tunegate reads versions 1 to 3: read"):
        parse_json(text.replace('"schema_version": 3', '"schema_version": 4'), Verdict, "verdict.json")


def test_a_verdict_of_version_1_is_still_read() -> None:
    result = {
        "benchmark": "routing", "metric": "exact_match", "condition": "min_value", "threshold": 0.5, "found": 0.4,
        "passed": False, "reason": "40.0 % is below the floor of 50.0 %",
    }  # fmt: skip
    old = {
        "schema_version": 1, "verdict": "refused", "adapter_digest": "a", "confidence": 0.95, "results": [result],
        "comparisons": {}, "failures": ["routing"], "diagnosis": [],
    }  # fmt: skip
    found = parse_json(json.dumps(old), Verdict, "verdict.json")
    assert (only(found).outcome, only(found).p_holds, found.schema_version) == ("refused", None, 3)


def test_the_sentences_of_version_2_are_findings_without_a_mode() -> None:
    new = json.loads(dump_json(verdict(rule(min_value=0.1), evaluation("base", 0), evaluation("candidate", 60))))
    old = new | {"schema_version": 2, "diagnosis": ["forgetting on routing: raise split.replay_share"]}
    (finding,) = parse_json(json.dumps(old), Verdict, "verdict.json").diagnosis
    assert (finding.mode, finding.text) == ("unclassified", "forgetting on routing: raise split.replay_share")
    assert (finding.evidence, finding.changes) == ({}, ())


def spread(routing: Callable[[int], bool], knowledge: Callable[[int], bool], model: str = "candidate") -> Evaluation:
    """An evaluation on benchmarks of the default's sizes."""
    return measured(
        model,
        score([float(routing(item)) for item in range(224)], "ticket_routing"),
        score([float(knowledge(item)) for item in range(180)], "general_knowledge", "acc"),
        fingerprints=[fingerprint("ticket_routing"), fingerprint("general_knowledge")],
    )


BASE = spread(lambda item: item < 0, lambda item: item % 25 < 16, "base")  # 64 % of general knowledge
CHAMPION = spread(lambda item: item % 2 == 0, lambda item: item % 25 < 18, "champion")
PLANTED = {  # routing, knowledge: item by item whether the candidate is right; the verdict without and with a champion
    "the default run": (lambda i: i % 57 < 29, lambda i: i % 25 < 18 or i % 25 > 23, "passed", "passed"),
    "good, general knowledge as before": (lambda i: i % 2 == 0, lambda i: i % 25 < 16, "passed", "inconclusive"),
    "good, other answers, as many right": (lambda i: i % 57 < 29, lambda i: i % 25 < 15 or i % 25 > 23, "passed", None),
    "trained on wrong labels": (lambda i: i % 5 == 0, lambda i: i % 25 < 16, "refused", "refused"),
    "trained on shuffled answers": (lambda i: i % 20 == 0, lambda i: i % 25 < 16, "refused", "refused"),
    "zero steps": (lambda i: i < 0, lambda i: i % 25 < 16, "refused", "refused"),
    "forgot a third": (lambda i: i % 2 == 0, lambda i: i % 25 < 8, "refused", "refused"),
    "forgot a little": (lambda i: i % 2 == 0, lambda i: i % 25 < 15, "inconclusive", None),
    "hardly above the floor": (lambda i: i % 57 < 21, lambda i: i % 25 < 18, "inconclusive", None),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_candidate_gets_the_verdict_that_it_deserves(name: str) -> None:
    routing, knowledge, alone, beside = PLANTED[name]
    default: GateParams = load_params(ROOT / "params.yaml").gate.model_copy(update={"measured": []})
    candidate = spread(routing, knowledge)
    for expected, champion in ((alone, None), (beside, CHAMPION)):
        found = judge(default, Case(BASE, candidate, Champion(evaluation=champion), EVIDENCE))
        assert expected in {None, found.verdict}, "\n".join(summary_lines(found))


def test_a_good_candidate_that_is_worse_than_the_champion_is_refused() -> None:
    default = load_params(ROOT / "params.yaml").gate.model_copy(update={"measured": []})
    strong = spread(lambda item: item % 10 < 8, lambda item: item % 25 < 18, "champion")
    candidate = spread(lambda item: item % 2 == 0, lambda item: item % 25 < 18)
    found = judge(default, Case(BASE, candidate, Champion(evaluation=strong), EVIDENCE))
    assert [item.condition for item in found.results if item.outcome == "refused"] == ["max_loss_from_champion"]


def test_a_finding_is_the_same_after_it_was_on_record() -> None:
    found = Finding(
        mode="under_fitting", evidence={"steps": 20, "late_fall": 0.0, "benchmark": "routing"}, sentence="s",
        mitigation="m", changes=({"lora.r": 32, "lora.lora_alpha": 64}, {"train.learning_rate": 3.5e-05}),
    )  # fmt: skip
    again = parse_json(dump_json(found), Finding, "it")
    assert again == found
    assert dump_json(again) == dump_json(found)
    assert repr(again) == repr(found)
