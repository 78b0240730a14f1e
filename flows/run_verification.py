"""A run's record against what lies beside it in git and in DVC's cache: each link of the proof, ok or broken."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from flows.gate_story import replay
from flows.git import show_bytes
from flows.outputs import LOCKED, run_outputs
from flows.record import run_folder
from flows.release_verification import Finding, evidence_findings, read_at, verify_run
from flows.run_branches import run_revision
from flows.run_record import RunRecord
from flows.workspace import cache_folder
from tasks import paths
from tasks.approvals import Approval
from tasks.digests import combine_digests, digest_file
from tasks.errors import FileInvalid, ParamsInvalid, RunNotFound
from tasks.files import dump_json
from tasks.records import Parity
from tasks.verdict_records import Verdict

State = Literal["ok", "broken", "unknown"]
APPROVALS = {
    "data": "data_approval.json", "adapter": "adapter_approval.json", "merged_model": "merged_approval.json",
}  # fmt: skip
SHOWN_GONE = 3


@dataclass(frozen=True)
class Link:
    """One thing that was held against another; `unknown` is what could not be looked at, and says why."""

    name: str
    state: State
    told: str

    def __str__(self) -> str:
        return f"{self.state if self.state != 'broken' else 'BROKEN':<8} {self.name}: {self.told}"


@dataclass
class CacheDigests:
    """The digests of what DVC's cache holds, each object read once."""

    root: Path
    _known: dict[str, str | None] = field(default_factory=dict)

    def output(self, name: str) -> str | None:
        """The digest, as records have it, of an output whose name in the cache is `name`; None where a part is gone.

        Raises:
            FileInvalid: the list of a folder is torn.
        """
        if not name.endswith(".dir"):
            return self._object(name)
        digests: dict[str, str] = {}
        for inside, part in self._listed(name).items():
            digest = self._object(part)
            if digest is None:
                return None
            digests[inside] = digest
        return combine_digests(digests) if self._object(name) is not None else None

    def _listed(self, name: str) -> dict[str, str]:
        place = self._place(name)
        if not place.is_file():
            return {}
        try:
            return {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(place.read_bytes())}
        except (ValueError, TypeError, KeyError):
            raise FileInvalid(f"{place}: the list of a folder in DVC's cache is torn; remove it") from None

    def _object(self, name: str) -> str | None:
        if name not in self._known:
            place = self._place(name)
            self._known[name] = digest_file(place) if place.is_file() else None
        return self._known[name]

    def _place(self, name: str) -> Path:
        return cache_folder(self.root) / "files" / "md5" / name[:2] / name[2:]


def run_links(root: Path, record: RunRecord, cache: CacheDigests) -> list[Link]:
    """Everything that the record of a run says, held against git and DVC's cache, and the verdict computed again."""
    revision = run_revision(root, record.run_id)
    return [
        *_text_links(root, record, revision),
        *_kept_links(root, record, revision),
        _outputs_link(root, record, cache),
        *_verdict_links(root, record),
    ]


def _text_links(root: Path, record: RunRecord, revision: str) -> Iterator[Link]:
    for name, path, digest in (
        ("parameters", paths.PARAMS.as_posix(), record.params_digest),
        ("dvc.lock", "dvc.lock", record.dvc_lock_digest),
    ):
        content = show_bytes(root, revision, path)
        found = "" if content is None else hashlib.sha256(content).hexdigest()
        if found == digest:
            yield Link(name, "ok", f"sha256 {digest[:12]} as on record" if digest else "there was none")
        else:
            yield Link(name, "broken", f"git has {found[:12] or 'none'}, on record is {digest[:12] or 'none'}")


