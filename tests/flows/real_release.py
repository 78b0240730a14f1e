"""Releases in a folder registry with all that a run leaves: files, approvals, record, tag; nothing was trained."""

from pathlib import Path

from flows import registry, workspace
from flows.record import commit_record, now
from flows.record_chain import ends_of_the_chain
from flows.release import SIGNATURES, record_of
from flows.run_record import ReleaseRecord, RunRecord
from flows.workspace import RunPlace
from tasks import paths
from tasks.approvals import Approval, write_approval
from tasks.digests import digest_file, digest_path
from tasks.files import read_json
from tasks.params import ReleaseParams, load_params
from tasks.publish_bundle import Release, gather
from tasks.publish_folder import publish_to_folder
from tasks.records import Parity
from tasks.signing import key_file, sign
from tasks.verdict_records import Verdict
from tests.flows.fake_run import passed_record
from tests.flows.tiny_line import parity, safetensors, write_whole_line
from tests.flows.tiny_repo import commit
from tests.unit.test_signing import PUBLIC, make_keys

NAME = "support-router"
RUNS = ("20261120-081502-0001", "20261121-081502-0002", "20261122-081502-0003")


def run_that_passed(root: Path, number: int) -> tuple[RunPlace, RunRecord]:
    """The worktree and the record of run `number`, whose merged model has bytes of its own; not committed yet."""
    place = workspace.open_place(root, RUNS[number - 1])
    work = place.worktree
    write_whole_line(work)
    (work / paths.GATE_EVIDENCE).unlink()  # the verdict is made up: nobody could compute it again
    (work / paths.MERGED_MODEL / "model.safetensors").write_bytes(safetensors(b"merged %d" % number))
    merged = Approval(
        subject="merged_model", digest=digest_path(work / paths.MERGED_MODEL), approved_by="merge",
        evidence={"parity": "", "adapter": digest_path(work / paths.ADAPTER)}, decision="approved",
    )  # fmt: skip
    (work / paths.PARITY).write_text(parity(merged.digest).model_dump_json())
    merged = merged.model_copy(update={"evidence": merged.evidence | {"parity": digest_file(work / paths.PARITY)}})
    write_approval(work / paths.MERGED_APPROVAL, merged)
    params = load_params(work / paths.PARAMS).model_dump(mode="json")
    adapter = read_json(work / paths.ADAPTER_APPROVAL, Approval)
    fake = passed_record()
    record = fake.model_copy(
        update={
            "run_id": place.run_id,
            "snapshot_commit": place.start_commit,
            "params_digest": digest_file(work / paths.PARAMS),
            "dvc_lock_digest": digest_file(work / "dvc.lock") if (work / "dvc.lock").exists() else "",
            "stages": tuple(stage.model_copy(update={"output_digests": {}}) for stage in fake.stages),
            "vouches_for": ends_of_the_chain(root, place.run_id),
            "started_at": now(),
            "verdict": read_json(work / paths.VERDICT, Verdict),
            "parity": read_json(work / paths.PARITY, Parity),
            "approvals": {"adapter": adapter, "merged_model": merged},
            "params": params,
            "release": None,
        }
    )
    return place, record


def pass_only(root: Path, number: int = 1) -> RunRecord:
    """A run that passed and released nothing, on record."""
    place, record = run_that_passed(root, number)
    commit_record(place, record)
    workspace.close_place(place)
    return record


def make_release(root: Path, number: int) -> ReleaseRecord:
    """Version v0.0.`number`, published to the folder registry, on record and tagged."""
    place, record = run_that_passed(root, number)
    assert record.verdict is not None
    described = Release(
        name=NAME, version=f"v0.0.{number}", run=place.run_id, commit=place.start_commit, base_digest="b" * 64,
        adapter_digest=record.verdict.adapter_digest,
    )  # fmt: skip
    bundle = gather(described, place.worktree / paths.MERGED_MODEL, place.worktree / paths.MERGED_APPROVAL, "card\n")
    params = release_params(root)
    if params.signing_key is not None:
        bundle = sign(bundle, key_file(params.signing_key, root), root / SIGNATURES)
    made = record_of(root, params, publish_to_folder(bundle, root / params.folder))
    commit = commit_record(place, record.model_copy(update={"release": made}))
    workspace.close_place(place)
    registry.register(root, made, commit)
    return made


def release_params(root: Path) -> ReleaseParams:
    return load_params(root / "params.yaml").release


def file_of(root: Path, number: int, name: str) -> Path:
    """A file of a released folder."""
    return root / "registry" / NAME / f"v0.0.{number}" / name


def sign_from_now_on(root: Path, keys: Path) -> None:
    """Configure a pair of keys: the private one in `keys`, named by a variable; the public one in git."""
    _, public = make_keys(keys)
    (root / PUBLIC).write_bytes(public.read_bytes())
    text = (root / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("signing_key: null", "signing_key: env:RELEASE_KEY").replace(
        "public_key: null", f"public_key: {PUBLIC}"
    )
    (root / "params.yaml").write_text(text, encoding="utf-8")
    commit(root, "sign")
