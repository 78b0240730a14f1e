import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from flows import plots, wording
from flows.rows import MAX_DROPS, FlowBar, ledger_bars
from flows.run_record import ScoreLine
from tasks.records import DataSummary, TrainingPoint
from tests.flows.fake_run import fake_history, fake_scores, fake_stages, fake_summaries

SCORE = ScoreLine(benchmark="b", metric="m", model="candidate", value=12.5, low=None, high=None, samples=3)
POINT = TrainingPoint(step=1, epoch=0.1, loss=2.0)

PLOTS: list[Callable[[int], str]] = [
    lambda width: plots.plot_scores(fake_scores(0.7), {("ticket_routing", "exact_match"): 0.4}, width),
    lambda width: plots.plot_scores([SCORE], {}, width),
    lambda width: plots.plot_losses(fake_history(), width),
    lambda width: plots.plot_losses([POINT], width),
    lambda width: plots.plot_learning_rate(fake_history(), width),
    lambda width: plots.plot_grad_norm(fake_history(), width),
    lambda width: plots.plot_learning_rate([POINT.model_copy(update={"learning_rate": 0.0})], width),
    lambda width: plots.plot_ledger(fake_summaries(), width),
    lambda width: plots.plot_ledger([summary("ingest", 0, {})], width),
    lambda width: plots.plot_shares("Rows by source", {"a": 0.9, "b": 0.1}, {"a": 1.0}, width),
    lambda width: plots.plot_shares("Rows by answer", {}, None, width),
    lambda width: plots.plot_timings(fake_stages(3, "failed"), width),
    lambda width: plots.plot_timings(fake_stages(0, "cancelled")[:1], width),
]


def summary(stage: str, rows_in: int, dropped: dict[str, int]) -> DataSummary:
    out = rows_in - sum(dropped.values())
    return DataSummary(stage=stage, rows_in=rows_in, rows_out=out, dropped=dropped, changed={}, kept={"train": out})


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize("width", [840, 330])
def test_a_plot_is_one_named_element_of_its_width_that_needs_nothing_else(
    plot: Callable[[int], str], width: int
) -> None:
    svg = plot(width)
    root = ET.fromstring(svg)  # noqa: S314  our own text
    assert root.tag == "svg"
    assert root.attrib["viewBox"].startswith(f"0 0 {width} ")
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"]
    assert "url(" not in svg
    assert "<style" not in svg
    assert svg == plot(width)


def test_the_best_step_is_marked_with_its_loss_where_there_was_validation() -> None:
    measured = [POINT.model_copy(update={"step": step, "eval_loss": loss}) for step, loss in ((1, 0.4), (2, 0.3))]
    assert ">best 0.300, step 2<" in plots.plot_losses(measured, 840)
    assert ">best" not in plots.plot_losses([POINT], 840)


def test_the_bars_of_the_ledger_go_from_all_rows_to_the_partitions() -> None:
    first = summary("ingest", 10, {"broken": 2, "never": 0})
    last = summary("split", 8, {"overlap": 1}).model_copy(update={"kept": {"test": 2, "train": 5}})
    assert ledger_bars([first, last]) == [
        FlowBar("rows in", 0, 10, "total"),
        FlowBar("ingest · broken", 8, 10, "drop"),
        FlowBar("split · overlap", 7, 8, "drop"),
        FlowBar("train", 0, 5, "kept"),
        FlowBar("test", 5, 7, "kept"),
    ]


def test_many_small_rules_are_joined_and_no_row_is_lost() -> None:
    dropped = {f"rule_{number:02d}": number for number in range(1, MAX_DROPS + 6)}
    bars = [bar for bar in ledger_bars([summary("clean", 1000, dropped)]) if bar.kind == "drop"]
    assert len(bars) == MAX_DROPS + 1
    assert bars[-1].label == "clean · 5 smaller rules"
    assert sum(bar.end - bar.start for bar in bars) == sum(dropped.values())


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.7083, "70.8 %"), (-0.0, "0.0 %"), (-0.024, "\N{MINUS SIGN}2.4 %"), (12.5, "12.500"), (None, "–")],
)
def test_a_share_is_written_in_percent_and_anything_else_as_it_is(value: float | None, text: str) -> None:
    assert wording.share(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.679, "+67.9 points"), (0.0, "0.0 points"), (-0.0125, "\N{MINUS SIGN}1.2 points")]
)
def test_a_difference_is_written_in_points(value: float, text: str) -> None:
    assert wording.points(value) == text


@pytest.mark.parametrize(("value", "text"), [(4.21, "4.2 s"), (185.0, "3 min 05 s"), (7800.0, "2 h 10 min")])
def test_a_duration_is_written_for_a_reader(value: float, text: str) -> None:
    assert wording.seconds(value) == text


def test_a_long_text_says_how_much_was_left_out() -> None:
    assert wording.cut("abcdef", 4) == "abcd… (2 more characters)"


def test_shares_are_drawn_in_the_order_of_their_numbers_else_by_size() -> None:
    assert plots.share_names({"128-255": 0.1, "32-63": 0.2, "64-127": 0.7}, {"16-31": 0.5}) == [
        "16-31", "32-63", "64-127", "128-255",
    ]  # fmt: skip
    assert plots.share_names({"b": 0.2, "a": 0.2, "c": 0.6}, {}) == ["c", "a", "b"]
    assert len(plots.share_names({str(number): 0.01 for number in range(100)}, {})) == 14


def test_the_champions_shares_are_drawn_only_when_there_is_one() -> None:
    alone = plots.plot_shares("Rows by source", {"tickets": 1.0}, None, 840)
    both = plots.plot_shares("Rows by source", {"tickets": 1.0}, {"tickets": 0.5, "old": 0.5}, 840)
    assert "var(--champion)" not in alone
    assert "var(--champion)" in both
    assert ">old<" in both
