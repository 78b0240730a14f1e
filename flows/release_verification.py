"""What is on record about a release against what lies in its folder and in git: every difference by name, offline.

The chain is tag, commit, record, verdict, approvals, digests, files. A link that is missing is a finding too: no
evidence is no pass.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from flows.git import show_bytes, show_file
from flows.record import run_folder
from flows.releases import Released
from flows.run_record import ReleaseRecord, RunRecord
from tasks.approvals import Approval
from tasks.digests import combine_digests, digest_text, file_digests
from tasks.errors import FileInvalid, PublishRefused
from tasks.files import parse_json, read_json
from tasks.publish_bundle import BESIDE_THE_MODEL, PROVENANCE, SIGNATURE, Provenance
from tasks.signing import signature_problem
from tasks.verdict_records import Verdict

Kind = TypeVar("Kind", bound=BaseModel)
EVIDENCE_FILES = {"evaluate_base": "base.json", "evaluate_candidate": "candidate.json", "parity": "parity.json"}
"""Where the run's commit has what an approval names as its evidence."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it is on record; `subject` is a file of the folder or of the commit."""

    subject: str
    problem: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.problem}"


def verify_run(root: Path, record: RunRecord, revision: str) -> list[Finding]:
    """The record of a run that passed against the verdict and the approvals that its commit holds."""
    return list(_run_findings(root, record, revision))


def verify_release(root: Path, released: Released, trusted: Path | None = None) -> list[Finding]:
    """A release against its record, and the record against git; a release on the Hub by its record alone.

    Args:
        root: the user's repository.
        released: the release.
        trusted: the public key that has to have signed it; None for the key of the release's own commit, if any.
    """
    found = [*_run_findings(root, released.record, released.commit), *_release_findings(released)]
    return [*found, *_folder_findings(root, released, trusted)] if released.release.target == "folder" else found


def require_intact(root: Path, released: Released) -> None:
    """Refuse a release of which anything is not as it is on record.

    Raises:
        PublishRefused: with every difference by name.
    """
    if found := verify_release(root, released):
        lines = "\n".join(f"  {finding}" for finding in found)
        raise PublishRefused(
            f"{released.tag} is not what was approved:\n{lines}\n"
            f"nothing was changed; put these bytes back, or release the next version by `tunegate run`"
        )


def _run_findings(root: Path, record: RunRecord, revision: str) -> Iterator[Finding]:
    folder = run_folder(record.run_id)
    if record.status != "passed" or record.verdict is None or record.verdict.verdict != "passed":
        yield Finding(f"{folder}/record.json", f"run {record.run_id} is on record as {record.status}, not passed")
        return
    verdict = read_at(root, revision, folder / "verdict.json", Verdict)
    if verdict != record.verdict:
        yield Finding(f"{folder}/verdict.json", _missing_or(verdict, "another verdict than the record has"))
    for subject, file, digest in (
        ("adapter", "adapter_approval.json", record.verdict.adapter_digest),
        ("merged_model", "merged_approval.json", record.release.digest if record.release else None),
    ):
        approval = read_at(root, revision, folder / file, Approval)
        if approval is None or approval != record.approvals.get(subject):
            yield Finding(f"{folder}/{file}", _missing_or(approval, "another approval than the record has"))
        elif (
            approval.decision != "approved"
            or approval.subject != subject
            or approval.digest != (digest or approval.digest)
        ):
            yield Finding(
                f"{folder}/{file}",
                f"{approval.decision} {approval.subject} {approval.digest[:12]}, on record is {(digest or '')[:12]}",
            )
        else:
            yield from evidence_findings(root, revision, folder, approval, record)


def evidence_findings(
    root: Path, revision: str, folder: Path, approval: Approval, record: RunRecord
) -> Iterator[Finding]:
    """What an approval names as its evidence against the files that lie beside the record."""
    for name, file in EVIDENCE_FILES.items():
        if name in approval.evidence:
            text = show_file(root, revision, (folder / file).as_posix())
            if text is None or digest_text(text) != approval.evidence[name]:
                yield Finding(f"{folder}/{file}", _missing_or(text, f"not what approved the {approval.subject}"))
    adapter = approval.evidence.get("adapter")
    if adapter is not None and record.verdict is not None and adapter != record.verdict.adapter_digest:
        yield Finding(f"{folder}/merged_approval.json", f"made from adapter {adapter[:12]}, the gate judged another")


def read_at(root: Path, revision: str, path: Path, kind: type[Kind]) -> Kind | None:
    """A file of a commit; None where it is missing or torn, which is a finding either way."""
    text = show_file(root, revision, path.as_posix())
    try:
        return None if text is None else parse_json(text, kind, f"{revision[:12]}:{path}")
    except FileInvalid:
        return None


