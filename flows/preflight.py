"""What can be known before anything is started: parameters, sources, metrics, the base's folder, a token to publish."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from flows.benchmarks import misplaced_folders, unknown_benchmarks, unknown_metrics
from flows.git import git
from flows.machine import has_cuda
from flows.reproduce import read_stages, stages_up_to
from flows.variants import chosen_name, chosen_params
from tasks.digests import digest_file
from tasks.errors import BaseInvalid, KeyInvalid, ParamsInvalid, SourceInvalid
from tasks.params import HubOrigin, Params, PathOrigin, ReleaseParams
from tasks.params_checks import impossible_with_vllm, impossible_without_cuda
from tasks.paths import PARAMS


def check_input(
    root: Path,
    *,
    release: bool,
    until: str | None = None,
    params_file: Path | None = None,
    variant: str | None = None,
) -> Params:
    """Parse the parameters and look for everything that they name and the run will use.

    Args:
        root: the user's repository.
        release: whether the run may publish.
        until: the stage that the run stops after; what only later stages use is not looked for.
        params_file: the file that stands for params.yaml; messages name it.
        variant: whose overlay lies over them.

    Raises:
        ParamsInvalid: the file is wrong, a benchmark or its folder is unknown, or a rule names a metric that its
            benchmark does not have.
        SourceInvalid: a source file is missing, not the pinned one, or git does not know it.
        BaseInvalid: the folder of the base model is missing.
        PublishFailed: publishing to the Hub needs a token.
        KeyInvalid: releases are to be signed, and the keys cannot do it.
        StageUnknown: dvc.yaml has no stage `until`.
    """
    reached = None if until is None else {stage.name for stage in stages_up_to(read_stages(root), until)}
    params, shown = chosen_params(root, params_file, variant), chosen_name(params_file, variant)
    check_stage_names(root, params, Path(shown))
    _stop(SourceInvalid, f"{shown} sources", _missing_sources(root, params), "put it there, or mend the path")
    _stop(SourceInvalid, f"{shown} sources", _other_bytes(params), "pin these bytes, or put the pinned ones there")
    _stop(SourceInvalid, "a run takes what git tracks", _untracked_sources(root, params), "`git add` it and run again")
    if reached is None or "benchmark_items" in reached:
        where = f"{shown} evaluate"
        _stop(ParamsInvalid, f"{where}.include_path", misplaced_folders(root, params), "then run again")
        _stop(ParamsInvalid, f"{where}.benchmarks", unknown_benchmarks(root, params), "mend the name")
    if reached is None or "gate" in reached:
        _stop(ParamsInvalid, f"{shown} gate.rules", unknown_metrics(root, params), "mend the rule")
    origin = params.base_model.origin
    needs_base = reached is None or "base" in reached
    if needs_base and isinstance(origin, PathOrigin) and not Path(origin.path).is_dir():
        raise BaseInvalid(f"{shown} base_model.origin.path: {origin.path}: no such folder; nothing was started")
    check_release(root, params.release, is_asked_for=release and until is None)
    return params


def check_release(root: Path, release: ReleaseParams, *, is_asked_for: bool) -> None:
    """Refuse now what a release would stumble over after hours: keys that are wrong, a token that is not there.

    Raises:
        KeyInvalid: releases are to be signed, and the keys cannot do it.
        PublishFailed: publishing to the Hub needs a token.
    """
    if not is_asked_for:
        return
    _check_signing(root, release)
    if release.target == "hub":
        from tasks.publish_hub_session import read_token  # noqa: PLC0415  only where a token is needed

        read_token()


def check_stage_names(root: Path, params: Params, shown: Path) -> None:
    """Refuse limits for a stage that dvc.yaml does not have; they would mean nothing.

    Raises:
        ParamsInvalid: with each such name and the stages that there are.
    """
    if not params.run.by_stage:
        return
    known = [stage.name for stage in read_stages(root)]
    unknown = (f"{name}: expected one of {', '.join(known)}" for name in params.run.by_stage if name not in known)
    _stop(ParamsInvalid, f"{shown} run.by_stage", unknown, "mend the name")


def _check_signing(root: Path, release: ReleaseParams) -> None:
    """Refuse now what signing would stumble over after hours: keys that are missing, no pair, or no secret.

    Raises:
        KeyInvalid: one of the keys is missing or wrong, git has the private one or does not know the public one.
    """
    if release.signing_key is None or release.public_key is None:
        return
    from tasks.signing import check_keys, key_file  # noqa: PLC0415  only where something is signed

    private = key_file(release.signing_key, root)
    check_keys(private, root / release.public_key)
    if private.resolve().is_relative_to(root.resolve()) and git(root, "ls-files", "--", str(private.resolve())):
        raise KeyInvalid(f"{private}: git has this private key, and whoever has the repository; make another pair")
    if not git(root, "ls-files", "--", release.public_key):
        raise KeyInvalid(f"release.public_key: git does not know {release.public_key}; `git add` it and run again")


def check_machine(root: Path, params: Params, *, until: str | None = None, params_file: Path | None = None) -> None:
    """Refuse before a run what this machine cannot do, and a base model of the Hub at no real commit.

    A CUDA device is looked for without torch (`flows.machine`); the stage `train` asks torch itself.

    Raises:
        ParamsInvalid: with each value that needs a CUDA device, or that vLLM cannot load, and what to write instead.
        BaseInvalid: the revision is the zeros of the profiles.
        StageUnknown: dvc.yaml has no stage `until`.
    """
    shown = str(params_file or PARAMS)
    origin = params.base_model.origin
    if isinstance(origin, HubOrigin) and origin.is_placeholder:
        raise BaseInvalid(
            f"{shown} base_model.origin.revision: {origin.revision} stands for a commit that you choose; nothing was "
            f"started\nwrite the commit of {origin.repo_id} that you want"
        )
    reached = None if until is None else {stage.name for stage in stages_up_to(read_stages(root), until)}
    if (reached is None or "evaluate_base" in reached) and _takes_vllm(params):
        where = f"{shown}: vLLM is installed and would be used"
        _stop(ParamsInvalid, where, impossible_with_vllm(params), "change this, or uninstall vLLM")
    if (reached is None or "train" in reached) and not has_cuda():
        where = f"{shown}: this machine has no CUDA device"
        _stop(ParamsInvalid, where, impossible_without_cuda(params), "change this, or run where there is a GPU")


def _takes_vllm(params: Params) -> bool:
    """Whether the stage `evaluate` will choose vLLM by itself; an explicit choice was checked with the parameters."""
    is_free = params.evaluate.backend == "auto" and params.quantization is None
    return is_free and has_cuda() and find_spec("vllm") is not None


def _stop(kind: type[Exception], where: str, problems: Iterator[str], next_move: str) -> None:
    found = list(problems)
    if found:
        lines = "\n".join(f"  {problem}" for problem in found)
        raise kind(f"{where}: nothing was started\n{lines}\n{next_move}")


def _missing_sources(root: Path, params: Params) -> Iterator[str]:
    for source in params.sources:
        if source.repo_id is not None:
            continue
        if _is_pattern(source.path):
            if not any(path.is_file() for path in root.glob(source.path)):
                yield f"source {source.name}: {source.path}: no file matches this pattern"
        elif not (root / source.path).exists():  # an absolute path stays what it is
            yield f"source {source.name}: {source.path}: no such file or folder"


def _is_pattern(path: str) -> bool:
    return not Path(path).is_absolute() and any(sign in path for sign in "*?[")


def _other_bytes(params: Params) -> Iterator[str]:
    """Pinned files whose bytes are others than those that the parameters name."""
    for source in params.sources:
        if source.sha256 is not None and Path(source.path).is_file():
            found = digest_file(Path(source.path))
            if found != source.sha256:
                yield f"source {source.name}: {source.path}: has sha256 {found}, expected {source.sha256}"


def _untracked_sources(root: Path, params: Params) -> Iterator[str]:
    """Files that `dvc repro` would read here and a run, which has a worktree of its own, would not see."""
    from tasks.row_readers import READERS  # noqa: PLC0415  pyarrow takes a while

    for source in params.sources:
        if source.repo_id is None and source.sha256 is None:
            magic = "glob" if _is_pattern(source.path) else "literal"
            listed = git(root, "ls-files", "--others", "-z", "--", f":({magic}){source.path}")
            for name in listed.split("\0"):
                if name.endswith(tuple(READERS)):
                    yield f"source {source.name}: {name}: git does not know it"
