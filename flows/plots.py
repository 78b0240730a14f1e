"""Plots of the report: matplotlib figures as inline SVG that take their colours from the page's CSS variables.

Every function takes `width` in CSS pixels, at which text is 12 px, and returns one `<svg>` element with a title for
screen readers. Figures are drawn with marker colours, which become `var(--…)`; nothing is clipped, so that no
`url()` is left; ids are dropped or salted. Same input, same bytes.
"""

import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform
from matplotlib.typing import RcKeyType

from flows.rows import FlowBar, ledger_bars
from flows.run_record import Model, RunStatus, ScoreLine, StageOutcome, StageRecord
from flows.wording import condition, seconds, share
from tasks.curve_findings import best_point
from tasks.records import DataSummary, TrainingPoint
from tasks.verdict_records import Outcome, RuleResult

INK, MUTED, GRID, SURFACE = "#010101", "#010102", "#010103", "#010104"
BASE, CANDIDATE, CHAMPION = "#010105", "#010106", "#010107"
GOOD, BAD, WARN, SOFT = "#010108", "#010109", "#01010a", "#01010b"
VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", SURFACE: "surface", BASE: "base", CANDIDATE: "candidate",
    CHAMPION: "champion", GOOD: "good", BAD: "bad", WARN: "warn", SOFT: "soft",
}  # fmt: skip
Plot = Callable[[int], str]
MODEL_MARKS: dict[Model, tuple[str, str]] = {
    "base": (BASE, "o"),
    "candidate": (CANDIDATE, "D"),
    "champion": (CHAMPION, "s"),
}
OUTCOME_COLOURS: dict[StageOutcome, str] = {
    "executed": CANDIDATE, "restored": CHAMPION, "unchanged": MUTED, "refused": WARN, "failed": BAD, "cancelled": WARN,
    "not_run": MUTED,
}  # fmt: skip
STATUS_COLOURS: dict[RunStatus, str] = {"passed": GOOD, "refused": BAD, "inconclusive": WARN}
_DPI = 72  # one SVG unit is one CSS pixel
_STYLE: dict[RcKeyType, object] = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 12.0, "axes.labelsize": 12.0,
    "text.color": INK, "axes.labelcolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED, "axes.edgecolor": GRID,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "xtick.labelsize": 11.0,
    "ytick.labelsize": 11.0, "axes.facecolor": "none", "figure.facecolor": "none", "axes.linewidth": 1.0,
    "xtick.major.size": 0.0, "ytick.major.size": 0.0, "xtick.major.pad": 6.0, "ytick.major.pad": 8.0,
}  # fmt: skip


def draw(title: str, width: int, height: int, paint: Callable[[Figure], None]) -> str:
    """One figure of `width` by `height` CSS pixels as an `<svg>` element whose accessible name is `title`."""
    salt = f"{title}:{width}"
    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
        paint(figure)
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    return themed(buffer.getvalue(), title)


def themed(svg: str, title: str) -> str:
    """Make matplotlib's file an inline element: CSS variables for marker colours, no prolog, no group ids."""
    body = svg[svg.index("<svg") :].strip()
    opening, rest = body.split(">", 1)
    box = re.search(r'viewBox="[^"]+"', opening)
    rest = re.sub(r"<style[^>]*>.*?</style>|<!--.*?-->|<metadata>.*?</metadata>", "", rest, flags=re.DOTALL)
    rest = re.sub(r'<g id="[^"]*"', "<g", rest)
    rest = re.sub(r"font: (\d+(?:\.\d+)?)px [^;\"]+", r"font-size: \1px", rest)
    rest = re.sub(r"\n\s*", "\n", rest).replace("xlink:href", "href")
    for colour, name in VARIABLES.items():
        rest = re.sub(rf"(fill|stroke): {colour}\b", rf"\1: var(--{name})", rest)
    name = html.escape(title)
    view = box.group() if box else ""
    return f'<svg {view} role="img" aria-label="{name}">{rest}'


