"""Which runs and releases saw a row: from the records in git and the ledgers in DVC's cache, or what indexes them.

A run that cannot be asked is named with its reason: its answer is not known, and nobody takes it for a no.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from flows import workspace
from flows.outputs import OutputGone, run_outputs
from flows.reproduce import checkout
from flows.row_index import ROW_ID, Fate, RowIndex, ledger_digest
from flows.row_story import FOLDERS, search_rows
from flows.run_branches import read_blobs, read_runs, record_path, run_branches
from flows.run_record import ENDED, RunRecord
from tasks.errors import FileInvalid, TunegateError
from tasks.records import Record

MOST_ROWS = 50
Found = TypeVar("Found")


class RowAmbiguous(TunegateError):
    """Far more rows begin with what was given than anybody asks about."""


class Sighting(Record):
    """One row in one run.

    `rule` is the partition of a row that was kept, or what dropped it. `trained` says whether a training that came to
    its end had it among its examples; `release` is the version that came of it, if any.
    """

    row_id: str
    run_id: str
    status: str
    started_at: str
    stage: str
    fate: str
    rule: str
    trained: bool
    release: str | None


class Unread(Record):
    """A run that could not be asked, and why."""

    run_id: str
    reason: str


class TrainedOn(Record):
    """The answer about one row or text.

    `rows` are the ids that were asked about; `trained_runs` and `releases` saw one of them in training.
    `without_rows` are runs that ended before their rows had a fate, and so trained on none.
    """

    asked: str
    rows: tuple[str, ...]
    sightings: tuple[Sighting, ...]
    trained_runs: tuple[str, ...]
    releases: tuple[str, ...]
    runs_asked: int
    without_rows: tuple[str, ...]
    unread: tuple[Unread, ...]


def trained_on(root: Path, asked: str, *, is_text: bool, fetch: bool) -> TrainedOn:
    """Who saw the rows with this id, this beginning of an id, or this text.

    Args:
        root: the user's repository.
        asked: an id, its beginning, or a text; what looks like an id and names no row is taken for a text.
        is_text: take it for a text in any case.
        fetch: get what DVC's cache has lost from DVC's remote.

    Raises:
        RowAmbiguous: more rows begin so than anybody asks about.
    """
    runs = read_runs(root)
    with_rows = [record for record in runs if ledger_digest(record, "split") is not None]
    asking = _Asking(root, with_rows, fetch=fetch)
    if not is_text and ROW_ID.fullmatch(asked):
        fates = asking.fates([asked])
        if fates or asking.unread:
            return _answer(asked, runs, fates, asking)
    return _answer(asked, runs, asking.fates(asking.rows_with(asked)), asking)


class _Asking:
    """The runs that are asked, and those that could not be."""

    def __init__(self, root: Path, runs: Sequence[RunRecord], *, fetch: bool) -> None:
        self.root, self.runs, self.fetch = root, runs, fetch
        self.index = RowIndex(root)
        self.unread: dict[str, str] = {}
        self._fetched: set[str] = set()

    def fates(self, beginnings: Sequence[str]) -> list[tuple[RunRecord, Fate]]:
        """What became of these rows in every run; runs with the same data are looked up once."""
        known: dict[tuple[str | None, ...], list[Fate]] = {}
        found: list[tuple[RunRecord, Fate]] = []
        for record in self.runs:
            key = tuple(ledger_digest(record, stage) for stage in FOLDERS)
            if key not in known:
                fates = self._read(record, lambda record=record: self._of(record, beginnings))  # type: ignore[misc]
                if fates is None:
                    continue
                known[key] = fates
            found += [(record, fate) for fate in known[key]]
        return found

    def _of(self, record: RunRecord, beginnings: Sequence[str]) -> list[Fate]:
        return [fate for beginning in beginnings for fate in self.index.fates(record, beginning)]

    def rows_with(self, text: str) -> list[str]:
        """The ids of all rows that have a text in them; sources that several runs read are searched once."""
        found: dict[str, None] = {}
        searched: set[str | None] = set()
        for record in self.runs:
            digest = ledger_digest(record, "ingest")
            if digest in searched:
                continue
            rows = self._read(record, lambda record=record: self._search(record, text))  # type: ignore[misc]
            if rows is not None:
                searched.add(digest)
                found |= dict.fromkeys(str(row["id"]) for row in rows)
        told = {record.run_id for record in self.runs if ledger_digest(record, "ingest") in searched}
        self.unread = {run_id: reason for run_id, reason in self.unread.items() if run_id not in told}
        return list(found)

    def _search(self, record: RunRecord, text: str) -> list[dict[str, object]]:
        return search_rows(run_outputs(self.root, record.run_id), text, sys.maxsize)

    def _read(self, record: RunRecord, read: Callable[[], list[Found]]) -> list[Found] | None:
        """What a run's outputs say, fetched once where that is asked for; None, with the reason noted, where not."""
        try:
            return read()
        except OutputGone as gone:
            if not self.fetch or record.run_id in self._fetched:
                self.unread[record.run_id] = str(gone)
                return None
        except FileInvalid as error:
            self.unread[record.run_id] = str(error)
            return None
        self._fetched.add(record.run_id)
        try:
            self._fetch(record)
        except TunegateError as error:
            self.unread[record.run_id] = str(error)
            return None
        return self._read(record, read)

    def _fetch(self, record: RunRecord) -> None:
        with workspace.at_commit(self.root, run_branches(self.root)[record.run_id].commit) as worktree:
            checkout(worktree, *FOLDERS.values())


