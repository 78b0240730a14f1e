"""A person signs off what a run made, or rejects it: the bytes of its merged model, in a file beside its record in git.

Who somebody is, is what git says of them. Nobody is kept from setting another name: the file shows who said that they
agreed, and a server that protects the branches `run/*`, with signed commits, makes it proof. docs/release.md says more.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from flows import record as run_records
from flows.branches import add_files
from flows.git import FALLBACK_IDENTITY, git, show_file, who
from flows.record_chain import is_ancestor
from flows.run_branches import every_branch, read_blobs
from flows.run_record import RunRecord, UtcTime
from flows.workspace import RUN_BRANCHES
from tasks.approvals import Approval
from tasks.digests import digest_text
from tasks.errors import NotApproved
from tasks.files import dump_json, parse_json
from tasks.records import Record

SIGN_OFFS = "sign_offs.json"
RECORD = "record.json"
UNKNOWN = (
    "git does not know who you are, so that nobody can tell you from who started the run; set "
    "`git config user.name` and `git config user.email`"
)


class SignOff(Record):
    """One person's approval or rejection; `recorded_by` is whom git named when it was given, `NAME <EMAIL>`."""

    approval: Approval
    why: str = Field(min_length=1)
    at: UtcTime
    recorded_by: str


class SignOffs(Record):
    """Everything that was signed off about one run."""

    schema_version: int = Field(default=1, ge=1, le=1)
    entries: tuple[SignOff, ...]


def approve(root: Path, run: RunRecord, by: str | None, why: str, *, is_required: bool) -> SignOff:
    """Sign off the merged model of `run`; the same person about the same bytes signs once.

    Args:
        root: the user's repository.
        run: the record of a run that passed.
        by: who approves, where that is not the person that git names.
        why: the reason that is kept.
        is_required: whether another person than who started the run has to agree.

    Raises:
        NotApproved: the run did not pass, or whoever approves has started it or is nobody that git knows.
    """
    digest = released_digest(run)
    revision, person = f"{RUN_BRANCHES}{run.run_id}", who(root)
    name = by or person
    if is_required:
        _refuse_same_person(starter(root, run.run_id, revision), run.run_id, person, name)
    for entry in standing(read_sign_offs(root, revision, run.run_id)):
        if (entry.approval.digest, entry.approval.approved_by, entry.recorded_by) == (digest, name, person):
            return entry
    return _sign(root, run, (digest, name, person), "approved", why)


def reject(root: Path, run: RunRecord, by: str | None, why: str) -> SignOff:
    """Reject the merged model of `run`; approvals from before count no longer. Whoever started the run may do it too.

    Raises:
        NotApproved: the run did not pass, so that there is nothing to reject, or git does not know who rejects.
    """
    person = who(root)
    if _is_nobody(person):
        raise NotApproved(f"{UNKNOWN}, and reject again")
    return _sign(root, run, (released_digest(run), by or person, person), "refused", why)


def _sign(
    root: Path, run: RunRecord, what_and_who: tuple[str, str, str], decision: Literal["approved", "refused"], why: str
) -> SignOff:
    """Add an entry to what was signed off about a run: the digest, who decides, and whom git names."""
    digest, name, person = what_and_who
    revision = f"{RUN_BRANCHES}{run.run_id}"
    known = read_sign_offs(root, revision, run.run_id)
    looked_at = {RECORD: RECORD, "verdict": "verdict.json", "merged_model": "merged_approval.json"}
    evidence = {
        what: digest_text(text)
        for what, file in looked_at.items()
        if (text := show_file(root, revision, _path(run.run_id, file))) is not None
    }
    approval = Approval(subject="merged_model", digest=digest, evidence=evidence, approved_by=name, decision=decision)
    made = SignOff(approval=approval, why=why, at=run_records.now(), recorded_by=person)
    text = dump_json(SignOffs(entries=(*known, made)))
    verb = "Approve" if decision == "approved" else "Reject"
    message = f"{verb} run {run.run_id}\n\n{why}\n\nBy: {name}\nDigest: {digest}\nRun: {run.run_id}\n"
    add_files(root, f"{RUN_BRANCHES}{run.run_id}", {_path(run.run_id, SIGN_OFFS): text}, message)
    return made


def released_digest(run: RunRecord) -> str:
    """The digest of the merged model that the run's own checks approved.

    Raises:
        NotApproved: they did not.
    """
    merged = run.approvals.get("merged_model")
    if run.status != "passed" or merged is None or merged.decision != "approved":
        raise NotApproved(
            f"run {run.run_id} is {run.status}: {run.reason.splitlines()[0] if run.reason else 'no reason given'}\n"
            f"only a run that passed can be approved or released; see `tunegate audit show {run.run_id}`"
        )
    return merged.digest


def check_sign_off(root: Path, run: RunRecord, revision: str) -> SignOff:
    """The approval of another person than who started the run, of exactly what it made.

    Args:
        root: the user's repository.
        run: the record of the run.
        revision: the branch or the commit whose files are read.

    Raises:
        NotApproved: there is none; the message has the command that gives one.
    """
    digest, started_by = released_digest(run), starter(root, run.run_id, revision)
    if _is_nobody(started_by):
        raise NotApproved(
            f"run {run.run_id}: git did not know who started it, so that nobody can be told from that person; set "
            "`git config user.name` and `git config user.email` there, and run again"
        )
    wanted = ("merged_model", digest, "approved")
    entries = [
        entry
        for entry in standing(read_sign_offs(root, revision, run.run_id))
        if (entry.approval.subject, entry.approval.digest, entry.approval.decision) == wanted
        and not _is_nobody(entry.recorded_by)
    ]
    for entry in entries:
        if not _is_same(entry.recorded_by, started_by) and not _is_same(entry.approval.approved_by, started_by):
            return entry
    found = f"only {started_by} has, who started it" if entries else "nobody has"
    raise NotApproved(
        f"run {run.run_id}: release.require_approval asks that another person than {started_by} approves "
        f"{digest[:12]}, and {found}; that person gives `tunegate approve {run.run_id}`"
    )


