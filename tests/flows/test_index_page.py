"""The page of all runs: what it shows, what it escapes, and that a person can sort and filter it."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import cli, index_page
from flows.branches import add_files
from flows.index_page import INDEX, read_rows, refresh_index, write_index
from flows.sign_off import SignOff, SignOffs
from tasks.approvals import Approval
from tasks.files import dump_json
from tests.flows.browser import CHROMIUM, opened
from tests.flows.fake_run import crashed_record, inconclusive_record, passed_record, refused_record
from tests.flows.test_cli import put_on_record

IDS = ("20261101-030000-aaaa", "20261108-030000-bbbb", "20261115-030000-cccc", "20261122-030000-dddd")
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def home(short_line: Path) -> Path:
    """Four runs, of which the first was signed off, and the third says something hostile."""
    made = (passed_record(), refused_record(), crashed_record(), inconclusive_record())
    for run_id, record in zip(IDS, made, strict=True):
        day = f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}"
        times = {"run_id": run_id, "started_at": f"{day}T03:00:00+00:00", "finished_at": f"{day}T03:10:00+00:00"}
        reason = {"reason": HOSTILE} if run_id == IDS[2] else {}
        put_on_record(short_line, record.model_copy(update=times | reason))
    approval = Approval(
        subject="merged_model", digest="d" * 64, evidence={}, approved_by="Ben <ben@example.org>", decision="approved"
    )
    signed = SignOff(approval=approval, why="better on refunds", at="2026-11-02T08:00:00+00:00", recorded_by="Ben")
    folder = f"runs/{IDS[0]}"
    drift = (
        '{"suite": "drift", "success": true, "results": ['
        '{"expectation": "expect_table_row_count_to_equal(value=1)", "observed": "1", "rows": [], "subject": "table", '
        '"success": true}, '
        '{"expectation": "expect_column_max_to_be_between(max_value=0.25)", "observed": "0.125", "rows": [], '
        '"subject": "tokens", "success": true}]}'
    )
    files = {f"{folder}/sign_offs.json": dump_json(SignOffs(entries=(signed,))), f"{folder}/drift.json": drift}
    add_files(short_line, f"run/{IDS[0]}", files, "signed")
    return short_line


def test_every_run_stands_there_newest_first_with_scores_release_and_who_signed(home: Path) -> None:
    text = write_index(home).read_text(encoding="utf-8")
    assert re.findall(r'data-key="(\d{8}-\d{6}-\w{4})"', text) == list(reversed(IDS))
    assert "approved by Ben &lt;ben@example.org&gt;: better on refunds" in text
    release = passed_record().release
    assert release is not None
    assert f"<td>{release.tag}</td>" in text
    for row in read_rows(home):
        for line in row.record.judged_scores:
            assert f"{100 * line.value:.1f} %</span>" in text


def test_the_largest_drift_is_told_and_none_where_nothing_was_compared(home: Path) -> None:
    assert [row.drift for row in read_rows(home)] == [None, None, None, 0.125]
    assert ">0.125</td>" in write_index(home).read_text(encoding="utf-8")


def test_a_timeline_for_each_judged_metric_shows_every_judged_candidate(home: Path) -> None:
    text = write_index(home).read_text(encoding="utf-8")
    judged = {(line.benchmark, line.metric) for row in read_rows(home) for line in row.record.judged_scores}
    assert len(judged) > 1
    for benchmark, metric in judged:
        assert f"{benchmark} · {metric} of every judged candidate over time" in text


def test_around_a_single_run_the_timeline_shows_its_day_and_not_years(short_line: Path) -> None:
    put_on_record(short_line, passed_record())
    text = write_index(short_line).read_text(encoding="utf-8")
    assert re.search(r">\d\d:\d\d<", text)
    assert f">{int(passed_record().started_at[:4]) + 1}<" not in text


def test_what_records_hold_is_text_and_no_other_script_may_run(home: Path) -> None:
    text = write_index(home).read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert not re.search(r"(src|href)=\"https?:", text)


def test_a_report_that_is_here_is_linked_and_one_that_is_not_is_no_dead_link(home: Path) -> None:
    report = home / INDEX.parent / IDS[3] / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("a page", encoding="utf-8")
    text = write_index(home).read_text(encoding="utf-8")
    assert re.findall(r' href="([^"#]+)"', text) == [f"{IDS[3]}/report.html"]


def test_the_command_writes_it_and_a_page_that_cannot_be_written_costs_no_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    result = CliRunner().invoke(cli.app, ["report", "--index"], catch_exceptions=False)
    assert (result.exit_code, result.output.strip()) == (0, str(home / INDEX))
    (home / INDEX).unlink()
    monkeypatch.setattr(index_page, "write_index", lambda _: 1 / 0)
    refresh_index(home)
    assert not (home / INDEX).exists()


def test_a_repository_without_runs_has_a_page(short_line: Path) -> None:
    text = write_index(short_line).read_text(encoding="utf-8")
    assert "0 on record" in text
    assert "No candidate was judged yet." in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_person_sorts_and_filters_it(home: Path, tmp_path: Path) -> None:
    shown = "Array.from(document.querySelectorAll('#runs tbody tr:not([hidden])')).map(row => row.cells[0].dataset.key)"
    with opened(write_index(home), tmp_path / "profile") as page:
        assert page.ask(shown) == list(reversed(IDS))
        page.ask("document.querySelector('#runs thead button').click()")
        assert page.ask(shown) == list(IDS)
        page.ask("document.getElementById('words').value = 'REFUNDS ben'")
        page.ask("document.getElementById('words').dispatchEvent(new Event('input'))")
        assert page.ask(shown) == [IDS[0]]
        assert page.ask("document.getElementById('shown').textContent") == "1 of 4 runs"
        page.ask("document.getElementById('words').value = ''; document.getElementById('status').value = 'crashed'")
        page.ask("document.getElementById('status').dispatchEvent(new Event('change'))")
        assert page.ask(shown) == [IDS[2]]
