"""What can be known before anything is started: parameters, sources, metrics, the base's folder, a token to publish."""

import re
from collections.abc import Iterator
from pathlib import Path

from flows.git import git
from tasks.errors import BaseInvalid, ParamsInvalid, SourceInvalid
from tasks.params import Params, PathOrigin, load_params
from tasks.paths import EVALS, PARAMS

METRIC = re.compile(r"^ *-? *metric: *([\w@.-]+)", re.MULTILINE)
"""A metric in a benchmark's file; as text, because its tags (`!function`) are for lm-eval alone to resolve."""


def check_input(root: Path, *, release: bool) -> Params:
    """Parse the parameters and look for everything that they name.

    Args:
        root: the user's repository.
        release: whether the run may publish.

    Raises:
        ParamsInvalid: params.yaml is wrong, or a rule names a metric that its benchmark does not have.
        SourceInvalid: a source file is missing, or git does not know it.
        BaseInvalid: the folder of the base model is missing.
        PublishFailed: publishing to the Hub needs a token.
    """
    params = load_params(root / PARAMS)
    _stop(SourceInvalid, "params.yaml sources", _missing_sources(root, params), "put it there, or mend the path")
    _stop(SourceInvalid, "a run takes what git tracks", _untracked_sources(root, params), "`git add` it and run again")
    _stop(ParamsInvalid, "params.yaml gate.rules", _unknown_metrics(root, params), "mend the rule")
    origin = params.base_model.origin
    if isinstance(origin, PathOrigin) and not Path(origin.path).is_dir():
        raise BaseInvalid(f"params.yaml base_model.origin.path: {origin.path}: no such folder; nothing was started")
    if release and params.release.target == "hub":
        from tasks.publish_hub_session import read_token  # noqa: PLC0415  only where a token is needed

        read_token()
    return params


def _stop(kind: type[Exception], where: str, problems: Iterator[str], next_move: str) -> None:
    found = list(problems)
    if found:
        lines = "\n".join(f"  {problem}" for problem in found)
        raise kind(f"{where}: nothing was started\n{lines}\n{next_move}")


def _missing_sources(root: Path, params: Params) -> Iterator[str]:
    for source in params.sources:
        if source.repo_id is None and not (root / source.path).exists():
            yield f"source {source.name}: {source.path}: no such file or folder"


def _untracked_sources(root: Path, params: Params) -> Iterator[str]:
    """Files that `dvc repro` would read here and a run, which has a worktree of its own, would not see."""
    from tasks.row_readers import READERS  # noqa: PLC0415  pyarrow takes a while

    for source in params.sources:
        if source.repo_id is None:
            for name in git(root, "ls-files", "--others", "-z", "--", source.path).split("\0"):
                if name.endswith(tuple(READERS)):
                    yield f"source {source.name}: {name}: git does not know it"


def _unknown_metrics(root: Path, params: Params) -> Iterator[str]:
    for index, rule in enumerate(params.gate.rules):
        definition = root / EVALS / rule.benchmark / f"{rule.benchmark}.yaml"
        if definition.is_file():
            known = METRIC.findall(definition.read_text(encoding="utf-8"))
            if rule.metric not in known:
                yield f"rule {index + 1}: {rule.benchmark} has no metric {rule.metric!r}; it has {', '.join(known)}"