def plot_scores(scores: Sequence[ScoreLine], floors: dict[tuple[str, str], float], width: int) -> str:
    """Dot and interval of every model, one panel per benchmark and metric; a dashed line is the least allowed value."""
    groups = list(dict.fromkeys((line.benchmark, line.metric) for line in scores))
    panels = [[line for line in scores if (line.benchmark, line.metric) == group] for group in groups]
    heights = [70 + 28 * len(panel) for panel in panels]

    def paint(figure: Figure) -> None:
        top = sum(heights)
        for group, panel, height in zip(groups, panels, heights, strict=True):
            top -= height
            axes = _axes(figure, width, sum(heights), (92, top + 24, width - 92 - 58, height - 68))
            _paint_scores(axes, f"{group[0]} · {group[1]}", panel, floors.get(group))

    return draw("Scores of base, candidate and champion with their intervals", width, sum(heights), paint)


def _paint_scores(axes: Axes, name: str, lines: Sequence[ScoreLine], floor: float | None) -> None:
    values = [value for line in lines for value in (line.value, line.low, line.high) if value is not None]
    axes.text(0, 1.0, name, transform=_shifted(axes, axes.transAxes, -84, 22), fontweight="bold", clip_on=False)
    if floor is not None:
        values.append(floor)
        axes.axvline(floor, color=WARN, linewidth=1.4, linestyle=(0, (4, 3)), clip_on=False)
        axes.text(
            floor,
            1.0,
            f" floor {share(floor)}",
            color=WARN,
            fontsize=11,
            transform=_shifted(axes, axes.get_xaxis_transform(), 0, 2),
        )
    for row, line in enumerate(reversed(lines)):
        _paint_interval(axes, row, line)
    axes.set_yticks(range(len(lines)), [line.model for line in reversed(lines)])
    axes.set_ylim(-0.6, len(lines) - 0.4)
    axes.set_xlim(*((0.0, 1.0) if min(values) >= 0 and max(values) <= 1 else _padded(values)))
    axes.xaxis.set_major_formatter(lambda value, _position: f"{100 * value:g} %" if abs(value) <= 1 else f"{value:g}")
    _grid(axes, "x")


def _paint_interval(axes: Axes, row: int, line: ScoreLine) -> None:
    colour, mark = MODEL_MARKS[line.model]
    if line.low is not None and line.high is not None:
        axes.plot([line.low, line.high], [row, row], color=colour, linewidth=3.0, alpha=0.55, clip_on=False)
    face = SURFACE if line.model == "base" else colour
    axes.plot([line.value], [row], mark, color=colour, markersize=8.5, mfc=face, mew=2.0, clip_on=False, zorder=4)
    axes.text(1.0, row, share(line.value), transform=_right_of(axes), va="center", fontweight="bold")


def plot_rules(results: Sequence[RuleResult], width: int) -> str:
    """For every condition how far what was found is from what is asked; right of the line it holds."""
    rows = [(result, *distance) for result in results if (distance := rule_distance(result)) is not None]
    height = 58 + 30 * len(rows)

    def paint(figure: Figure) -> None:
        labels = 250 if width > 500 else 150
        axes = _axes(figure, width, height, (labels, 40, width - labels - 66, height - 50))
        reach = max([abs(value) for _, *distances in rows for value in distances] + [0.01]) * 1.06
        axes.axvspan(0, reach, color=SOFT, linewidth=0, clip_on=False)
        axes.axvline(0, color=INK, linewidth=1.4, clip_on=False)
        for row, (result, found, low, high) in enumerate(rows):
            _paint_rule(axes, row, result.outcome, (low, found, high))
        letters = 40 if width > 500 else 23
        names = [_rule_name(result, is_short=width <= 500) for result, *_ in rows]
        axes.set_yticks(range(len(rows)), [_fitted(name, letters) for name in names])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-reach, reach)
        axes.set_xlabel("points from what is asked", loc="right")
        axes.xaxis.set_major_formatter(lambda value, _position: f"{100 * value:+.0f}" if value else "0")
        _grid(axes, "x")

    return draw("Every rule: how far what was found is from what is asked", width, height, paint)


