"""Which runs a list is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import get_args

from flows.run_record import RunRecord, RunStatus
from tasks.errors import ParamsInvalid
from tasks.verdict_records import Outcome

DATA_STAGES = ("ingest", "clean", "dedup", "split")


@dataclass(frozen=True)
class RunFilter:
    """What a run has to be; what is None or empty asks nothing.

    `since` and `before` bound the start, `data` begins the digest of what a data stage wrote, `base` is a part of a
    value of `base_model` in the parameters or begins the digest of the base.
    """

    statuses: frozenset[str] = frozenset()
    verdict: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    data: str | None = None
    base: str | None = None
    variant: str | None = None

    @property
    def asks_nothing(self) -> bool:
        """Whether every run meets it."""
        return self == RunFilter()

    def accepts(self, record: RunRecord) -> bool:
        """Whether a run is asked for."""
        started = datetime.fromisoformat(record.started_at)
        return (
            (not self.statuses or record.status in self.statuses)
            and (self.verdict is None or (record.verdict is not None and record.verdict.verdict == self.verdict))
            and (self.since is None or started >= self.since)
            and (self.before is None or started < self.before)
            and (self.data is None or any(digest.startswith(self.data) for digest in _digests(record, DATA_STAGES)))
            and (self.base is None or _has_base(record, self.base))
            and (self.variant is None or record.variant == self.variant)
        )


def run_filter(  # noqa: PLR0913  one for each option of the command
    statuses: Sequence[str],
    verdict: str | None,
    since: str | None,
    until: str | None,
    *,
    data: str | None,
    base: str | None,
    variant: str | None = None,
) -> RunFilter:
    """The filter that a person's words mean; a day as `until` is taken whole.

    Raises:
        ParamsInvalid: a word or a date that means nothing.
    """
    for name, value, known in (
        *(("--status", status, get_args(RunStatus)) for status in statuses),
        ("--verdict", verdict, get_args(Outcome)),
    ):
        if value is not None and value not in known:
            raise ParamsInvalid(f"{name}: found {value!r}, expected one of {', '.join(known)}")
    before = None if until is None else _moment("--until", until)
    if before is not None:
        before += timedelta(days=1) if _is_day(str(until)) else timedelta(seconds=1)
    return RunFilter(
        frozenset(statuses),
        verdict,
        None if since is None else _moment("--since", since),
        before,
        data,
        base,
        variant,
    )


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _moment(name: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ParamsInvalid(f"{name}: found {text!r}, expected a day as 2026-11-23, or 2026-11-23T14:05") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _digests(record: RunRecord, stages: Sequence[str]) -> list[str]:
    found = (record.stage(name) for name in stages)
    return [digest for stage in found if stage is not None for digest in stage.output_digests.values()]


def _has_base(record: RunRecord, wanted: str) -> bool:
    section = record.params.get("base_model")
    values = list(section.values()) if isinstance(section, dict) else []
    origin = section.get("origin") if isinstance(section, dict) else None
    values += list(origin.values()) if isinstance(origin, dict) else []
    is_named = any(isinstance(value, str) and wanted.casefold() in value.casefold() for value in values)
    return is_named or any(digest.startswith(wanted) for digest in _digests(record, ("base",)))
