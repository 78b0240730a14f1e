"""What `tunegate audit verify` looks at and prints."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows import release_verification, sign_off
from flows.commands import ended_run
from flows.git import repository_root
from flows.record import read_run
from flows.record_chain import chain_findings, ends
from flows.release_section import release_params
from flows.release_verification import Finding
from flows.releases import Released, all_tags, find_release, is_withdrawn, read_release, released_by, tag_of
from flows.run_branches import record_texts
from flows.run_record import RunRecord, parse_run_record
from flows.run_verification import CacheDigests, Link, run_links
from flows.tag_verification import tag_findings
from flows.variants import release_names
from flows.workspace import running_id
from tasks.errors import EXIT_REFUSED, FileInvalid, KeyInvalid, NotApproved, PublishRefused
from tasks.params import ReleaseParams
from tasks.publish_bundle import SIGNATURE


@dataclass(frozen=True)
class Verified:
    """What came out about one release, run, or the whole; `summary` is what to say of it where it is fine."""

    subject: str
    links: tuple[Link, ...]
    summary: str
    is_skipped: bool = False

    @property
    def is_ok(self) -> bool:
        """Whether nothing is broken."""
        return self.is_skipped or all(link.state != "broken" for link in self.links)


def verify_command(
    start: Path, wanted: str | None, key: Path | None, *, every: bool = False, as_json: bool = False
) -> int:
    """Check one release or run, all releases, or everything, offline; every difference is named.

    Returns:
        0 where everything agrees, 3 where something does not.

    Raises:
        KeyInvalid: the key that is named is not there.
    """
    if key is not None and not key.is_file():
        raise KeyInvalid(f"--key {key}: no such file; name the PEM file of the public key")
    root = repository_root(start)
    params = release_params(root)
    names = {params.name, *release_names(root).values()}
    looks = _everything(root, names, key) if every else _asked(root, params, names, wanted, key)
    found = []
    for verified in looks:
        found.append(verified)
        if not as_json:
            print_verified(verified)
    if as_json:
        print(dump_verified(found))
    elif not found:
        Console().print("no release yet; `tunegate run` releases what passes")
    return 0 if all(verified.is_ok for verified in found) else EXIT_REFUSED


def dump_verified(found: list[Verified]) -> str:
    """What was looked at, for machines."""
    subjects = [
        {"subject": verified.subject, "ok": verified.is_ok, "links": [asdict(link) for link in verified.links]}
        for verified in found
    ]
    whole = {"ok": all(verified.is_ok for verified in found), "subjects": subjects}
    return json.dumps(whole, indent=2, ensure_ascii=False)


def _asked(
    root: Path, params: ReleaseParams, names: set[str], wanted: str | None, key: Path | None
) -> Iterator[Verified]:
    if wanted is not None and tag_of(root, params.name, wanted) is None:
        run_id = ended_run(root, wanted)
        if released_by(root, run_id) is None:
            yield verify_one_run(root, read_run(root, run_id), CacheDigests(root))
            return
    tags = all_tags(root) if wanted is None else [find_release(root, params.name, wanted).tag]
    yield from (verify_tag(root, names, tag, key) for tag in tags)


def _everything(root: Path, names: set[str], key: Path | None) -> Iterator[Verified]:
    """Every record, every release, every tag and the chain."""
    cache, records, running = CacheDigests(root), list[RunRecord](), running_id(root)
    for run_id, text in record_texts(root).items():
        try:
            record = parse_run_record(text, f"run {run_id}")
        except FileInvalid as error:
            yield Verified(f"run {run_id}", (Link("record", "broken", str(error)),), "")
            continue
        records.append(record)
        if run_id != running:
            yield verify_one_run(root, record, cache)
    yield from (verify_tag(root, names, tag, key) for tag in all_tags(root))
    yield _verified("tags", _as_links(tag_findings(root, records, names)), "every tag is where it was made")
    yield _chain(root, records)


def _chain(root: Path, records: list[RunRecord]) -> Verified:
    """The chain, with what it cannot vouch for: the newest records, and those of before there was one."""
    found = chain_findings(root, records)
    links = [Link(finding.run_id, "broken", finding.problem) for finding in found]
    before = [record.run_id for record in records if record.vouches_for is None]
    if before:
        links.append(Link("records", "unknown", f"{len(before)} are of before the chain: they vouch for none"))
    last = sorted(ends(records))
    if last:
        links.append(Link("ends", "unknown", f"no later record vouches yet for {', '.join(last)}"))
    return Verified(
        "chain of records", tuple(links), f"{len(records) - len(last)} of {len(records)} runs are vouched for"
    )


def verify_one_run(root: Path, record: RunRecord, cache: CacheDigests) -> Verified:
    """A run by its record, whatever became of it."""
    links = tuple(run_links(root, record, cache))
    released = "" if record.release else "; it released nothing"
    return Verified(f"run {record.run_id}", links, f"its record agrees with git and DVC's cache{released}")


def verify_tag(root: Path, names: set[str], tag: str, key: Path | None) -> Verified:
    """A release; a tag of none of our `names` that no run made is told and left alone."""
    began = time.monotonic()
    try:
        released = read_release(root, tag)
    except (PublishRefused, FileInvalid) as error:
        is_ours = tag.rpartition("@")[0] in names
        return Verified(tag, (Link("tag", "broken", str(error)),), "", is_skipped=not is_ours)
    found = release_verification.verify_release(root, released, key)
    found += _sign_off_findings(root, released)
    return _verified(tag, _as_links(found), _what_was_looked_at(root, released, time.monotonic() - began))


def _as_links(found: list[Finding]) -> list[Link]:
    return [Link(finding.subject, "broken", finding.problem) for finding in found]


def _verified(subject: str, links: list[Link], summary: str) -> Verified:
    return Verified(subject, tuple(links) or (Link(subject, "ok", summary),), summary)


def _sign_off_findings(root: Path, released: Released) -> list[Finding]:
    """Whether the approval that the run's own parameters ask for is there, and nobody has rejected it since.

    Today's parameters say nothing of what was before.
    """
    try:
        if sign_off.is_required(released.record, now=False):
            sign_off.check_sign_off(root, released.record, released.commit)
        sign_off.check_rejected_nowhere(root, released.record, released.commit)
    except (NotApproved, FileInvalid) as error:
        return [Finding(sign_off.SIGN_OFFS, str(error))]
    return []


def _what_was_looked_at(root: Path, released: Released, seconds: float) -> str:
    withdrawn = ", withdrawn" if is_withdrawn(root, released.tag) else ""
    if released.release.target != "folder":
        return f"its record agrees with git; its files are on the Hub, not looked at{withdrawn}"
    files, size = release_verification.folder_size(root, released.release)
    is_signed = (root / released.release.location / SIGNATURE).is_file()
    agree = "record, approvals and signature agree" if is_signed else "record and approvals agree"
    return f"{files} files, {size / 1e6:,.1f} MB, {agree}, {seconds:.1f} s{withdrawn}"


def print_verified(verified: Verified) -> None:
    """A line for what is fine, with its links below where there are several; else every link that is broken."""
    console = Console(soft_wrap=True)
    if len(verified.links) == 1 and verified.links[0].name == "tag":  # a tag that names no release says all in one line
        word = "skipped" if verified.is_skipped else "DIFFERS"
        console.print(Text(f"{word}  {verified.links[0].told}", style="yellow"))
        return
    if verified.is_ok:
        console.print(Text(f"ok       {verified.subject}: {verified.summary}", style="green"))
    else:
        console.print(Text(f"DIFFERS  {verified.subject}", style="bold yellow"))
    for link in verified.links:
        if verified.is_ok and link.name == verified.subject:
            continue  # said above
        mark = "" if link.state == "broken" else f"{link.state:<8} "
        console.print(Text(f"  {mark}{link.name}: {link.told}"))
