"""The report of one run: a self-contained HTML page, and the pieces of it that become Prefect artifacts.

The page is built from the run record and the line's files alone; every text from data is escaped, nothing is loaded
from anywhere, and the same input gives the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flows import plots, wording
from flows.evidence import DATA_STAGES, Evidence, read_evidence, why_missing
from flows.flips import Flips, flips
from flows.rules import meaning
from flows.run_record import RunRecord, ScoreLine, StageRecord
from flows.workspace import DOCS_LINK
from tasks.files import write_text
from tasks.records import DataProfile, DataSummary
from tasks.verdict_records import RuleResult, Verdict
from tasks.verdict_text import written_changes

SHOWN_FLIPS = 10
SHOWN_BROKEN_ROWS = 20
ALARM = "alarm:"
PROVED = {"passed": "yes", "refused": "**no**", "inconclusive": "**open**"}
STOPPED = frozenset({"refused", "failed", "cancelled"})
"""Outcomes of a stage that ended the run."""
WIDE, HALF, NARROW = 840, 410, 330
PROFILED = {"tokens": "Rows by length in tokens", "source": "Rows by source", "completion": "Rows by answer"}
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Picture:
    """One plot in two widths: the page shows the one that fits, so that text stays readable."""

    wide: Markup
    narrow: Markup


@dataclass(frozen=True)
class ScoreRow:
    """One metric of one benchmark, model by model."""

    benchmark: str
    metric: str
    base: ScoreLine | None
    candidate: ScoreLine | None
    champion: ScoreLine | None

    @property
    def gain(self) -> float | None:
        """Candidate minus base."""
        return self.candidate.value - self.base.value if self.candidate and self.base else None


@dataclass(frozen=True)
class Rows:
    """The ledger in numbers: does every row that came in have a fate?"""

    rows_in: int
    dropped: int
    kept: int
    complete: bool


def write_report(record: RunRecord, workspace: Path, path: Path) -> None:
    """Write the HTML page of `record` to `path`, whole or not at all.

    Args:
        record: the run.
        workspace: the folder that holds the line's files of this run; what is absent is left out with its reason.
        path: where the page goes.
    """
    write_text(path, render_report(record, read_evidence(record, workspace)))


def render_report(record: RunRecord, evidence: Evidence) -> str:
    """The text of `write_report`."""
    summaries = [found.value for found in evidence.summaries if found.value is not None]
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            record=record,
            evidence=evidence,
            duration=wording.between(record.started_at, record.finished_at),
            score_rows=score_rows(record),
            stopped=[stage for stage in record.stages if stage.outcome in STOPPED and stage.message],
            pictures=pictures(record, evidence, summaries),
            summaries=summaries,
            rows=count_rows(summaries),
            alarms=alarms(summaries),
            docs_link=DOCS_LINK if evidence.docs is not None else "",
            changed=changed_answers(record, evidence),
            shown_flips=SHOWN_FLIPS,
            shown_broken_rows=SHOWN_BROKEN_ROWS,
            params=[(name, list(wording.flattened(value, ""))) for name, value in record.params.items()],
            missing=missing_sentences(record, evidence),
        )
    )


def templates() -> Environment:
    """The templates of pages, which escape every text, with the words that they write numbers in."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        share=wording.share, measured=wording.measured, points=wording.points, condition=wording.condition,
        seconds=wording.seconds, moment=wording.moment, cut=wording.cut, meaning=meaning, first_line=wording.first_line,
        more_lines=wording.more_lines, last_words=last_words, sweep_command_line=wording.sweep_command_line,
        suggested_command=wording.suggested_command, written_changes=written_changes,
    )  # fmt: skip
    return environment


def last_words(stage: StageRecord, record: RunRecord) -> str:
    """What a stage that stopped said, without the line that the page begins with."""
    is_told = record.reason == f"{stage.name}: {stage.message}"
    return wording.more_lines(stage.message) if is_told else stage.message


def pictures(record: RunRecord, evidence: Evidence, summaries: list[DataSummary]) -> dict[str, Picture]:
    """Every plot that there is evidence for, by its name."""
    drawn = {}
    history = evidence.history.value
    if record.scores:
        drawn["scores"] = draw_twice(lambda width: plots.plot_scores(record.scores, floors(record.verdict), width))
    if record.verdict is not None and any(plots.rule_distance(result) for result in record.verdict.results):
        results = record.verdict.results
        drawn["rules"] = draw_twice(lambda width: plots.plot_rules(results, width))
    if history:
        drawn["losses"] = draw_twice(lambda width: plots.plot_losses(history, width))
        drawn["learning_rate"] = draw_twice(lambda width: plots.plot_learning_rate(history, width), HALF)
        drawn["grad_norm"] = draw_twice(lambda width: plots.plot_grad_norm(history, width), HALF)
    if summaries:
        drawn["ledger"] = draw_twice(lambda width: plots.plot_ledger(summaries, width))
    if evidence.profile.value is not None:
        for column in PROFILED:
            if shares := evidence.profile.value.shares.get(column):
                drawn[column] = _share_picture(column, shares, evidence.champion_data)
    if record.stages:
        drawn["timings"] = draw_twice(lambda width: plots.plot_timings(record.stages, width))
    return drawn


def _share_picture(column: str, shares: dict[str, float], champion: DataProfile | None) -> Picture:
    theirs = None if champion is None else champion.shares.get(column)
    return draw_twice(lambda width: plots.plot_shares(PROFILED[column], shares, theirs, width))


def draw_twice(plot: "plots.Plot", wide: int = WIDE) -> Picture:
    """A plot for wide pages and for narrow ones."""
    return Picture(Markup(plot(wide)), Markup(plot(NARROW)))  # noqa: S704  our own SVG; matplotlib escapes its texts


