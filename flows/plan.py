"""What a run would take, from the parameters and the model's configuration alone: memory, steps, disk, time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from flows import machine
from flows.base_shape import ShapeUnknown, find_shape
from flows.git import show_file
from flows.record import run_folder
from flows.run_branches import read_runs, run_revision
from flows.run_record import RunRecord
from tasks.errors import FileInvalid, TrainingInvalid
from tasks.files import parse_json
from tasks.gate_margins import undecidable_margins
from tasks.memory import METHODS, Memory, Method, Setting, estimate, setting_of, trained_weights
from tasks.memory_advice import Advice, advise
from tasks.model_shape import ModelShape
from tasks.params import Params
from tasks.params_checks import impossible_without_cuda, outside_usual_ranges
from tasks.paths import EVALS
from tasks.records import Record, TrainMetrics
from tasks.training_cost import disk, flops_of_a_token, steps

GPU_SIZES_GB = (8, 16, 24, 40, 48, 80)
"""Memory of common cards; a card of so many GB is taken to have so many times 10^9 bytes, a little less than it has."""
GPU_FLOPS = 0.4 * 312e12
"""40 % of the dense bfloat16 peak that NVIDIA states for the A100; assumed, not measured by this project."""
CPU_FLOPS_A_CORE = 25e9
"""float32 products of training on a core of an AMD EPYC with AVX-512, as this project measured them."""
LINES = (".jsonl", ".csv", ".tsv")


class MemoryRow(Record):
    """The memory of one method on a GPU or a CPU; `other_peak` is the peak with checkpointing the other way."""

    device: str
    method: Method
    is_chosen: bool
    parts: dict[str, int]
    activations: int
    activations_checkpointed: int
    peak: int
    other_peak: int
    fits: dict[str, bool]


class AdviceLine(Record):
    """What would make the parameters' own method fit somewhere."""

    place: str
    changes: tuple[str, ...]
    peak: int
    fits: bool


class Plan(Record):
    """Everything that `tunegate plan` says beside the stages; sizes in bytes, None where something is not known."""

    unusual: tuple[str, ...]
    impossible: tuple[str, ...]
    unknown: str | None
    memory: tuple[MemoryRow, ...] = ()
    is_checkpointed: bool = False
    advice: tuple[AdviceLine, ...] = ()
    weights: int | None = None
    trained_weights: int | None = None
    examples: int | None = None
    examples_from: str = ""
    steps: int | None = None
    seconds: float | None = None
    seconds_from: str = ""
    gpu_seconds: float | None = None
    disk: dict[str, int] = Field(default_factory=dict)


@dataclass(frozen=True)
class Past:
    """The newest run on record that trained, on the same sources and the same base where it says so."""

    record: RunRecord
    metrics: TrainMetrics


def make_plan(root: Path, params: Params, config: Path | None) -> Plan:
    """The plan of a run with `params`; what the base's shape would have to be known for is left out without it.

    Raises:
        FileInvalid: `config` is no configuration of a model.
    """
    is_cuda = machine.has_cuda()
    unusual = (*outside_usual_ranges(params), *margin_warnings(root, params))
    impossible = () if is_cuda else tuple(impossible_without_cuda(params))
    past = newest_training(root, params)
    examples, origin = count_examples(root, params, past)
    counted = None if examples is None else steps(params.train, examples, params.compute.num_processes)
    plan = Plan(
        unusual=unusual, impossible=impossible, unknown=None, examples=examples, examples_from=origin, steps=counted
    )
    try:
        shape = find_shape(root, params, config)
        return plan.model_copy(update=_sized(shape, params, plan, past, is_cuda=is_cuda))
    except (ShapeUnknown, FileInvalid, TrainingInvalid) as error:
        if config is not None:
            raise
        return plan.model_copy(update={"unknown": str(error)})


