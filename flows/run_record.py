"""The run record: one JSON per run that says what ran, on what, with what outcome, so that it can be checked later."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, JsonValue

from tasks.approvals import Approval
from tasks.files import parse_json
from tasks.records import Pace, Parity, Record, Serving
from tasks.verdict_records import Verdict

RunStatus = Literal["passed", "reached", "refused", "inconclusive", "skipped", "invalid", "crashed", "cancelled"]
"""`reached` is a run that was asked to go to a stage and no further: nothing was judged as a whole or released.

`skipped` is a scheduled run that declined to train; its `decision` says why.
`inconclusive` is a run whose gate proved neither that the candidate is good nor that it is not: no pass, exit code 4.
`invalid` is a run that was given what is wrong or not there, a source say, or the network: the user's to mend, exit
code 2. `crashed` is a bug, or a run that was killed.
"""
StageOutcome = Literal["executed", "restored", "unchanged", "refused", "failed", "cancelled", "not_run"]
ENDED: frozenset[StageOutcome] = frozenset({"executed", "restored", "unchanged", "refused"})
"""Outcomes of a stage that came to its end, so that its outputs are this run's."""
Model = Literal["base", "candidate", "champion"]
Cause = Literal[
    "first_run",
    "new_rows",
    "cannot_compare",
    "nothing_new",
    "too_few_new_rows",
    "runs_used",
    "hours_used",
    "busy",
    "data_refused",
    "data_not_there",
]
"""Why a scheduled run trains, one of the first three, or skips."""
UtcTime = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|\+00:00)$")]


class StageRecord(Record):
    """What one stage did in this run.

    `restored` outputs came from the run cache, `unchanged` ones lay in the workspace already; `seconds` is wall time,
    `output_digests` maps each output's path to its digest, `message` is the last word of a stage that did not succeed,
    `pace` is that of a training that was executed, `serving` what the models cost that an executed merge measured.
    """

    name: str
    outcome: StageOutcome
    seconds: FiniteFloat = Field(ge=0)
    exit_code: int | None
    output_digests: dict[str, str]
    message: str
    pace: Pace | None = None
    serving: Serving | None = None


class ScoreLine(Record):
    """One metric of one benchmark for one model; `low` and `high` bound its interval, None where there is none."""

    benchmark: str
    metric: str
    model: Model
    value: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    samples: int


class ReleaseRecord(Record):
    """Where the approved bytes went; `promoted_stage` is None when the release was registered only.

    `digest` is that of the merged model. `files` has the sha256 of every file that was published, the card and the
    provenance too; releases of before have none.
    """

    name: str
    version: str
    tag: str
    target: Literal["folder", "hub"]
    location: str
    digest: str
    promoted_stage: str | None
    files: dict[str, str] = Field(default_factory=dict)


class Decision(Record):
    """Whether a scheduled run trains, and why.

    Rows are counted against `compared_with`, the last run with a verdict: `new_rows` are usable ones that it did not
    have, `gone_rows` those that only it had; None where nothing was compared. `notes` say what was delayed, a remote
    that did not answer say.
    """

    action: Literal["train", "skip"]
    cause: Cause
    why: str
    compared_with: str | None = None
    new_rows: int | None = Field(default=None, ge=0)
    gone_rows: int | None = Field(default=None, ge=0)
    notes: tuple[str, ...] = ()


class EarlierRun(Record):
    """A run as it was on record when a later one vouched for it.

    `commit` is what its branch named then, `digest` the sha256 of the record there.
    """

    run_id: str
    commit: str
    digest: str


class RunRecord(Record):
    """Everything that is known about one run, the refused and the crashed ones included.

    `until` is the stage that the run was asked to stop after, None for the whole line; `variant` is whose overlay lay
    over the parameters, None for none; `decision` is that of a scheduled run. `vouches_for` are the runs that were on
    record before it and that no other record names: `flows.record_chain`. None in records of before the chain.
    `base_commit` is the commit that the user was on; `snapshot_commit` is what ran, with `changed_files` when the
    workspace was `dirty`. Times are ISO 8601 in UTC. `packages` maps distributions to versions.
    """

    schema_version: Literal[1] = 1
    run_id: str
    status: RunStatus
    reason: str
    trigger: Literal["manual", "schedule"]
    started_at: UtcTime
    finished_at: UtcTime
    base_commit: str
    branch: str
    snapshot_commit: str
    dirty: bool
    changed_files: tuple[str, ...]
    params_digest: str
    params: dict[str, JsonValue]
    dvc_lock_digest: str
    stages: tuple[StageRecord, ...]
    packages: dict[str, str]
    hardware: dict[str, str]
    seeds: dict[str, int]
    scores: tuple[ScoreLine, ...]
    verdict: Verdict | None
    parity: Parity | None
    approvals: dict[str, Approval]
    release: ReleaseRecord | None
    prefect: dict[str, str]
    until: str | None = None
    variant: str | None = None
    decision: Decision | None = None
    vouches_for: tuple[EarlierRun, ...] | None = None

    @property
    def judged_scores(self) -> tuple[ScoreLine, ...]:
        """The candidate's scores on the metrics that the verdict decides on."""
        judged = {(result.benchmark, result.metric) for result in self.verdict.results} if self.verdict else set()
        return tuple(
            line for line in self.scores if line.model == "candidate" and (line.benchmark, line.metric) in judged
        )

    def stage(self, name: str) -> StageRecord | None:
        """The stage of that name, or None."""
        return next((stage for stage in self.stages if stage.name == name), None)


def parse_run_record(text: str, origin: str) -> RunRecord:
    """Parse a run record that came from `origin`, a commit's file say.

    Raises:
        FileInvalid: with the fields that are wrong.
    """
    return parse_json(text, RunRecord, origin)
