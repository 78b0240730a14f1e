"""The index of all runs: one self-contained HTML page, made from what git has, without a server.

Every text from a record is escaped. The only script sorts and filters the table; its digest stands in the page's
policy, so that no other one can run.
"""

import base64
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from flows import plots
from flows.record import run_folder
from flows.reporting import TEMPLATES, Picture, draw_twice, templates
from flows.run_branches import read_blobs, read_runs, run_branches
from flows.run_record import RunRecord
from flows.sign_off import SIGN_OFFS, SignOffs
from flows.workspace import REPORTS
from tasks.errors import FileInvalid
from tasks.files import parse_json, write_text
from tasks.paths import DRIFT as DRIFT_FILE
from tasks.records import Validation

INDEX = REPORTS / "index.html"
DRIFT = DRIFT_FILE.name
LARGEST = "expect_column_max_to_be_between"
"""The expectation of the drift suite that observes the largest drift; the others look at the table's shape."""
SHOWN_METRICS = 4


@dataclass(frozen=True)
class Row:
    """A run as the index shows it: the largest drift of its data, and who signed it off."""

    record: RunRecord
    drift: float | None
    signed: tuple[str, ...]
    has_report: bool


def write_index(root: Path) -> Path:
    """Write the page of all runs on record to `.tunegate/reports/index.html`, whole or not at all; returns its path.

    Raises:
        FileInvalid: a record cannot be read; `tunegate audit verify --all` names every one.
    """
    path = root / INDEX
    write_text(path, render_index(read_rows(root)))
    return path


def refresh_index(root: Path) -> None:
    """Write the page where that can be done: it is a courtesy, which must not cost a run."""
    with contextlib.suppress(Exception):
        write_index(root)


def read_rows(root: Path) -> list[Row]:
    """Every run on record, the newest first."""
    records, branches = read_runs(root), run_branches(root)
    folders = [f"{branches[record.run_id].commit}:{run_folder(record.run_id).as_posix()}" for record in records]
    found = read_blobs(root, [f"{folder}/{name}" for folder in folders for name in (SIGN_OFFS, DRIFT)])
    texts = [None if blob is None else blob.decode("utf-8", "replace") for blob in found]
    return [
        Row(record, _drift(drift), _signed(signs), (root / REPORTS / record.run_id / "report.html").exists())
        for record, signs, drift in zip(records, texts[::2], texts[1::2], strict=True)
    ]


def _signed(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    try:
        entries = parse_json(text, SignOffs, SIGN_OFFS).entries
    except FileInvalid:
        return (f"{SIGN_OFFS} cannot be read: `tunegate audit verify` says why",)
    return tuple(f"{entry.approval.decision} by {entry.approval.approved_by}: {entry.why}" for entry in entries)


def _drift(text: str | None) -> float | None:
    """The largest drift that was observed in the data of a run; None where it was compared with none."""
    if text is None:
        return None
    try:
        results = parse_json(text, Validation, DRIFT).results
        observed = [float(result.observed) for result in results if result.expectation.startswith(LARGEST)]
        return max(observed, default=None)
    except (FileInvalid, ValueError):
        return None


def render_index(rows: Sequence[Row]) -> str:
    """The text of `write_index`."""
    script = (TEMPLATES / "index.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    judged = (line for row in rows for line in row.record.judged_scores)
    metrics = list(dict.fromkeys((line.benchmark, line.metric) for line in judged))[:SHOWN_METRICS]
    return (
        templates()
        .get_template("index.html.j2")
        .render(
            rows=rows,
            pictures={f"{benchmark} · {metric}": _timeline(rows, benchmark, metric) for benchmark, metric in metrics},
            statuses=list(dict.fromkeys(row.record.status for row in rows)),
            script=Markup(script),  # noqa: S704  our own file
            script_digest=digest,
        )
    )


def _timeline(rows: Sequence[Row], benchmark: str, metric: str) -> Picture:
    points = [
        plots.Point(line, row.record.started_at, row.record.status, row.record.release is not None)
        for row in reversed(rows)
        for line in row.record.judged_scores
        if (line.benchmark, line.metric) == (benchmark, metric)
    ]
    return draw_twice(lambda width: plots.plot_timeline(f"{benchmark} · {metric}", points, width))
