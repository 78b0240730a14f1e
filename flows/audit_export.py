"""A run as one zip that an outsider checks with `sha256sum -c`, without this project and without its repository."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from flows.git import git, show_bytes
from flows.record import run_folder
from flows.record_chain import is_ancestor
from flows.release_verification import EVIDENCE_FILES
from flows.releases import Released, released_by
from flows.run_branches import read_runs, run_revision
from flows.run_record import RunRecord
from tasks.files import whole
from tasks.publish_bundle import BESIDE_THE_MODEL

SUMS, EVIDENCE_SUMS, MODEL_SUMS, GIT = "SHA256SUMS", "EVIDENCE.sha256", "MODEL.sha256", "git.json"
OF_THE_COMMIT = ("params.yaml", "dvc.yaml", "dvc.lock", "requirements.lock", "data/champion/champion.json")
MOMENT = (1980, 1, 1, 0, 0, 0)  # the first that a zip can name: the same run gives the same bytes
README = """\
Run {run_id}, which ended as {status}

Unpack this folder and, in it, give

    sha256sum --check SHA256SUMS        every file is the one that was exported
    sha256sum --check EVIDENCE.sha256   parameters, dvc.lock and the evidence of the approvals are those on record

Ask whoever sent it for the sha256 of SHA256SUMS itself by another way: {name} names nobody by itself. It is printed
when the zip is made.

record.json                 what ran, on what, with what outcome: parameters, versions, digests of every output, verdict
params.yaml, dvc.lock, ...  the files of the run's commit; record.json has the sha256 of params.yaml (`params_digest`)
                            and of dvc.lock (`dvc_lock_digest`)
verdict.json                the gate's decision, rule by rule, with intervals
base.json, candidate.json   the scores; *_samples.jsonl.gz has every item: what was asked, expected and answered
*_approval.json             who or what approved which bytes; `evidence` has the sha256 of what was looked at
sign_offs.json              what people approved, with who, when and why
git.json                    the commits with their authors, the tags with their messages, the records that vouch for it
release/                    what lies beside the released model: its card, where it comes from (provenance.json,
                            slsa_provenance.json), what it is made of (mlbom.cdx.json), its signature (model.sig)
MODEL.sha256                every released file: `sha256sum --check` in the folder of the release
public_key.pem              the key that model.sig is checked with: `model_signing verify key`

What it cannot show: that the repository itself was not rewritten before it was exported. Compare git.json with a clone
of your own, or check `tunegate audit verify --all` there.
"""


def export_run(root: Path, record: RunRecord, place: Path) -> str:
    """Write the zip of a run to `place`, whole or not at all; returns the sha256 of its list of sums.

    The same run of the same repository gives the same bytes.
    """
    files = gather(root, record)
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    files[SUMS] = sums.encode()
    with whole(place) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(f"run-{record.run_id}/{name}", MOMENT)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return hashlib.sha256(files[SUMS]).hexdigest()


def gather(root: Path, record: RunRecord) -> dict[str, bytes]:
    """The files of the zip, by name: those of the run's branch, those beside its release, and what git says of both."""
    revision, released = run_revision(root, record.run_id), released_by(root, record.run_id)
    folder = run_folder(record.run_id).as_posix()
    names = git(root, "ls-tree", "-r", "--name-only", revision, f"{folder}/").splitlines()
    wanted = {name.removeprefix(f"{folder}/"): name for name in names} | {name: name for name in OF_THE_COMMIT}
    found = {name: show_bytes(root, revision, path) for name, path in wanted.items()}
    files = {name: content for name, content in found.items() if content is not None}
    files |= _of_release(root, released) if released is not None else {}
    files[GIT] = _dumped(git_facts(root, record, revision, released))
    files[EVIDENCE_SUMS] = _evidence_sums(record).encode()
    files["README.txt"] = README.format(run_id=record.run_id, status=record.status, name=SUMS).encode()
    return files


def _of_release(root: Path, released: Released) -> dict[str, bytes]:
    files = {}
    folder = root / released.release.location
    for name in sorted(BESIDE_THE_MODEL):
        if released.release.target == "folder" and (folder / name).is_file():
            files[f"release/{name}"] = (folder / name).read_bytes()
    files[MODEL_SUMS] = _sums(released.release.files).encode()
    asked = released.record.params.get("release")
    key = asked.get("public_key") if isinstance(asked, dict) else None
    if key is not None and (content := show_bytes(root, released.commit, str(key))) is not None:
        files["public_key.pem"] = content
    return files


def _evidence_sums(record: RunRecord) -> str:
    """What the record says of files that are in the zip, in the form of sha256sum; not taken from the files."""
    named = {
        file: approval.evidence[name]
        for approval in record.approvals.values()
        for name, file in EVIDENCE_FILES.items()
        if approval.evidence.get(name)
    }
    files = {"params.yaml": record.params_digest, "dvc.lock": record.dvc_lock_digest}
    return _sums({**named, **{name: digest for name, digest in files.items() if digest}})


def _sums(digests: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def git_facts(root: Path, record: RunRecord, revision: str, released: Released | None) -> dict[str, object]:
    """What git says of a run: commits with authors, the tags on them, and the records that vouch for it."""
    commits = git(
        root, "log", "--format=%H%x00%an <%ae>%x00%aI%x00%s", f"{record.snapshot_commit}..{revision}"
    ).splitlines()
    names = ("commit", "author", "date", "subject")
    tags = git(root, "tag", "--list", "--points-at", released.commit).split() if released is not None else []
    return {
        "branch": revision,
        "commits": [dict(zip(names, line.split("\0"), strict=True)) for line in commits],
        "tags": [{"name": tag, "object": git(root, "cat-file", "-p", f"refs/tags/{tag}")} for tag in tags],
        "vouched_for_by": [
            {"run_id": other.run_id, "commit": earlier.commit, "digest": earlier.digest}
            for other in read_runs(root)
            for earlier in other.vouches_for or ()
            if earlier.run_id == record.run_id and is_ancestor(root, earlier.commit, revision)
        ],
    }  # fmt: skip


def _dumped(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