def rule_distance(result: RuleResult) -> tuple[float, float, float] | None:
    """Found, low and high as distances from the threshold, positive where the condition holds; None without them."""
    found, asked, low, high = result.found, result.threshold, result.low, result.high
    if found is None or asked is None or low is None or high is None:
        return None
    if result.condition.startswith("max"):
        return asked - found, asked - high, asked - low
    return found - asked, low - asked, high - asked


def _rule_name(result: RuleResult, *, is_short: bool) -> str:
    """Benchmark and condition; where there is little room the condition first, for the end is cut off."""
    words = condition(result.condition).removesuffix(" at least").removesuffix(" at most")
    return f"{words}, {result.benchmark}" if is_short else f"{result.benchmark}, {words}"


def _paint_rule(axes: Axes, row: int, outcome: Outcome, distances: tuple[float, float, float]) -> None:
    low, found, high = distances
    colour, mark = {"passed": (GOOD, "o"), "refused": (BAD, "X"), "inconclusive": (WARN, "o")}[outcome]
    face = SURFACE if outcome == "inconclusive" else colour
    axes.plot([low, high], [row, row], color=colour, linewidth=3.0, alpha=0.55, clip_on=False)
    axes.plot([found], [row], mark, color=colour, markersize=8.5, mfc=face, mew=2.0, clip_on=False, zorder=4)
    axes.text(1.0, row, f"{100 * found:+.1f}", transform=_right_of(axes), va="center", fontweight="bold")


def plot_losses(points: Sequence[TrainingPoint], width: int) -> str:
    """Training loss as a line and validation loss as diamonds, over optimizer steps; the best one has a ring."""
    best = best_point(points)

    def paint(figure: Figure) -> None:
        axes = _axes(figure, width, 240, (44, 42, width - 66, 166))
        _curve(axes, [(p.step, p.loss) for p in points], Curve("training loss", CANDIDATE, "-", ""))
        _curve(axes, [(p.step, p.eval_loss) for p in points], Curve("validation loss", CHAMPION, "--", "D"))
        if best is not None and best.eval_loss is not None:
            _ring(axes, best.step, best.eval_loss)
        _over_steps(axes)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False, fontsize=11, borderaxespad=0)

    return draw("Training and validation loss by step", width, 240, paint)


@dataclass(frozen=True)
class Point:
    """A score of a run in time; `is_released` gives it a ring."""

    line: ScoreLine
    started_at: str
    status: RunStatus
    is_released: bool


