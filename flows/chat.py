"""What `tunegate chat` can talk to: released models, their adapters and the base, each as it is on record.

Adapters and bases come out of DVC's cache into worktrees that are there for as long as the conversation. Talking itself
is a process of its own (`tasks.chat`), since nothing here may load a model.
"""

import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from flows import registry, workspace
from flows.git import repository_root
from flows.record import read_run, resolve_run
from flows.release_section import release_params
from flows.release_verification import require_intact
from flows.releases import Released, read_release, released_by, tag_of
from flows.reproduce import checkout
from flows.run_branches import run_revision
from flows.run_record import RunRecord
from flows.stopping import stoppable
from flows.variants import variant_names
from tasks import paths
from tasks.chat_plan import ChatBase, ChatPlan, Talker
from tasks.digests import digest_path
from tasks.errors import NotApproved, ParamsInvalid, RunNotFound
from tasks.files import read_json, write_json
from tasks.params import Params, load_params
from tasks.params_data import Source
from tasks.params_train import ComputeParams
from tasks.records import BaseRecord

MERGED = ":merged"
"""What stands behind the name of a run or a release to mean its merged model."""
BY_ITSELF = ComputeParams(dtype="auto", threads=0, num_processes=1, sharding="none")
"""How a folder answers that nobody's parameters go with."""


@dataclass(frozen=True)
class Made:
    """What a run made, in a worktree of its commit."""

    name: str
    params: Params
    base: ChatBase
    models: tuple[Talker, ...]


def chat_command(start: Path, wanted: list[str], max_new_tokens: int) -> int:
    """Talk until whoever talks leaves; returns the exit code.

    Raises:
        RunNotFound: a release or a run is asked for that is not there, or nothing holds a stage yet.
        ParamsInvalid: the models that are asked for have no base in common.
        NotApproved: an adapter is not the one on record.
        PublishRefused: a released folder is not what was approved.
        WorkspaceInvalid: neither DVC's cache nor its remote has what a run made.
    """
    with stoppable(), ExitStack() as places:
        plan = make_plan(start, wanted, max_new_tokens, places)
        scratch = Path(places.enter_context(tempfile.TemporaryDirectory()))
        write_json(scratch / "plan.json", plan)
        process = subprocess.Popen([sys.executable, "-m", "tasks.chat", str(scratch / "plan.json")])
        before = signal.signal(signal.SIGINT, lambda *_: None)  # ^C is for the one who talks; ignoring it is inherited
        try:
            return process.wait()
        finally:
            signal.signal(signal.SIGINT, before)
            process.terminate()
            process.wait()


def make_plan(start: Path, wanted: list[str], max_new_tokens: int, places: ExitStack) -> ChatPlan:
    """Everything that is asked for, checked out into worktrees that `places` removes.

    Args:
        start: a folder of the repository.
        wanted: versions, `NAME@VERSION`, runs, or folders of models; nothing for all that hold their stage.
        max_new_tokens: the longest answer.
        places: what the worktrees live in.

    Raises: as `chat_command`.
    """
    folders = [Path(one) for one in wanted if Path(one, "config.json").is_file()]
    alone = [Talker(name=str(folder), kind="merged", folder=str(folder.resolve())) for folder in folders]
    others = [one for one in wanted if Path(one) not in folders]
    made: list[Made] = []
    if others or not wanted:
        root = repository_root(start)
        made = [_made(root, *named, places) for named in _named(root, others)]
        _require_one_base(made)
    models = [model for one in made for model in one.models if model.kind != "base"]
    merged_first = sorted(models, key=lambda model: model.kind != "merged")
    base = [Talker(name="base", kind="base", folder=None)] if made else []
    return ChatPlan(
        base=made[0].base if made else None,
        compute=made[0].params.compute if made else BY_ITSELF,
        models=(*alone, *merged_first, *base),
        system=_system(made[0].params.sources) if made else None,
        max_new_tokens=max_new_tokens,
    )


def _named(root: Path, wanted: list[str]) -> list[tuple[RunRecord, Released | None]]:
    """The runs that are meant, each with its release if it has one."""
    name = release_params(root).name
    found: list[tuple[RunRecord, Released | None]] = []
    for one in wanted or _holders(root):
        tag = tag_of(root, name, one)
        if tag is not None:
            released = read_release(root, tag)
            found.append((released.record, released))
        else:
            run = read_run(root, resolve_run(root, one))
            found.append((run, released_by(root, run.run_id)))
    return found


