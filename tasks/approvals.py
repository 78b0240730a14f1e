"""Approvals: small files that name the digest of what was checked; consumers depend on them, not on reports."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.digests import digest_path
from tasks.errors import NotApproved
from tasks.files import read_json, write_json

Subject = Literal["data", "adapter", "merged_model"]


class Approval(BaseModel):
    """One decision about exact bytes.

    `digest` is that of the subject, `evidence` maps what was looked at to its digest. A refusal is written too, so
    that a stage has its output either way, and so that nobody can mistake the absence of a file for a mistake. So is
    that nothing was proved, `inconclusive`, which is no approval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    subject: Subject
    digest: str
    evidence: dict[str, str]
    approved_by: str
    decision: Literal["approved", "refused", "inconclusive"]


def write_approval(path: Path, approval: Approval) -> None:
    """Write an approval; the same decision about the same bytes gives the same file."""
    write_json(path, approval)


def require_approval(approval_path: Path, subject_path: Path, next_move: str) -> Approval:
    """The approval of exactly the bytes at `subject_path`.

    Raises:
        NotApproved: it was refused or nothing was proved, or it names other bytes.
        FileInvalid: the approval is missing or torn.
    """
    approval = read_json(approval_path, Approval)
    if approval.decision == "inconclusive":
        raise NotApproved(f"{subject_path}: {approval.approved_by} proved neither good nor bad; {next_move}")
    if approval.decision != "approved":
        raise NotApproved(f"{subject_path} was refused by {approval.approved_by}; {next_move}")
    found = digest_path(subject_path)
    if found != approval.digest:
        raise NotApproved(
            f"{subject_path} has digest {found[:12]}, {approval.approved_by} approved {approval.digest[:12]}; "
            f"{next_move}"
        )
    return approval