def plot_timeline(name: str, points: Sequence[Point], width: int) -> str:
    """A metric over the days of the runs: dot and interval of every candidate, in the colour of its verdict."""

    def paint(figure: Figure) -> None:
        axes = _axes(figure, width, 220, (60, 34, width - 82, 160))
        for point in points:
            _paint_point(axes, point)
        axes.text(0, 1.0, name, transform=_shifted(axes, axes.transAxes, -52, 10), fontweight="bold", clip_on=False)
        axes.margins(0.06, 0.15)
        if len({point.started_at for point in points}) == 1:  # matplotlib would show years around a single moment
            middle = sum(axes.get_xlim()) / 2
            axes.set_xlim(middle - 0.5, middle + 0.5)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.yaxis.set_major_formatter(
            lambda value, _position: f"{100 * value:g} %" if abs(value) <= 1 else f"{value:g}"
        )
        days = AutoDateLocator(minticks=2, maxticks=max(3, width // 130))  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(days)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(days))  # type: ignore[no-untyped-call]
        _grid(axes, "y")

    return draw(f"{name} of every judged candidate over time", width, 220, paint)


def _paint_point(axes: Axes, point: Point) -> None:
    day, line = date2num(datetime.fromisoformat(point.started_at)), point.line  # type: ignore[no-untyped-call]
    colour = STATUS_COLOURS.get(point.status, MUTED)
    if line.low is not None and line.high is not None:
        axes.plot([day, day], [line.low, line.high], color=colour, linewidth=3.0, alpha=0.45, clip_on=False)
    axes.plot([day], [line.value], "o", color=colour, markersize=7, clip_on=False, zorder=4)
    if point.is_released:
        axes.plot([day], [line.value], "o", color=colour, markersize=13, mfc="none", mew=1.6, clip_on=False, zorder=4)


def _ring(axes: Axes, step: int, value: float) -> None:
    """Mark the best point, and write its value above it, on the side that has room."""
    axes.plot([step], [value], "o", color=CHAMPION, markersize=14, mfc="none", mew=1.6, clip_on=False)
    is_right = step > sum(axes.get_xlim()) / 2
    axes.text(
        step, value, f"best {value:.3f}, step {step}", color=CHAMPION, fontsize=11, ha="right" if is_right else "left",
        transform=_shifted(axes, axes.transData, 8 if is_right else -8, 14), clip_on=False,
    )  # fmt: skip


def plot_learning_rate(points: Sequence[TrainingPoint], width: int) -> str:
    """The learning rate over optimizer steps."""
    return _small_curve("learning rate", [(p.step, p.learning_rate) for p in points], width)


def plot_grad_norm(points: Sequence[TrainingPoint], width: int) -> str:
    """The gradient norm over optimizer steps, before it is clipped."""
    return _small_curve("gradient norm", [(p.step, p.grad_norm) for p in points], width)


def _small_curve(name: str, pairs: Sequence[tuple[int, float | None]], width: int) -> str:
    def paint(figure: Figure) -> None:
        axes = _axes(figure, width, 150, (60, 42, width - 82, 84))
        _curve(axes, pairs, Curve(name, INK, "-", ""))
        _over_steps(axes)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
        axes.yaxis.set_major_formatter(lambda value, _position: f"{value:g}")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), frameon=False, fontsize=11, borderaxespad=0)

    return draw(f"{name.capitalize()} by step", width, 150, paint)


def _over_steps(axes: Axes) -> None:
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step", loc="right")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    _grid(axes, "y")


@dataclass(frozen=True)
class Curve:
    """How one series looks; dashes and marks tell series apart without colour."""

    name: str
    colour: str
    dashes: str
    mark: str


def _curve(axes: Axes, pairs: Sequence[tuple[int, float | None]], curve: Curve) -> None:
    known = [(step, value) for step, value in pairs if value is not None]
    if known:
        steps, values = zip(*known, strict=True)
        axes.plot(
            steps, values, curve.dashes, color=curve.colour, marker=curve.mark or None, markersize=6, linewidth=2.0,
            label=curve.name, clip_on=False, solid_joinstyle="round",
        )  # fmt: skip


def plot_ledger(summaries: Sequence[DataSummary], width: int) -> str:
    """Where rows went, as a waterfall: rows in, every drop by stage and rule, and the partitions that were kept."""
    bars = ledger_bars(summaries)
    labels, letters = (210, 32) if width > 500 else (158, 23)
    height = 20 + 24 * len(bars)

    def paint(figure: Figure) -> None:
        axes = _axes(figure, width, height, (labels, 6, width - labels - 58, height - 12))
        total = max([bar.end for bar in bars] + [1])
        _bar_rows(axes, [_fitted(bar.label, letters) for bar in bars], total)
        for row, bar in enumerate(bars):
            _paint_bar(axes, row, bar, total)

    return draw("Where rows went: rows in, drops by rule, rows kept", width, height, paint)


def _paint_bar(axes: Axes, row: int, bar: FlowBar, total: int) -> None:
    least = total / 150  # a drop of one row stays visible
    length = max(bar.end - bar.start, least)
    colour = {"total": MUTED, "drop": WARN, "kept": GOOD}[bar.kind]
    axes.barh(row, length, left=min(bar.start, total - length), height=0.68, color=colour, clip_on=False)
    sign = "\N{MINUS SIGN}" if bar.kind == "drop" else ""
    weight = "normal" if bar.kind == "drop" else "bold"
    axes.text(1.0, row, f"{sign}{bar.end - bar.start:,}", transform=_right_of(axes), va="center", fontweight=weight)