def _missing_or(found: object, problem: str) -> str:
    return "missing in git, or unreadable" if found is None else problem


def _release_findings(released: Released) -> Iterator[Finding]:
    release = released.release
    if release.files and combine_digests(model_files(release.files)) != release.digest:
        yield Finding(released.tag, "the files on record are not those of the digest on record")


def model_files(files: dict[str, str]) -> dict[str, str]:
    """The files of the merged model among those of a released folder."""
    return {name: digest for name, digest in files.items() if name not in BESIDE_THE_MODEL}


def _folder_findings(root: Path, released: Released, trusted: Path | None) -> Iterator[Finding]:
    release = released.release
    folder = root / release.location
    if not folder.is_dir():
        yield Finding(release.location, "the folder is missing")
        return
    try:
        provenance: Provenance | None = read_json(folder / PROVENANCE, Provenance)
    except FileInvalid:
        provenance = None
        yield Finding(PROVENANCE, "missing or unreadable")
    wanted = release.files or (provenance.files if provenance else {})
    yield from compare_files(file_digests(folder), wanted, is_whole=bool(release.files))
    yield from links(folder)
    if provenance is not None:
        yield from _provenance_findings(root, released, provenance)
    yield from _signature_findings(root, released, trusted)


def _signature_findings(root: Path, released: Released, trusted: Path | None) -> Iterator[Finding]:
    """The signature, by the key that is trusted or else by that of the release's own commit, where one is asked for."""
    folder = root / released.release.location
    asked = released.record.params.get("release")
    named = asked.get("public_key") if isinstance(asked, dict) else None
    is_asked = named is not None or trusted is not None
    if not (folder / SIGNATURE).is_file():
        if is_asked:
            yield Finding(SIGNATURE, "missing: the release is not signed")
        return
    if trusted is not None:
        problem = signature_problem(folder, trusted)
    elif (text := show_bytes(root, released.commit, str(named))) is None:
        problem = f"no public key to check it with: git has no {named} at {released.commit[:12]}; name one by --key"
    else:
        with tempfile.TemporaryDirectory() as scratch:
            key = Path(scratch) / Path(str(named)).name
            key.write_bytes(text)
            problem = signature_problem(folder, key)
    if problem is not None:
        yield Finding(SIGNATURE, problem)


def compare_files(found: dict[str, str], wanted: dict[str, str], *, is_whole: bool) -> Iterator[Finding]:
    """Every file that differs, is missing or is extra.

    `is_whole` says that `wanted` has all files; else what lies beside the model is not known by its digest.
    """
    beside = frozenset() if is_whole else BESIDE_THE_MODEL
    for name in sorted(found.keys() | wanted.keys()):
        if name not in wanted:
            if name not in beside:
                yield Finding(name, "extra: it was not released")
        elif name not in found:
            yield Finding(name, "missing")
        elif found[name] != wanted[name]:
            yield Finding(name, f"differs: sha256 {found[name][:12]}, released was {wanted[name][:12]}")


def links(folder: Path) -> Iterator[Finding]:
    """What is no plain file: a link to a folder, say, which hashing files does not see."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            yield Finding(path.relative_to(folder).as_posix(), "a link, or no plain file: a release has none")


def _provenance_findings(root: Path, released: Released, provenance: Provenance) -> Iterator[Finding]:
    record, release = released.record, released.release
    told = provenance.release
    if (told.name, told.version, told.run) != (release.name, release.version, record.run_id):
        yield Finding(PROVENANCE, f"is of {told.name} {told.version} by run {told.run}")
    if record.verdict is not None and told.adapter_digest != record.verdict.adapter_digest:
        yield Finding(PROVENANCE, f"names adapter {told.adapter_digest[:12]}, the gate judged another")
    if combine_digests(provenance.files) != release.digest:
        yield Finding(PROVENANCE, "lists other files than were approved")
    path = (run_folder(record.run_id) / "merged_approval.json").as_posix()
    approval = show_bytes(root, released.commit, path)
    if provenance.approval != record.approvals.get("merged_model"):
        yield Finding(PROVENANCE, "holds another approval than the record")
    if approval is not None and digest_text(approval.decode("utf-8", "replace")) != provenance.approval_digest:
        yield Finding(PROVENANCE, f"names another file as approval than {path}")


def folder_size(root: Path, release: ReleaseRecord) -> tuple[int, int]:
    """How many files lie in a released folder, and their bytes."""
    files = [path for path in (root / release.location).rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)