def check_not_rejected(root: Path, run: RunRecord, revision: str) -> None:
    """Refuse what a person rejected, until somebody takes that back: who rejected it, or another than the starter.

    Raises:
        NotApproved: it is rejected; the message says by whom and why.
    """
    entries = read_sign_offs(root, revision, run.run_id)
    if all(entry.approval.decision != "refused" for entry in entries):
        return
    started_by = starter(root, run.run_id, revision)
    for place, entry in enumerate(entries):
        if entry.approval.decision == "refused" and not any(
            _takes_back(later, entry, started_by) for later in entries[place + 1 :]
        ):
            raise NotApproved(
                f"run {run.run_id} was rejected by {entry.approval.approved_by} at {entry.at}: {entry.why}\n"
                f"only that person, or another one than {started_by}, can take it back: "
                f"`tunegate approve {run.run_id}`"
            )


def _takes_back(later: SignOff, rejection: SignOff, started_by: str) -> bool:
    """Whether a later entry lifts a rejection: by who gave it, or by another person than who started the run."""
    if (later.approval.decision, later.approval.digest) != ("approved", rejection.approval.digest):
        return False
    if _is_nobody(later.recorded_by):
        return False
    is_another = not _is_nobody(started_by) and not _is_same(later.recorded_by, started_by)
    return is_another or _is_same(later.recorded_by, rejection.recorded_by)


def check_bytes_not_rejected(root: Path, digest: str) -> None:
    """Refuse a merged model that a person rejected in whatever run made the same bytes before.

    Raises:
        NotApproved: as `check_not_rejected`.
    """
    branches = every_branch(root)
    texts = read_blobs(root, [f"{branch.commit}:{_path(branch.run_id, SIGN_OFFS)}" for branch in branches])
    for branch, text in zip(branches, texts, strict=True):
        if text is not None and digest.encode() in text:
            entries = parse_json(text.decode("utf-8", "replace"), SignOffs, branch.ref).entries
            if any((entry.approval.decision, entry.approval.digest) == ("refused", digest) for entry in entries):
                check_not_rejected(root, run_records.read_run(root, branch.run_id), branch.commit)


def standing(entries: tuple[SignOff, ...]) -> tuple[SignOff, ...]:
    """The approvals that count: those since the last rejection."""
    places = [place for place, entry in enumerate(entries) if entry.approval.decision == "refused"]
    return entries[places[-1] + 1 :] if places else entries


def read_sign_offs(root: Path, revision: str, run_id: str) -> tuple[SignOff, ...]:
    """What was signed off about a run, as `revision` has it.

    Raises:
        FileInvalid: the file is torn or of another schema.
    """
    path = _path(run_id, SIGN_OFFS)
    text = show_file(root, revision, path)
    return () if text is None else parse_json(text, SignOffs, f"{revision}:{path}").entries


def starter(root: Path, run_id: str, revision: str) -> str:
    """Who started a run, `NAME <EMAIL>`: the author of the commit that put it on record."""
    words = ("log", "-1", "--diff-filter=A", "--format=%an <%ae>", revision, "--", _path(run_id, RECORD))
    return git(root, *words)


def newest_revision(root: Path, run_id: str, commit: str) -> str:
    """Where a run's files are read: the newest of `commit`, its branch here and in remotes, which may have more."""
    newest = commit
    for branch in every_branch(root):
        if branch.run_id == run_id and is_ancestor(root, newest, branch.commit):
            newest = branch.commit
    return newest


def check_rejected_nowhere(root: Path, run: RunRecord, commit: str) -> None:
    """Refuse what a person rejected in this clone, or in a remote as far as it was fetched.

    Raises:
        NotApproved: as `check_not_rejected`.
    """
    for branch in every_branch(root):
        if branch.run_id == run.run_id and branch.remote is not None and not is_ancestor(root, branch.commit, commit):
            check_not_rejected(root, run, branch.commit)
    check_not_rejected(root, run, newest_revision(root, run.run_id, commit))


def is_required(run: RunRecord, *, now: bool) -> bool:
    """Whether another person has to agree: by the run's own parameters, or by those of today."""
    release = run.params.get("release")
    return now or (isinstance(release, dict) and release.get("require_approval") is True)


def _refuse_same_person(started_by: str, run_id: str, person: str, name: str) -> None:
    if _is_nobody(person):
        raise NotApproved(f"{UNKNOWN}, and approve again")
    if _is_same(person, started_by) or _is_same(name, started_by):
        raise NotApproved(
            f"{started_by} started run {run_id}, and release.require_approval asks for another person; have somebody "
            f"else give `tunegate approve {run_id}`"
        )


def _is_nobody(person: str) -> bool:
    """Whether git did not know who acted."""
    return _email(person) == FALLBACK_IDENTITY["user.email"]


def _is_same(person: str, other: str) -> bool:
    """Whether two names mean one person: by address, or by name where one has no address."""
    if _email(person) and _email(other):
        return _email(person) == _email(other)
    return _name(person) == _name(other)


def _email(person: str) -> str:
    return person.rpartition("<")[2].rstrip(">").strip().casefold() if "<" in person else ""


def _name(person: str) -> str:
    return person.partition("<")[0].strip().casefold()


def _path(run_id: str, file: str) -> str:
    return (run_records.run_folder(run_id) / file).as_posix()