def _holders(root: Path) -> list[str]:
    """The tags of what holds its stage: of the model of params.yaml, and of every variant."""
    held = []
    for variant in (None, *variant_names(root)):
        try:
            release = release_params(root, variant)
        except ParamsInvalid:
            continue
        holder = registry.stage_holder(root, release.name, release.stage)
        if holder is not None and holder.tag is not None:
            held.append(holder.tag)
    if not held:
        raise RunNotFound(
            "no release holds its stage yet: `tunegate run` makes one; or name a run, `tunegate audit list` shows them"
        )
    return held


def _made(root: Path, run: RunRecord, released: Released | None, places: ExitStack) -> Made:
    name = released.tag if released else run.run_id
    commit = released.commit if released else run_revision(root, run.run_id)
    place = places.enter_context(workspace.at_commit(root, commit))
    params = load_params(place / paths.PARAMS)
    checkout(place, paths.BASE, paths.ADAPTER)
    trained = place / paths.ADAPTER
    _require_recorded(name, run, paths.ADAPTER, trained)
    models = [_merged(root, name, run, released, place)]
    if (trained / "adapter_config.json").is_file():  # method `full` trains no adapter
        models.append(Talker(name=name, kind="adapter", folder=str(trained)))
    base = _found_base(place)
    chat_base = ChatBase(record=base, tokenizer=str(place / paths.BASE_TOKENIZER), quantization=params.quantization)
    return Made(name, params, chat_base, tuple(model for model in models if model is not None))


def _found_base(place: Path) -> BaseRecord:
    """The base's record, with weights where they will be found from any folder."""
    base = read_json(place / paths.BASE_RECORD, BaseRecord)
    own = f"path:{place / paths.BASE_MODEL}"
    return base.model_copy(update={"weights": own}) if base.weights == str(paths.BASE_MODEL) else base


def _merged(root: Path, name: str, run: RunRecord, released: Released | None, place: Path) -> Talker | None:
    """The merged model: the released folder, else what the run left in DVC's cache; None where it merged nothing."""
    if released is not None and released.release.target == "folder":
        require_intact(root, released)
        folder = root / released.release.location
    elif (merged := run.stage("merge")) is not None and str(paths.MERGED_MODEL) in merged.output_digests:
        checkout(place, paths.MERGED_MODEL)
        folder = place / paths.MERGED_MODEL
        _require_recorded(name, run, paths.MERGED_MODEL, folder)
    else:
        return None
    return Talker(name=f"{name}{MERGED}", kind="merged", folder=str(folder))


def _require_recorded(name: str, run: RunRecord, out: Path, place: Path) -> None:
    """Refuse an output that is another than the one on record."""
    known = {path: digest for stage in run.stages for path, digest in stage.output_digests.items()}
    recorded, found = known.get(str(out)), digest_path(place)
    if recorded is None:
        raise RunNotFound(f"{name}: the run came to no {out}: it ended as {run.status}; `tunegate audit list`")
    if found != recorded:
        raise NotApproved(f"{name}: {out} has digest {found[:12]}, on record is {recorded[:12]}; run again")


def _require_one_base(made: list[Made]) -> None:
    """Refuse adapters that cannot stand in front of the same weights."""
    first = made[0]
    for other in made[1:]:
        differs = (
            ("base model", other.base.record.digest != first.base.record.digest),
            ("quantization", other.base.quantization != first.base.quantization),
            ("compute dtype", other.params.compute.dtype != first.params.compute.dtype),
        )
        if names := [name for name, is_other in differs if is_other]:
            raise ParamsInvalid(
                f"{first.name} and {other.name} were trained with another {' and '.join(names)}: talk to one at a time"
            )


def _system(sources: list[Source]) -> str | None:
    """The system prompt of the first training source, which the model has seen; None where its rows have their own."""
    layouts = [source.layout for source in sources if source.role == "train"]
    return next((str(layout.system) for layout in layouts[:1] if getattr(layout, "system", None)), None)