def plot_shares(title: str, ours: dict[str, float], champion: dict[str, float] | None, width: int) -> str:
    """The share of rows by value, as bars; the champion's shares are squares beside them."""
    names = share_names(ours, champion or {})
    theirs = champion or {}
    labels, letters = (160, 25) if width > 500 else (112, 17)
    height = 26 + 24 * len(names)

    def paint(figure: Figure) -> None:
        axes = _axes(figure, width, height, (labels, 6, width - labels - 70, height - 12))
        longest = max([*ours.values(), *theirs.values(), 0.01])
        _bar_rows(axes, [_fitted(name, letters) for name in names], longest)
        for row, name in enumerate(names):
            axes.barh(row, ours.get(name, 0.0), height=0.6, color=CANDIDATE, clip_on=False)
            if champion is not None:
                axes.plot([theirs.get(name, 0.0)], [row], "s", color=CHAMPION, markersize=7, mew=0, clip_on=False)
            axes.text(1.0, row, share(ours.get(name, 0.0)), transform=_right_of(axes), va="center", fontsize=11)

    return draw(title, width, height, paint)


def share_names(ours: dict[str, float], champion: dict[str, float], most: int = 14) -> list[str]:
    """The values to show: those that begin with a number in its order, others by share; the smallest are left out."""
    names = sorted({*ours, *champion}, key=lambda name: (-max(ours.get(name, 0.0), champion.get(name, 0.0)), name))[
        :most
    ]
    numbers = {name: int(found[0]) for name in names if (found := re.search(r"\d+", name))}
    return sorted(names, key=numbers.__getitem__) if len(numbers) == len(names) else names


def plot_timings(stages: Sequence[StageRecord], width: int) -> str:
    """Wall time of every stage, with its outcome in words."""
    labels, letters, notes = (140, 22, 130) if width > 500 else (112, 18, 116)
    height = 20 + 26 * len(stages)

    def paint(figure: Figure) -> None:
        axes = _axes(figure, width, height, (labels, 6, width - labels - notes, height - 12))
        _bar_rows(axes, [_fitted(stage.name, letters) for stage in stages], max([s.seconds for s in stages] + [0.1]))
        for row, stage in enumerate(stages):
            axes.barh(row, stage.seconds, height=0.68, color=OUTCOME_COLOURS[stage.outcome], clip_on=False)
            time = "" if stage.outcome == "not_run" else f"{seconds(stage.seconds)} "
            note = time + stage.outcome.replace("_", " ")
            axes.text(1.0, row, note, transform=_right_of(axes), va="center", fontsize=11)

    return draw("Wall time and outcome of every stage", width, height, paint)


def _bar_rows(axes: Axes, names: Sequence[str], longest: float) -> None:
    axes.barh(range(len(names)), longest, height=0.68, color=SOFT, clip_on=False)
    axes.set_xlim(0, longest)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _axes(figure: Figure, width: int, height: int, box: tuple[int, int, int, int]) -> Axes:
    left, bottom, across, up = box
    axes = figure.add_axes((left / width, bottom / height, across / width, up / height))
    axes.set_axisbelow(True)
    return axes


def _shifted(axes: Axes, base: Transform, right: float, up: float) -> Transform:
    return base + ScaledTranslation(right / _DPI, up / _DPI, axes.get_figure().dpi_scale_trans)  # type: ignore[union-attr]


def _right_of(axes: Axes) -> Transform:
    return _shifted(axes, axes.get_yaxis_transform(), 10, 0)


def _grid(axes: Axes, axis: Literal["x", "y"]) -> None:
    axes.grid(visible=True, axis=axis, color=GRID, linewidth=1.0, clip_on=False)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    room = (max(values) - min(values)) * 0.15 or abs(values[0]) * 0.1 or 1.0
    return min(values) - room, max(values) + room


def _fitted(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
