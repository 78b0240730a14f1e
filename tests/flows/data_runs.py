"""Runs on record whose data stages wrote real ledgers that DVC's cache has, with the digests that records have."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from flows import workspace
from flows.record import commit_record, output_digests
from flows.record_chain import ends_of_the_chain
from flows.run_record import RunRecord
from tasks import paths
from tasks.digests import digest_file
from tests.flows.fake_run import passed_record
from tests.flows.tiny_repo import run

DATA = ("ingest", "clean", "dedup", "split")


def put_data_run(root: Path, run_id: str, write: Callable[[Path], None], **changes: object) -> RunRecord:
    """A run whose data stages wrote what `write` writes; nothing was judged, unless `changes` say so."""
    place = workspace.open_place(root, run_id)
    write(place.worktree)
    stages = {name: {"cmd": "true", "outs": [f"data/{name}"]} for name in DATA}
    (place.worktree / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    (place.worktree / "dvc.lock").unlink(missing_ok=True)
    run(place.worktree, sys.executable, "-m", "dvc", "commit", "--force", "--quiet")
    workspace.commit_all(place, "The line of this run", ["dvc.yaml"])
    record, outs = passed_record(), {name: (f"data/{name}",) for name in DATA}
    told: Mapping[str, object] = {
        "run_id": run_id,
        "branch": place.branch,
        "base_commit": place.base_commit,
        "snapshot_commit": place.start_commit,
        "started_at": f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}T08:15:02+00:00",
        "params_digest": digest_file(place.worktree / paths.PARAMS),
        "dvc_lock_digest": digest_file(place.worktree / "dvc.lock"),
        "stages": tuple(
            stage.model_copy(update={"output_digests": output_digests(place.worktree, outs.get(stage.name, ()))})
            for stage in record.stages
        ),
        "approvals": {}, "verdict": None, "parity": None, "release": None,
        "vouches_for": ends_of_the_chain(root, run_id),
    }  # fmt: skip
    made = record.model_copy(update={**told, **changes})
    commit_record(place, made)
    workspace.close_place(place)
    return made


def object_of(root: Path, run_id: str, out: str) -> Path:
    """The object in DVC's cache that a run's output, or one file of it, has."""
    from flows.outputs import run_outputs  # noqa: PLC0415  the test module that asks has it already

    found = run_outputs(root, run_id).path(Path(out))
    assert found is not None
    return found