def _kept_links(root: Path, record: RunRecord, revision: str) -> Iterator[Link]:
    """The files beside the record: they are what the record says, and what each approval names as its evidence."""
    found = list(verify_run(root, record, revision)) if record.status == "passed" else []
    found += _kept_findings(root, record, revision)
    for finding in dict.fromkeys(found):
        yield Link(finding.subject, "broken", finding.problem)
    if not found:
        kept = [*record.approvals, *(["verdict"] if record.verdict else []), *(["parity"] if record.parity else [])]
        yield Link("files beside the record", "ok", ", ".join(kept) or "it kept none that a decision rests on")


def _kept_findings(root: Path, record: RunRecord, revision: str) -> Iterator[Finding]:
    folder = run_folder(record.run_id)
    expected: list[tuple[str, BaseModel, type[BaseModel]]] = [
        (APPROVALS[subject], approval, Approval) for subject, approval in record.approvals.items()
    ]
    expected += [("verdict.json", record.verdict, Verdict)] if record.verdict else []
    expected += [("parity.json", record.parity, Parity)] if record.parity else []
    for file, on_record, kind in expected:
        if (found := read_at(root, revision, folder / file, kind)) != on_record:
            yield Finding(
                f"{folder / file}", "missing in git, or unreadable" if found is None else "not what the record has"
            )
    for approval in record.approvals.values():
        yield from evidence_findings(root, revision, folder, approval, record)


def _outputs_link(root: Path, record: RunRecord, cache: CacheDigests) -> Link:
    """What the stages wrote, hashed again in DVC's cache."""
    wrong, gone, held = [], [], 0
    try:
        objects = run_outputs(root, record.run_id).objects
    except (FileInvalid, ParamsInvalid) as error:
        return Link("outputs", "broken", f"its dvc.lock cannot be read: {str(error).splitlines()[0]}")
    for stage in record.stages:
        for out, digest in stage.output_digests.items() if stage.outcome in LOCKED else ():
            try:
                found = cache.output(objects[out]) if out in objects else None
            except FileInvalid as error:
                wrong.append(str(error))
                continue
            if out not in objects:
                wrong.append(f"{out} is not in its dvc.lock")
            elif found is None:
                gone.append(out)
            elif found != digest:
                wrong.append(f"{out} has digest {found[:12]} in DVC's cache, on record is {digest[:12]}")
            else:
                held += 1
    if wrong:
        return Link("outputs", "broken", "; ".join(wrong))
    if gone:
        shown = ", ".join(gone[:SHOWN_GONE]) + (", …" if len(gone) > SHOWN_GONE else "")
        return Link(
            "outputs", "unknown", f"{held} as on record; DVC's cache does not hold {shown} ({len(gone)} in all); "
            "`dvc fetch` gets them where a remote has them",
        )  # fmt: skip
    return Link("outputs", "ok", f"{held} as on record" if held else "it ended before its first stage")


def _verdict_links(root: Path, record: RunRecord) -> Iterator[Link]:
    """The verdict, computed again from the scores of each item."""
    if record.verdict is None:
        return
    try:
        again = replay(root, record, ())
    except (RunNotFound, FileInvalid, ParamsInvalid) as error:
        yield Link("verdict computed again", "unknown", str(error))
        return
    if dump_json(again) == dump_json(record.verdict):
        yield Link("verdict computed again", "ok", f"{again.verdict}, every byte the same")
    elif _outcomes(again) == _outcomes(record.verdict):
        yield Link("verdict computed again", "ok", f"{again.verdict}, every rule the same; other words or digits")
    else:
        yield Link(
            "verdict computed again", "broken", f"comes to {again.verdict}, on record is {record.verdict.verdict}: "
            f"{', '.join(_different(again, record.verdict)) or 'of another adapter'}",
        )  # fmt: skip


def _outcomes(verdict: Verdict) -> tuple[str, str, dict[str, str]]:
    rules = {f"{rule.benchmark} {rule.metric} {rule.condition}": rule.outcome for rule in verdict.results}
    return verdict.verdict, verdict.adapter_digest, dict(rules)


def _different(one: Verdict, other: Verdict) -> list[str]:
    mine, theirs = _outcomes(one)[2], _outcomes(other)[2]
    return sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