def _answer(
    asked: str, runs: Sequence[RunRecord], found: Sequence[tuple[RunRecord, Fate]], asking: _Asking
) -> TrainedOn:
    rows = sorted({fate.row_id for _, fate in found})
    if len(rows) > MOST_ROWS and ROW_ID.fullmatch(asked):
        raise RowAmbiguous(
            f"{len(rows):,} rows begin with {asked!r}; give more of the id, or --text to search for words"
        )
    sightings = tuple(_sightings(found, own_releases(asking.root, [record for record, _ in found])))
    trained = [sighting for sighting in sightings if sighting.trained]
    asked_runs = {record.run_id for record in asking.runs}
    return TrainedOn(
        asked=asked,
        rows=tuple(rows),
        sightings=sightings,
        trained_runs=tuple(dict.fromkeys(sighting.run_id for sighting in trained)),
        releases=tuple(dict.fromkeys(sighting.release for sighting in trained if sighting.release is not None)),
        runs_asked=len(asked_runs - asking.unread.keys()),
        without_rows=tuple(record.run_id for record in runs if record.run_id not in asked_runs),
        unread=tuple(Unread(run_id=run_id, reason=reason) for run_id, reason in asking.unread.items()),
    )


def own_releases(root: Path, records: Sequence[RunRecord]) -> dict[str, str]:
    """The tag of each run's release, by the run's id: a version that another run took since is not its own."""
    tags = {record.run_id: record.release.tag for record in records if record.release is not None}
    there = read_blobs(root, [f"refs/tags/{tag}:{record_path(run_id)}" for run_id, tag in tags.items()])
    return {run_id: tag for (run_id, tag), blob in zip(tags.items(), there, strict=True) if blob is not None}


def _sightings(found: Sequence[tuple[RunRecord, Fate]], releases: dict[str, str]) -> Iterator[Sighting]:
    for record, fate in found:
        training = record.stage("train")
        is_trained = training is not None and training.outcome in ENDED
        yield Sighting(
            row_id=fate.row_id, run_id=record.run_id, status=record.status, started_at=record.started_at,
            stage=fate.stage, fate=fate.fate, rule=fate.rule, release=releases.get(record.run_id),
            trained=is_trained and (fate.fate, fate.rule) == ("kept", "train"),
        )  # fmt: skip
