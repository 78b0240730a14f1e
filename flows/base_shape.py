"""The shape of the base model, found without loading weights: in a file, in what `base` wrote, or on the Hub."""

from collections.abc import Iterator
from pathlib import Path

from flows.outputs import Outputs, run_outputs, workspace_outputs
from flows.run_branches import read_runs
from tasks import paths
from tasks.errors import BaseInvalid, FileInvalid
from tasks.files import read_json
from tasks.model_shape import ModelShape, read_shape
from tasks.params import HubOrigin, Params, PathOrigin
from tasks.records import BaseRecord

CONFIG = "config.json"


class ShapeUnknown(BaseInvalid):
    """Nothing on this machine says how large the base model is."""


def find_shape(root: Path, params: Params, config: Path | None) -> ModelShape:
    """The shape of the parameters' base model.

    Args:
        root: the user's repository.
        params: the parameters.
        config: a config.json to take instead of looking for one.

    Raises:
        FileInvalid: the file is missing, or its family is not known.
        ShapeUnknown: it is nowhere to be found; the message says what to run.
    """
    if config is not None:
        return read_shape(config)
    origin = params.base_model.origin
    if isinstance(origin, PathOrigin):
        return read_shape(Path(origin.path) / CONFIG)
    for outputs in _candidates(root):
        if (found := _written(outputs, params)) is not None:
            return found
    if isinstance(origin, HubOrigin) and origin.is_placeholder:
        raise ShapeUnknown(
            f"base_model.origin.revision: {origin.revision} stands for a commit that you choose: write the commit of "
            f"{origin.repo_id} that you want, or give the config.json with --config"
        )
    if isinstance(origin, HubOrigin):
        return read_shape(fetch_config(origin.repo_id, origin.revision))
    raise ShapeUnknown(
        f"{params.base_model.name} has not been fetched here yet: `tunegate run --until base` does it once; "
        "or give its config.json with --config"
    )


def _candidates(root: Path) -> Iterator[Outputs]:
    """The workspace's own data/, then that of every run, the newest first."""
    yield workspace_outputs(root)
    for record in read_runs(root):
        yield run_outputs(root, record.run_id)


def _written(outputs: Outputs, params: Params) -> ModelShape | None:
    """What `base` wrote there, when it was of the same model and the files are still there and whole."""
    try:
        record, config = outputs.path(paths.BASE_RECORD), outputs.path(paths.BASE_TOKENIZER / CONFIG)
        if record is None or config is None:
            return None
        base = read_json(record, BaseRecord)
    except FileInvalid:
        return None
    origin = params.base_model.origin.model_dump()
    is_same = base.name == params.base_model.name and all(
        origin.get(key) == found for key, found in base.origin.items()
    )
    return read_shape(config) if is_same else None


def fetch_config(repo_id: str, revision: str) -> Path:
    """The config.json of one commit, from the Hub's cache or the Hub (`HF_ENDPOINT` and `HF_TOKEN` are read).

    Raises:
        ShapeUnknown: the Hub has no such commit, does not show it to this token, or does not answer.
    """
    from huggingface_hub import hf_hub_download  # noqa: PLC0415  only where a model of the Hub is planned
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415  as above

    try:
        return Path(hf_hub_download(repo_id, CONFIG, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ShapeUnknown(
            f"{repo_id}@{revision[:12]}: its config.json cannot be fetched: {reason}; check the revision and the "
            "network, or give the file with --config"
        ) from None
