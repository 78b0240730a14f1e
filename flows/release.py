"""The flow `release`: publish the approved merged model, then, when its run is on record, register and promote it.

Publishing comes first and tags come last: a release is what a tag names, so that a crash in between leaves nothing that
anybody reads.
"""

import shutil
from pathlib import Path

from prefect import flow, get_run_logger, task

from flows import display, registry
from flows.git import git
from flows.promotion import registry_lock
from flows.record import read_run
from flows.release_section import asks_for_approval
from flows.remotes import remote_of
from flows.run_record import ReleaseRecord
from flows.sign_off import check_bytes_not_rejected, check_sign_off
from flows.version_rule import change_since
from flows.workspace import RUN_BRANCHES
from tasks import paths
from tasks.attestations import FILES_OF_THE_RUN, Making, attested, file_materials, source_materials
from tasks.digests import combine_digests, digest_file, file_digests
from tasks.files import read_json
from tasks.model_card import CardEvidence, model_card
from tasks.model_card_text import read_chat_format
from tasks.params import Params, ReleaseParams, load_params
from tasks.publish import publish
from tasks.publish_bundle import BESIDE_THE_MODEL, Published, Release, gather
from tasks.records import BaseRecord, DataSummary, Evaluation, Example, Parity, TrainMetrics
from tasks.signing import key_file, sign
from tasks.tables import read_examples
from tasks.verdict_records import Verdict

SIGNATURES = paths.STATE / "signatures"
PATIENCE_SECONDS = 900.0
"""How long a run that is done waits for a promotion in progress, which hashes and pushes whole models."""
DATA_STAGES = (paths.INGEST, paths.CLEAN, paths.DEDUP, paths.SPLIT)


def identical_release(root: Path, params: Params, merged_digest: str) -> ReleaseRecord | None:
    """A release that makes publishing these bytes needless: it has them, and is still where the parameters say.

    That is the one that holds the stage, or, where nothing is promoted, the newest one. A run that is to be promoted
    needs a version of its own: the stage names the scores that the next candidate is compared with.

    Returns:
        The release; `promoted_stage` says whether it holds the stage now.
    """
    release = params.release
    _, record = registry.champion(root, release.name, release.stage)
    held = record.release if record is not None else None
    if held is not None and _is_same(root, release, held, merged_digest):
        return held.model_copy(update={"promoted_stage": release.stage})
    newest = None if release.promote else registry.newest_release(root, release.name)
    if newest is not None and _is_same(root, release, newest, merged_digest):
        return newest.model_copy(update={"promoted_stage": None})
    return None


def _is_same(root: Path, release: ReleaseParams, known: ReleaseRecord, merged_digest: str) -> bool:
    return known.digest == merged_digest and known.target == release.target and _is_in_place(root, release, known)


def _is_in_place(root: Path, release: ReleaseParams, held: ReleaseRecord) -> bool:
    if release.target == "hub":
        return held.location == release.repo_id
    folder = Path(release.folder) / held.name / held.version
    if Path(held.location) != folder or not (root / folder).is_dir():
        return False
    digests = file_digests(root / folder)
    return combine_digests({name: digests[name] for name in digests if name not in BESIDE_THE_MODEL}) == held.digest


@flow(name="release", log_prints=False)
def release_flow(root: str, worktree: str, run_id: str, commit: str) -> dict[str, object]:
    """Publish the merged model of a worktree under the next version.

    Args:
        root: the user's repository, which holds the registry folder and the tags.
        worktree: the run's worktree.
        run_id: the run that made the model.
        commit: the commit that the run started from.

    Returns:
        A `ReleaseRecord` as plain data; `register_and_promote` makes it a release once its run is on record.

    Raises:
        NotApproved: the run's parameters or today's ask for the approval of another person, and there is none; or
            somebody rejected these bytes.
    """
    params = load_params(Path(worktree) / paths.PARAMS)
    run = read_run(Path(root), run_id)
    if params.release.require_approval or asks_for_approval(Path(root), run.variant):
        check_sign_off(Path(root), run, f"{RUN_BRANCHES}{run_id}")
    check_bytes_not_rejected(Path(root), read_json(Path(worktree) / paths.PARITY, Parity).merged_digest)
    version = version_after(Path(root), params.release.name, Path(worktree))
    return publish_model(root, worktree, run_id, commit, version)


def version_after(root: Path, name: str, place: Path) -> str:
    """The version that the run at `place` gets, by what became other since the newest release."""
    latest = registry.latest_version(root, name)
    if latest is None:
        return registry.next_version(root, name)
    commit = git(root, "rev-parse", f"refs/tags/{name}@{latest}^{{commit}}")
    change, why = change_since(root, commit, f"runs/{registry.run_at(root, commit)}", place)
    version = registry.next_version(root, name, change)
    _say(f"{version} after {latest}: {change}, {why}")
    return version