def floors(verdict: Verdict | None) -> dict[tuple[str, str], float]:
    """The least allowed value of each benchmark and metric that has one."""
    if verdict is None:
        return {}
    return {
        (result.benchmark, result.metric): result.threshold
        for result in verdict.results
        if result.condition == "min_value" and result.threshold is not None
    }


def score_rows(record: RunRecord) -> list[ScoreRow]:
    """The scores of the record, one row for each benchmark and metric, in the record's order."""
    lines = {(line.benchmark, line.metric, line.model): line for line in record.scores}
    groups = dict.fromkeys((line.benchmark, line.metric) for line in record.scores)
    return [
        ScoreRow(*group, lines.get((*group, "base")), lines.get((*group, "candidate")), lines.get((*group, "champion")))
        for group in groups
    ]


def count_rows(summaries: list[DataSummary]) -> Rows | None:
    """The ledger's sums; it is complete when every data stage is there, hands on what it got, and the sums agree."""
    if not summaries:
        return None
    dropped = sum(sum(summary.dropped.values()) for summary in summaries)
    first, last = summaries[0], summaries[-1]
    chained = all(ours.rows_out == theirs.rows_in for ours, theirs in pairwise(summaries))
    complete = len(summaries) == len(DATA_STAGES) and chained and first.rows_in == dropped + last.rows_out
    return Rows(first.rows_in, dropped, last.rows_out, complete)


def alarms(summaries: Sequence[DataSummary]) -> list[tuple[str, str]]:
    """The stage and the text of every alarm that a data stage raised."""
    return [
        (summary.stage, note.removeprefix(ALARM).strip())
        for summary in summaries
        for note in summary.notes
        if note.startswith(ALARM)
    ]


def changed_answers(record: RunRecord, evidence: Evidence) -> list[Flips]:
    """The benchmark items whose answer turned right or wrong since the base, then those since the champion."""
    base, candidate = evidence.base_samples.value, evidence.candidate_samples.value
    if base is None or candidate is None:
        return []
    metrics = judged_metrics(record)
    return [
        *flips("base", base, candidate, metrics),
        *flips("champion", evidence.champion_samples, candidate, metrics),
    ]


def judged_metrics(record: RunRecord) -> dict[str, str]:
    """The metric that stands for each benchmark: the one that a rule names, else the first that was scored."""
    metrics: dict[str, str] = {}
    for result in record.verdict.results if record.verdict else ():
        metrics.setdefault(result.benchmark, result.metric)
    for line in record.scores:
        metrics.setdefault(line.benchmark, line.metric)
    return metrics


def missing_sentences(record: RunRecord, evidence: Evidence) -> dict[str, str]:
    """For every section that can be empty, the sentence that stands there instead."""
    samples = (evidence.base_samples.missing, evidence.candidate_samples.missing)
    return {
        "verdict": why_missing(record, "gate") or "The record holds no verdict.",
        "scores": why_missing(record, "evaluate_candidate") or "The record holds no scores.",
        "changed": _first(*samples) or "Base and candidate have no item in common that a metric judges.",
        "curves": evidence.history.missing or "The training history is empty.",
        "rows": _first(*(found.missing for found in evidence.summaries)),
        "parity": why_missing(record, "merge") or "The record holds no parity report.",
        "params": "The parameters did not reach the record.",
    }


def _first(*sentences: str) -> str:
    return next((sentence for sentence in sentences if sentence), "")


def markdown_verdict(verdict: Verdict) -> str:
    """The verdict as markdown for a Prefect artifact: the word first, then the reasons, then every condition."""
    lines = [f"# {verdict.verdict.upper()}", "", f"Adapter `{verdict.adapter_digest[:12]}`", ""]
    lines += [f"- {_plain(reason)}" for reason in verdict.reasons]
    if verdict.diagnosis:
        lines += ["", "What to try:" if verdict.verdict != "passed" else "Hints:", ""]
        for finding in verdict.diagnosis:
            lines.append(f"- {_plain(finding.text)}")
            lines += [f"  - `{wording.sweep_command_line(changes)}`" for changes in finding.changes]
    heads = ("benchmark", "metric", "asked", "threshold", "found", "interval", "holds", "items needed")
    lines += ["", f"| {' | '.join(heads)} |", "|---|---|---|---:|---:|---|---|---:|"]
    for result in verdict.results:
        cells = (
            result.benchmark, result.metric, wording.condition(result.condition),
            wording.measured(result.threshold, result.condition), wording.measured(result.found, result.condition),
            _interval(result), PROVED[result.outcome],
            "" if result.items_needed is None else f"{result.items_needed:,}",
        )  # fmt: skip
        lines.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _interval(result: RuleResult) -> str:
    if result.low is None or result.high is None:
        return "–"
    return f"{wording.share(result.low)} to {wording.share(result.high)}"


def _plain(text: str) -> str:
    return " ".join(text.replace("<", "&lt;").replace("|", "\\|").split())


def score_table(record: RunRecord) -> list[dict[str, str]]:
    """The scores for a Prefect table artifact: one row for each benchmark and metric."""
    return [
        {
            "benchmark": row.benchmark,
            "metric": row.metric,
            "base": _with_interval(row.base),
            "candidate": _with_interval(row.candidate),
            "champion": _with_interval(row.champion),
            "gain over base": "–" if row.gain is None else wording.points(row.gain),
        }
        for row in score_rows(record)
    ]


def _with_interval(line: ScoreLine | None) -> str:
    if line is None:
        return "–"
    if line.low is None or line.high is None:
        return wording.share(line.value)
    return f"{wording.share(line.value)} ({wording.share(line.low)} to {wording.share(line.high)})"