def margin_warnings(root: Path, params: Params) -> list[str]:
    """What the gate can hardly decide with the items that the project's own benchmarks have."""
    counts = {}
    for benchmark in params.evaluate.benchmarks:
        files = list((root / EVALS / benchmark.name).glob("*.jsonl"))
        if files:
            counts[benchmark.name] = sum(len(file.read_bytes().splitlines()) for file in files)
    return list(undecidable_margins(params.gate, counts))


def _sized(shape: ModelShape, params: Params, plan: Plan, past: Past | None, *, is_cuda: bool) -> dict[str, object]:
    here = setting_of(params, is_cuda=is_cuda)
    seconds, origin = (None, "") if plan.steps is None else time_of(shape, here, params, plan.steps, past)
    return {
        "memory": tuple(memory_rows(shape, params, is_cuda=is_cuda)),
        "is_checkpointed": here.is_checkpointed,
        "advice": tuple(advice_lines(shape, params, is_cuda=is_cuda)),
        "weights": shape.weights,
        "trained_weights": trained_weights(shape, here),
        "seconds": seconds,
        "seconds_from": origin,
        "gpu_seconds": None if is_cuda or plan.steps is None else gpu_seconds(shape, here, plan.steps),
        "disk": disk(shape, here, params),
    }


def memory_rows(shape: ModelShape, params: Params, *, is_cuda: bool) -> Iterator[MemoryRow]:
    """A row for each method on a GPU, and on this machine's CPU where it has no GPU."""
    for on_gpu in (True,) if is_cuda else (True, False):
        asked = setting_of(params, is_cuda=on_gpu)
        for method in METHODS:
            yield _row(shape, replace(asked, method=method), is_chosen=method == params.train.method, is_here=is_cuda)


def _row(shape: ModelShape, setting: Setting, *, is_chosen: bool, is_here: bool) -> MemoryRow:
    memory = estimate(shape, setting)
    other = estimate(shape, replace(setting, is_checkpointed=not setting.is_checkpointed))
    plain, saved = (other, memory) if setting.is_checkpointed else (memory, other)
    fits = {f"{size} GB": memory.peak <= size * 10**9 for size in GPU_SIZES_GB} if setting.is_cuda else {}
    if not setting.is_cuda or is_here:
        fits["here"] = memory.peak <= machine.training_bytes(is_cuda=setting.is_cuda)
    return MemoryRow(
        device="GPU" if setting.is_cuda else "CPU",
        method=setting.method,
        is_chosen=is_chosen,
        parts=_parts(memory),
        activations=plain.activations,
        activations_checkpointed=saved.activations,
        peak=memory.peak,
        other_peak=other.peak,
        fits=fits,
    )


def _parts(memory: Memory) -> dict[str, int]:
    names = ("weights", "constants", "adapter", "gradients", "optimizer", "logits")
    return {name: getattr(memory, name) for name in names} | {
        "other": memory.transient + memory.update + memory.reserve
    }


def advice_lines(shape: ModelShape, params: Params, *, is_cuda: bool) -> Iterator[AdviceLine]:
    """For this machine where training does not fit, and for the largest common GPU on which it does not."""
    here = setting_of(params, is_cuda=is_cuda)
    if estimate(shape, here).peak > (room := machine.training_bytes(is_cuda=is_cuda)):
        yield _line("this machine", advise(shape, here, room))
    on_gpu = setting_of(params, is_cuda=True)
    peak = estimate(shape, on_gpu).peak
    too_small = [size for size in GPU_SIZES_GB if peak > size * 10**9]
    if too_small:
        yield _line(f"a GPU of {too_small[-1]} GB", advise(shape, on_gpu, too_small[-1] * 10**9))


def _line(place: str, advice: Advice) -> AdviceLine:
    return AdviceLine(place=place, changes=advice.changes, peak=advice.peak, fits=advice.fits)