@task(name="publish")
def publish_model(root: str, worktree: str, run_id: str, commit: str, version: str) -> dict[str, object]:
    """Publish the merged model to the configured target, with its model card and provenance."""
    place, params = Path(worktree), load_params(Path(worktree) / paths.PARAMS)
    release = params.release
    _clear_unregistered(Path(root), release, version)
    base = read_json(place / paths.BASE_RECORD, BaseRecord)
    parity = read_json(place / paths.PARITY, Parity)
    verdict = read_json(place / paths.VERDICT, Verdict)
    described = Release(
        name=release.name,
        version=version,
        run=run_id,
        commit=commit,
        base_digest=base.digest,
        adapter_digest=verdict.adapter_digest,
    )
    evidence = card_evidence(place, described, release, base, parity, verdict)
    bundle = gather(described, place / paths.MERGED_MODEL, place / paths.MERGED_APPROVAL, model_card(evidence))
    bundle = attested(bundle, making(place, params, base, read_run(Path(root), run_id).packages))
    if release.signing_key is not None:
        bundle = sign(bundle, key_file(release.signing_key, Path(root)), Path(root) / SIGNATURES)
        _say("signed the files of the release")
    made = record_of(Path(root), release, publish(bundle, release, Path(root)))
    _say(f"published {release.name} {version} to {made.location}")
    return made.model_dump(mode="json")


def making(place: Path, params: Params, base: BaseRecord, packages: dict[str, str]) -> Making:
    """How the model of a run's worktree was made, for the statements that the release carries.

    `packages` are those that the run has on record: it may be released long after, in another environment.
    """
    evidence = (paths.VERDICT, paths.PARITY, paths.ADAPTER_APPROVAL, paths.MERGED_APPROVAL, paths.DATA_APPROVAL)
    return Making(
        base=base,
        params=params.model_dump(mode="json", by_alias=True),
        sources=source_materials(place, params.sources),
        run_files=file_materials(place, FILES_OF_THE_RUN),
        evidence=file_materials(place, (path.as_posix() for path in evidence)),
        packages=packages,
        scores=read_json(place / paths.EVALUATE_CANDIDATE / paths.EVALUATION, Evaluation),
    )


def card_evidence(
    place: Path, described: Release, release: ReleaseParams, base: BaseRecord, parity: Parity, verdict: Verdict
) -> CardEvidence:
    """What the model card is written from, read out of a run's worktree."""
    is_hub = release.target == "hub" and release.repo_id is not None
    example = shown_example(place)
    return CardEvidence(
        name=described.name,
        version=described.version,
        run=described.run,
        commit=described.commit,
        load_from=str(release.repo_id) if is_hub else f"{release.folder}/{described.name}/{described.version}",
        revision=described.version if is_hub else None,
        approval_digest=digest_file(place / paths.MERGED_APPROVAL),
        base=base,
        data=tuple(read_json(place / folder / paths.SUMMARY, DataSummary) for folder in DATA_STAGES),
        training=read_json(place / paths.TRAIN_METRICS, TrainMetrics),
        base_scores=read_json(place / paths.EVALUATE_BASE / paths.EVALUATION, Evaluation),
        candidate_scores=read_json(place / paths.EVALUATE_CANDIDATE / paths.EVALUATION, Evaluation),
        verdict=verdict,
        parity=parity,
        chat=read_chat_format(place / paths.MERGED_MODEL, example.messages[:-1], example.completion),
    )


def shown_example(place: Path) -> Example:
    """The held-out example that the model card shows: the first of the test partition."""
    return read_examples(place / paths.TEST_EXAMPLES)[0]


def _clear_unregistered(root: Path, release: ReleaseParams, version: str) -> None:
    """Remove what a crashed release left under a version that no tag names; nobody can have read it by its tag."""
    folder = root / release.folder / release.name / version
    if release.target == "folder" and folder.exists():
        _say(f"removing {folder.relative_to(root)}: a release that was never registered")
        shutil.rmtree(folder)


def record_of(root: Path, release: ReleaseParams, published: Published) -> ReleaseRecord:
    """What is on record about a publication; a place inside the repository is named relative to it."""
    location = Path(published.location)
    inside = published.target == "folder" and location.is_absolute() and location.is_relative_to(root)
    return ReleaseRecord(
        name=release.name,
        version=published.version,
        tag=f"{release.name}@{published.version}",
        target=published.target,
        location=location.relative_to(root).as_posix() if inside else published.location,
        digest=published.digest,
        promoted_stage=release.stage if release.promote else None,
        files=published.files,
    )


@task(name="register and promote")
def register_and_promote(root: str, release: dict[str, object], commit: str) -> None:
    """Tag the commit that holds the run's record as a version and, when asked, assign the stage to it."""
    described = ReleaseRecord.model_validate(release)
    with registry_lock(Path(root), PATIENCE_SECONDS):
        registry.register(Path(root), described, commit)
        if described.promoted_stage is not None:
            registry.promote(Path(root), described, described.promoted_stage)
    _say(f"registered {described.tag}; {described.promoted_stage or 'no stage'} is {described.version}")
    if remote := remote_of(Path(root)):
        _say(f"{remote} is not told of it; `tunegate promote {described.tag}` pushes the tags and the record")


def _say(text: str) -> None:
    get_run_logger().info(text)
    display.current().line("release", text)
