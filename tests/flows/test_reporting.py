import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import JsonValue

from flows.evidence import read_evidence
from flows.reporting import changed_answers, count_rows, markdown_verdict, score_table, write_report
from flows.run_record import RunRecord, RunStatus, parse_run_record
from flows.tables import STYLES
from flows.wording import flattened
from tasks import paths
from tasks.errors import FileInvalid
from tasks.files import dump_json, write_json, write_jsonl, write_text
from tasks.findings import unclassified
from tasks.gate_figures import judge_figure
from tasks.params_gate import Bound, Figure
from tasks.records import ExpectationResult, LedgerEntry, Sample, TrainMetrics, Validation
from tasks.tables import write_records
from tests.flows.fake_run import (
    FINDINGS,
    STAGES,
    crashed_record,
    fake_champion,
    fake_ledger,
    fake_metrics,
    fake_samples,
    fake_stages,
    fake_summaries,
    fake_supervision,
    fake_validation,
    fake_verdict,
    inconclusive_record,
    passed_record,
    refused_record,
    write_workspace,
)

HOSTILE = "<script>alert('row')</script>"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workspace")
    write_workspace(root)
    return root


@pytest.fixture(scope="module")
def passed(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page(passed_record(), workspace, tmp_path_factory.mktemp("passed"))


def page(record: RunRecord, workspace: Path, folder: Path) -> str:
    path = folder / "report.html"
    write_report(record, workspace, path)
    return path.read_text(encoding="utf-8")


def section(text: str, name: str) -> str:
    return text.split(f'<section id="{name}">', 1)[1].split("</section>", 1)[0]


def test_the_report_shows_every_candidate_of_the_merge_and_which_one_ships(passed: str) -> None:
    parity = section(passed, "parity")
    rows = re.findall(r'<th scope="row">(\w+) weights</th><td data-label="Ships">(\w+)</td>', parity)
    assert rows == [("dequantized", "yes"), ("original", "no")]
    assert "17 of 32" in parity
    assert "token 5" in parity


def test_the_report_shows_what_answering_costs_before_and_after_the_merge(passed: str) -> None:
    parity = section(passed, "parity")
    assert re.findall(r'(\w[\w ,]*)</th><td class="number">([\d.]+ ms)', parity) == [
        ("base", "51.5 ms"), ("base plus adapter", "63.2 ms"), ("merged, dequantized", "51.7 ms"),
    ]  # fmt: skip


def test_a_parity_report_of_before_has_no_table_of_candidates(workspace: Path, tmp_path: Path) -> None:
    record = passed_record()
    assert record.parity is not None
    before = record.parity.model_copy(update={"merged_from": None, "candidates": ()})
    stages = tuple(stage.model_copy(update={"serving": None}) for stage in record.stages)
    text = page(record.model_copy(update={"parity": before, "stages": stages}), workspace, tmp_path)
    assert "<table" not in section(text, "parity")


def test_a_record_survives_writing_and_reading() -> None:
    assert parse_run_record(dump_json(passed_record()), "runs/x.json") == passed_record()


def test_a_record_with_an_unknown_field_is_refused_by_name() -> None:
    text = dump_json(crashed_record()).replace('"run_id"', '"run_idd"')
    with pytest.raises(FileInvalid, match=r"runs/x\.json: not a RunRecord: .*run_id"):
        parse_run_record(text, "runs/x.json")


def test_a_local_time_is_refused() -> None:
    text = dump_json(crashed_record()).replace("2026-11-20T08:15:02Z", "2026-11-20T08:15:02+02:00")
    with pytest.raises(FileInvalid, match="started_at"):
        parse_run_record(text, "runs/x.json")


def test_the_same_run_gives_the_same_bytes(passed: str, workspace: Path, tmp_path: Path) -> None:
    assert page(passed_record(), workspace, tmp_path) == passed


def test_the_page_loads_nothing(passed: str) -> None:
    links = re.findall(r'(?:href|src|srcset|action|data)="([^"]*)"', passed)
    assert [link for link in links if not link.startswith("#")] == ["../index.html"]  # the page of all runs
    assert "url(" not in passed
    assert "@import" not in passed
    assert "<script" not in passed
    assert "http://" not in passed
    assert "https://" not in passed


def test_every_link_inside_the_page_has_its_target(passed: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', passed)
    assert set(re.findall(r'href="#([^"]+)"', passed)) <= set(ids)
    assert len(ids) == len(set(ids))


def test_plots_take_their_colours_from_the_page(passed: str) -> None:
    figures = "".join(re.findall(r"<figure>.*?</figure>", passed, flags=re.DOTALL))
    assert re.findall(r"#[0-9a-f]{6}\b", re.sub(r'href="#[^"]*"', "", figures)) == []
    assert "var(--candidate)" in figures


def test_the_verdict_comes_first(passed: str) -> None:
    places = [passed.index(f'id="{name}"') for name in ("verdict", "scores", "changed", "curves", "rows", "digests")]
    assert places == sorted(places)
    assert "PASSED</h1>" in passed


def test_a_row_with_a_script_is_text(workspace: Path, tmp_path: Path) -> None:
    write_workspace(tmp_path)
    sample = {"benchmark": "ticket_routing", "item": 0, "prompt": HOSTILE, "target": HOSTILE}
    for folder, right in ((paths.EVALUATE_BASE, 0.0), (paths.EVALUATE_CANDIDATE, 1.0)):
        metrics = {"exact_match": right}
        write_jsonl(tmp_path / folder / paths.SAMPLES, [Sample(**sample, answer=HOSTILE, metrics=metrics)])
    text = page(passed_record(), tmp_path, tmp_path)
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#39;row&#39;)" in text


def test_a_hostile_name_is_text_in_plots_too(workspace: Path, tmp_path: Path) -> None:
    record = passed_record()
    stage = record.stages[0].model_copy(update={"name": "<script>$x$"})
    line = record.scores[0].model_copy(update={"benchmark": '"><script>$x$'})
    changes = {"reason": HOSTILE, "stages": (stage,), "scores": (line,), "params": {HOSTILE: {HOSTILE: HOSTILE}}}
    text = page(record.model_copy(update=changes), workspace, tmp_path)
    assert "<script" not in text
    assert section(text, "timings").count("&lt;script&gt;$x$</text>") == 2


def test_a_refused_run_says_why_and_what_to_try(workspace: Path, tmp_path: Path) -> None:
    text = page(refused_record(), workspace, tmp_path)
    top = text.split('<section id="scores">')[0]
    assert "REFUSED</h1>" in top
    assert "ticket_routing exact_match: 27.1 % found where 40.0 % are asked" in top
    assert "look for wrong labels in the sources" in top
    assert "overfitting: best_eval_loss 0.292, last_eval_loss 0.401" in top
    assert (
        '<code title="params.yaml: lora.lora_alpha: 16, lora.r: 8">'
        "tunegate sweep --set lora.lora_alpha=16 --set lora.r=8</code>"
    ) in top
    assert "<code>tunegate sweep --suggested 20261120-081502-3f9c2a</code>" in top
    assert top.count("✕ no") == 3


def test_a_run_that_passed_shows_its_findings_as_hints(workspace: Path, tmp_path: Path) -> None:
    record = passed_record()
    assert record.verdict is not None
    assert "<h2>Hints</h2>" not in page(record, workspace, tmp_path)
    hinted = record.verdict.model_copy(update={"diagnosis": FINDINGS})
    text = page(record.model_copy(update={"verdict": hinted}), workspace, tmp_path)
    assert "<h2>Hints</h2>" in text
    assert "What to try" not in text
    assert "Hints:" in markdown_verdict(hinted)


def test_an_inconclusive_run_says_so_in_its_heading_with_the_items_needed(workspace: Path, tmp_path: Path) -> None:
    top = page(inconclusive_record(), workspace, tmp_path).split('<section id="scores">')[0]
    assert "INCONCLUSIVE</h1>" in top
    assert "REFUSED" not in top
    assert "neither proved nor disproved by 160 items, about 410 would decide" in top
    assert (top.count("≈ open"), top.count("✕ no")) == (1, 0)


def test_a_figure_is_written_as_it_is_and_a_metric_as_a_share(workspace: Path, tmp_path: Path) -> None:
    record = passed_record()
    assert record.verdict is not None
    bounds = ("contaminated_rows", 5.0), ("adapter_bytes", 20_000_000.0)
    figures: dict[Figure, float | None] = {"contaminated_rows": 0.0, "adapter_bytes": 19_600_000.0}
    counted = [
        judge_figure(Bound.model_validate({"figure": name, "min": None, "max": most}), figures)[0]
        for name, most in bounds
    ]
    verdict = record.verdict.model_copy(update={"results": (*record.verdict.results, *counted)})
    text = page(record.model_copy(update={"verdict": verdict}), workspace, tmp_path)
    for asked, found in (("5", "0"), ("20,000,000", "19,600,000")):
        assert f'data-label="Threshold">{asked}</td><td class="number" data-label="Found">{found}</td>' in text
    assert "| 20,000,000 | 19,600,000 |" in markdown_verdict(verdict)


def test_every_rule_has_its_interval_in_a_plot(passed: str) -> None:
    assert 'aria-label="Every rule: how far what was found is from what is asked"' in passed
    assert "ticket_routing, loss from champion" in passed


def test_a_crashed_run_shows_its_last_words_and_what_it_had(workspace: Path, tmp_path: Path) -> None:
    text = page(crashed_record(), workspace, tmp_path)
    assert "CRASHED</h1>" in text
    assert "torch.OutOfMemoryError: tried to allocate 512.00 MiB" in text.split('<section id="scores">')[0]
    assert "Every row has a fate" in section(text, "rows")
    assert "The stage evaluate_candidate did not run: train failed before it." in section(text, "scores")


def test_a_long_reason_is_told_once_its_first_line_on_top(workspace: Path, tmp_path: Path) -> None:
    message = "the data breaks 2 expectations:\n  tokens: one of them\n  prompt: the other"
    stages = fake_stages(STAGES.index("validate"), "refused", message)
    changes = {"status": "refused", "reason": f"validate: {message}", "stages": stages}
    top = page(crashed_record().model_copy(update=changes), workspace, tmp_path).split('<section id="scores">')[0]
    assert '<p class="lead">validate: the data breaks 2 expectations</p>' in top
    assert '<pre class="message">  tokens: one of them\n  prompt: the other</pre>' in top
    assert top.count("the data breaks 2 expectations") == 1
    alone = {"stages": (), "reason": "params.yaml: 2 problems:\n  lora.r: one\n  lora.s: other"}
    top = page(crashed_record().model_copy(update=alone), workspace, tmp_path).split('<section id="scores">')[0]
    assert top.count("lora.r: one") == 1


def test_expectations_are_folded_when_all_hold(workspace: Path, tmp_path: Path) -> None:
    text = section(page(passed_record(), workspace, tmp_path), "expectations")
    assert ("<details>" in text, "<details open>" in text) == (True, False)
    write_workspace(tmp_path)
    write_json(tmp_path / paths.VALIDATION, fake_validation().model_copy(update={"success": False}))
    assert "<details open>" in section(page(passed_record(), tmp_path, tmp_path), "expectations")


@pytest.mark.parametrize("status", get_args(RunStatus))
def test_every_way_to_end_has_a_word_and_a_colour(workspace: Path, tmp_path: Path, status: str) -> None:
    text = page(passed_record().model_copy(update={"status": status}), workspace, tmp_path)
    assert f"{status.upper()}</h1>" in text
    assert status in STYLES


def test_outputs_of_an_earlier_run_are_not_shown_for_a_stage_that_did_not_end(workspace: Path, tmp_path: Path) -> None:
    text = page(crashed_record(), workspace, tmp_path)
    assert "The stage train failed." in section(text, "training")
    assert "4,884,480" not in text


def test_an_empty_workspace_gives_a_sentence_for_every_file(tmp_path: Path) -> None:
    text = page(passed_record(), tmp_path / "nothing", tmp_path)
    sentence = "The stage train ended, but its file data/train/history.jsonl is missing or cannot be read."
    assert sentence in section(text, "curves")
    assert str(tmp_path) not in text


def test_a_torn_file_costs_its_own_section_only(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    (tmp_path / paths.TRAIN_METRICS).write_text('{"method": "ql', encoding="utf-8")
    text = page(passed_record(), tmp_path, tmp_path)
    assert "data/train/metrics.json is missing or cannot be read" in section(text, "training")
    assert "<svg" in section(text, "curves")


def test_a_run_that_ended_before_its_first_stage_has_a_page(tmp_path: Path) -> None:
    changes = {"stages": (), "params": {}, "reason": "params.yaml does not parse"}
    text = page(crashed_record().model_copy(update=changes), tmp_path, tmp_path)
    assert "The run ended before its first stage." in text
    assert "The stage train is not part of this run." in text


def test_a_run_without_a_champion_says_so(workspace: Path, tmp_path: Path) -> None:
    record = passed_record()
    scores = tuple(line for line in record.scores if line.model != "champion")
    text = page(record.model_copy(update={"scores": scores}), workspace, tmp_path)
    assert "There is no champion to compare with" in section(text, "scores")


def test_trainable_weights_are_shown_with_their_share(passed: str) -> None:
    text = section(passed, "training")
    assert "3.50 %" in text
    assert "4,884,480 of 139,399,488" in text


def test_the_curves_show_losses_learning_rate_and_gradient_norm(passed: str) -> None:
    names = re.findall(r'aria-label="([^"]+)"', section(passed, "curves"))
    assert names[::2] == ["Training and validation loss by step", "Learning rate by step", "Gradient norm by step"]
    assert "best 0.292, step 104" in section(passed, "curves")
    assert "Warning" not in section(passed, "curves")


def test_warnings_of_the_training_stand_above_the_curves(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    sentences = ("overfitting: the training loss is near zero <b>", "the gradient norm exploded once")
    findings = [unclassified(sentence) for sentence in sentences]
    metrics = TrainMetrics.model_validate(fake_metrics().model_dump() | {"findings": findings})
    write_json(tmp_path / paths.TRAIN_METRICS, metrics)
    text = section(page(passed_record(), tmp_path, tmp_path), "curves")
    assert "<strong>Warning:</strong> overfitting: the training loss is near zero &lt;b&gt;" in text
    assert text.count("<strong>Warning:</strong>") == 2
    assert text.index("exploded once") < text.index("<svg")


def test_the_best_step_and_an_early_stop_are_told(passed: str, tmp_path: Path) -> None:
    assert "Best step</dt><dd>104<small>validation loss 0.292" in section(passed, "training")
    assert "stopped early" not in section(passed, "training")
    write_workspace(tmp_path)
    stopped = {"stopped_early": True, "best_step": None, "best_eval_loss": None, "eval_loss": None}
    write_json(tmp_path / paths.TRAIN_METRICS, fake_metrics().model_copy(update=stopped))
    text = section(page(passed_record(), tmp_path, tmp_path), "training")
    assert "stopped early: the validation loss no longer fell" in text
    assert "Best step" not in text


def test_speed_and_memory_come_from_the_record_where_this_run_trained(
    workspace: Path, passed: str, tmp_path: Path
) -> None:
    text = section(passed, "training")
    assert "Speed</dt><dd>367 tokens/s<small>5.6 examples/s over 104 steps" in text
    assert "Memory</dt><dd>1.9 GB" in text
    record = passed_record()
    stages = tuple(stage.model_copy(update={"pace": None}) for stage in record.stages)
    assert "tokens/s" not in page(record.model_copy(update={"stages": stages}), workspace, tmp_path)


def test_a_model_without_weights_divides_nothing(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    empty: TrainMetrics = fake_metrics().model_copy(update={"trainable_weights": 0, "all_weights": 0})
    write_json(tmp_path / paths.TRAIN_METRICS, empty)
    assert "0 of 0" in section(page(passed_record(), tmp_path, tmp_path), "training")


def test_changed_answers_are_counted_in_both_directions(workspace: Path) -> None:
    found = changed_answers(passed_record(), read_evidence(passed_record(), workspace))
    assert [(f.benchmark, f.both_right, f.both_wrong, len(f.gained), len(f.lost)) for f in found] == [
        ("ticket_routing", 6, 69, 164, 1),
        ("general_knowledge", 66, 78, 6, 10),
    ]


def test_answers_that_changed_since_the_champion_stand_beside_those_since_the_base(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    champion = [one for one in fake_samples("base") if one.benchmark == "ticket_routing"]
    champion[35] = champion[35].model_copy(update={"prompt": "an item of another benchmark"})
    write_jsonl(tmp_path / paths.CHAMPION_SAMPLES, champion)
    found = changed_answers(passed_record(), read_evidence(passed_record(), tmp_path))
    assert [(one.other, one.benchmark) for one in found] == [
        ("base", "ticket_routing"), ("base", "general_knowledge"), ("champion", "ticket_routing"),
    ]  # fmt: skip
    assert found[2].both_right + found[2].both_wrong + len(found[2].gained) + len(found[2].lost) == 239
    text = section(page(passed_record(), tmp_path, tmp_path), "changed")
    assert "ticket_routing <small>exact_match, compared with the champion</small>" in text
    assert "champion wrong, candidate right" in text


def test_at_most_ten_changed_answers_are_shown(passed: str) -> None:
    text = section(passed, "changed")
    assert "Turned right (164, the first 10 shown)" in text
    assert text.count('class="flip"') == 10 + 1 + 6 + 10


def test_a_ledger_that_does_not_add_up_is_said_so(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    clean = fake_summaries()[1].model_copy(update={"rows_out": 1430})
    write_json(tmp_path / paths.CLEAN / paths.SUMMARY, clean)
    text = section(page(passed_record(), tmp_path, tmp_path), "rows")
    assert "The ledger is not complete" in text


def test_every_row_of_a_whole_ledger_has_a_fate() -> None:
    rows = count_rows(list(fake_summaries()))
    assert rows is not None
    assert (rows.rows_in, rows.dropped, rows.kept, rows.complete) == (1534, 514, 1020, True)


def test_parameters_become_dotted_names() -> None:
    value: dict[str, JsonValue] = {
        "r": 16,
        "bias": "none",
        "limit": None,
        "on": True,
        "rules": [{"a": 1}],
        "marks": ["x", "y"],
    }
    assert dict(flattened(value, "")) == {
        "r": "16", "bias": "none", "limit": "null", "on": "true", "rules[0].a": "1", "marks": "x, y",
    }  # fmt: skip


def test_the_markdown_verdict_starts_with_the_word_and_names_every_failure() -> None:
    text = markdown_verdict(fake_verdict(passed=False))
    assert text.startswith("# REFUSED\n")
    assert "- ticket_routing exact_match: 27.1 % found where 40.0 % are asked\n" in text
    row = "| ticket_routing | exact_match | score at least | 40.0 % | 27.1 % | 22.1 % to 32.1 % | **no** |  |\n"
    assert row in text
    assert "  - `tunegate sweep --set lora.lora_alpha=16 --set lora.r=8`\n" in text


def test_markdown_from_data_cannot_break_the_table_or_the_page() -> None:
    verdict = fake_verdict(passed=True)
    hostile = verdict.results[0].model_copy(update={"benchmark": "a|b\n<script>"})
    text = markdown_verdict(verdict.model_copy(update={"results": (hostile,)}))
    assert "| a\\|b &lt;script> | exact_match |" in text


def test_the_score_table_has_a_row_for_each_metric() -> None:
    assert score_table(passed_record()) == [
        {
            "benchmark": "ticket_routing", "metric": "exact_match", "base": "2.9 % (0.8 % to 5.0 %)",
            "candidate": "70.8 % (65.0 % to 76.6 %)", "champion": "68.4 % (62.5 % to 74.3 %)",
            "gain over base": "+67.9 points",
        },
        {
            "benchmark": "general_knowledge", "metric": "acc", "base": "47.5 % (39.8 % to 55.2 %)",
            "candidate": "46.2 % (38.5 % to 54.0 %)", "champion": "46.2 % (38.5 % to 54.0 %)",
            "gain over base": "\N{MINUS SIGN}1.2 points",
        },
    ]  # fmt: skip


def test_the_ledgers_have_as_many_fates_as_rows_came_in(passed: str) -> None:
    assert "1,534 rows in = 1,534 fates in the ledgers." in section(passed, "rows")


def test_a_row_that_two_ledgers_drop_is_said_so(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    twice = fake_ledger(fake_summaries()[0])
    again = [entry.model_copy(update={"stage": "clean"}) for entry in twice[:1]]
    ledger = tmp_path / paths.CLEAN / paths.LEDGER
    write_records(ledger, [*fake_ledger(fake_summaries()[1]), *again], LedgerEntry)
    text = section(page(passed_record(), tmp_path, tmp_path), "rows")
    assert "1,534 rows in ≠ 1,535 fates in the ledgers, of 1,534 different rows." in text
    assert '<span class="mark bad">✕</span>' in text


def test_a_torn_ledger_costs_the_sum_only(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    (tmp_path / paths.SPLIT / paths.LEDGER).write_bytes(b"PAR1 torn")
    text = section(page(passed_record(), tmp_path, tmp_path), "rows")
    assert "Every row has a fate" in text
    assert "fates in the ledgers" not in text


def test_alarms_stand_first_and_rules_say_what_they_mean(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    notes = ("alarm: cluster a has 400 of 1429 rows <b>", "label noise: 3 pairs")
    write_json(tmp_path / paths.DEDUP / paths.SUMMARY, fake_summaries()[2].model_copy(update={"notes": notes}))
    text = section(page(passed_record(), tmp_path, tmp_path), "rows")
    assert "<strong>Alarm in dedup:</strong> cluster a has 400 of 1429 rows &lt;b&gt;" in text
    assert text.index("Alarm in dedup") < text.index("Every row has a fate")
    assert text.count("400 of 1429") == 1
    assert "near_duplicate<br><small>nearly the same question is there already</small>" in text
    assert "label noise: 3 pairs" in text


def test_hints_of_wrong_labels_and_items_compared_are_counted(passed: str) -> None:
    text = section(passed, "rows")
    assert "Hints of wrong labels</dt><dd>1<" in text
    assert "Items of general_knowledge</dt><dd>160<small>compared with every row; the base has seen 0" in text


def test_a_failed_expectation_shows_its_rows(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    failed = ExpectationResult(
        expectation="expect_column_values_to_be_in_set", subject="role_order_ok", success=False, observed="2 of 1020",
        rows=("abc data/a.jsonl:3 train", "<i> data/a.jsonl:9 test"),
    )  # fmt: skip
    results = (*fake_validation().results, failed)
    write_json(tmp_path / paths.VALIDATION, Validation(suite="examples", success=False, results=results))
    text = section(page(passed_record(), tmp_path, tmp_path), "expectations")
    assert "5 of 6 expectations hold." in text
    assert "<li><code>abc data/a.jsonl:3 train</code></li>" in text
    assert "<li><code>&lt;i&gt; data/a.jsonl:9 test</code></li>" in text


def test_the_data_is_drawn_beside_that_of_the_champion(workspace: Path, passed: str, tmp_path: Path) -> None:
    alone = section(passed, "expectations")
    assert "There is no champion whose data is known" in alone
    assert alone.count("<svg") == 2 * 2
    assert "Squares are the data" not in alone
    write_workspace(tmp_path)
    write_json(tmp_path / paths.CHAMPION, fake_champion())
    text = section(page(passed_record(), tmp_path, tmp_path), "expectations")
    assert text.count("Squares are the data of the champion") == 2
    assert "There is no champion" not in text
    assert "var(--champion)" in text


def test_data_docs_are_linked_beside_the_page_and_nothing_else_is(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    write_text(tmp_path / paths.DATA_DOCS / "index.html", "<html></html>")
    text = page(passed_record(), tmp_path, tmp_path)
    links = re.findall(r'(?:href|src)="([^"#][^"]*)"', text)
    assert links == ["../index.html", "data_docs/index.html"]


def test_the_supervision_audit_shows_counts_and_conditions(tmp_path: Path) -> None:
    write_workspace(tmp_path)
    audit = fake_supervision()
    broken = audit.checks[0].model_copy(update={"passed": False, "found": "826 of 827"})
    write_json(tmp_path / paths.SUPERVISION, audit.model_copy(update={"checks": (broken,)}))
    text = section(page(passed_record(), tmp_path, tmp_path), "supervision")
    assert "16 to 22 a row, median 18" in text
    assert "✕ no" in text
    assert "826 of 827" in text


def test_a_run_that_was_asked_to_stop_says_so_in_every_later_section(workspace: Path, tmp_path: Path) -> None:
    stages = crashed_record().stages
    ended = [stage.name for stage in stages].index("evaluate_base")
    left = {"outcome": "not_run", "seconds": 0.0, "exit_code": None, "output_digests": {}, "message": ""}
    changes = {
        "status": "reached", "until": "validate", "reason": "stopped after validate, as asked",
        "stages": (*stages[:ended], *(stage.model_copy(update=left) for stage in stages[ended:])),
    }  # fmt: skip
    text = page(crashed_record().model_copy(update=changes), workspace, tmp_path)
    assert "REACHED</h1>" in text
    assert "The stage train did not run: the run was asked to stop after validate." in section(text, "training")