def memory_warning(root: Path, params: Params) -> str | None:
    """What to say at a run's start when training will hardly fit this machine; None also where nothing is known."""
    is_cuda = machine.has_cuda()
    try:
        shape = find_shape(root, params, None)
        here, room = setting_of(params, is_cuda=is_cuda), machine.training_bytes(is_cuda=is_cuda)
        peak = estimate(shape, here).peak
    except (ShapeUnknown, FileInvalid, TrainingInvalid):
        return None
    if peak <= room:
        return None
    return (
        f"training takes about {peak / 1e9:.1f} GB at its peak and this machine has {room / 1e9:.1f} GB for it; "
        "`tunegate plan` says what would make it fit"
    )


def newest_training(root: Path, params: Params) -> Past | None:
    """The newest run that trained the same base on the same sources."""
    wanted = params.model_dump(mode="json", by_alias=True)
    for record in read_runs(root):
        stage = record.stage("train")
        is_same = all(record.params.get(key) == wanted[key] for key in ("base_model", "sources"))
        if is_same and stage is not None and stage.outcome in {"executed", "restored", "unchanged"}:
            place = run_folder(record.run_id) / "train_metrics.json"
            text = show_file(root, run_revision(root, record.run_id), place.as_posix())
            if text is not None:
                return Past(record, parse_json(text, TrainMetrics, place.as_posix()))
    return None


def count_examples(root: Path, params: Params, past: Past | None) -> tuple[int | None, str]:
    """How many examples an epoch has, and how that is known: from a run, else from the lines of the sources."""
    if past is not None:
        return past.metrics.train_examples, f"as in run {past.record.run_id}"
    lines = 0
    for source in params.sources:
        path = root / source.path
        if source.role not in {"train", "replay"}:
            continue
        if source.repo_id is not None or not path.is_file() or path.suffix not in LINES:
            return None, "not known before `tunegate run --until split`"
        with path.open("rb") as stream:
            lines += sum(1 for _ in stream)
    share = 1 - params.split.validation_share - params.split.test_share
    return int(lines * share), "at most, by the sources' lines"


def time_of(shape: ModelShape, setting: Setting, params: Params, counted: int, past: Past | None) -> tuple[float, str]:
    """Seconds of training, and how that was estimated: by the last training's rate, else by its products."""
    processes = params.compute.num_processes
    batch = setting.batch * setting.accumulation * processes
    if past is not None and (rate := _rate(past, params, setting)) is not None:
        return counted * batch / rate, f"at the {rate:.1f} examples/s of run {past.record.run_id}"
    length = setting.length if past is None else past.metrics.train_tokens / max(past.metrics.train_examples, 1)
    flops = counted * batch * length * flops_of_a_token(shape, setting, length)
    cores = machine.cores()
    speed = GPU_FLOPS * processes if setting.is_cuda else CPU_FLOPS_A_CORE * cores
    of = "40 % of an A100's bfloat16 peak" if setting.is_cuda else f"{CPU_FLOPS_A_CORE / 1e9:g} GFLOP/s a core"
    rows = "rows as long as in the last run" if past is not None else "every row at max_length"
    return flops / speed, f"from {flops:.2g} products and sums at {of}, {rows}"


def gpu_seconds(shape: ModelShape, setting: Setting, counted: int) -> float:
    """Seconds on one GPU that reaches `GPU_FLOPS`, every row at `max_length`."""
    tokens = counted * setting.batch * setting.length * setting.accumulation
    return tokens * flops_of_a_token(shape, setting, setting.length) / GPU_FLOPS


def _rate(past: Past, params: Params, setting: Setting) -> float | None:
    """Examples a second of a training of the same method that ran to its end, its loading included."""
    stage = past.record.stage("train")
    trained = past.record.params.get("train")
    if stage is None or stage.outcome != "executed" or not isinstance(trained, dict) or stage.seconds <= 0:
        return None
    same = ("method", "per_device_train_batch_size", "gradient_accumulation_steps", "activation_checkpointing")
    now = params.train.model_dump(mode="json")
    if any(trained.get(key) != now[key] for key in same):
        return None
    return past.metrics.steps * setting.batch * setting.accumulation / stage.seconds
