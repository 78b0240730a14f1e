"""What a merge will do, tensor by tensor, known before a weight is read: from the base's files, its shape, the adapter.

The model is built without weights, on torch's device `meta`; transformers says there which layers it would quantise and
which tensors are tied.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.quantizers import AutoHfQuantizer

from tasks.errors import BaseInvalid, MergeRefused
from tasks.merge_deltas import Adapter, Change, changes_of, why_not_bounded
from tasks.models import build_quantization_config
from tasks.params_train import QuantizationParams

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


class NotBounded(Exception):
    """The merge needs the whole model in memory; the message says why."""


@dataclass(frozen=True)
class Shape:
    """A model without its weights: the kind of every module, the shape of every tensor.

    `quantized` are the names of the weights that are held in 4 bits, `tied` maps a tensor to the one that it shares.
    """

    kinds: dict[str, str]
    tensors: dict[str, tuple[int, ...]]
    quantized: frozenset[str]
    tied: dict[str, str]
    architecture: str


@dataclass(frozen=True)
class Entry:
    """One tensor of the merged model: where it comes from, and what is done with it.

    `source` is the tensor's name in `file` of the base; another than `name` where tied tensors part. `stored` is the
    base's type of it. `is_quantized` takes the 4-bit weight that the adapter was trained on. `read_change` reads what
    the adapter does, None where it does nothing.
    """

    name: str
    source: str
    file: Path
    shape: tuple[int, ...]
    stored: torch.dtype
    is_quantized: bool
    read_change: Callable[[], Change] | None = None


@dataclass(frozen=True)
class Plan:
    """The merged model's files, by name, and whether its embeddings are tied no longer."""

    shards: dict[str, tuple[Entry, ...]]
    is_untied: bool
    architecture: str


def plan_merge(base: Path, adapter: Adapter | None, quantization: QuantizationParams | None) -> Plan:
    """The plan of a merge.

    Args:
        base: a folder with safetensors.
        adapter: what is folded in; None copies the base, in another type perhaps.
        quantization: of the dequantised base; None takes the base's own weights.

    Raises:
        MergeRefused: the adapter does not fit the base.
        NotBounded: it cannot be done tensor by tensor.
    """
    reason = None if adapter is None else why_not_bounded(adapter)
    if reason is not None:
        raise NotBounded(reason)
    shape, files = build_shape(base, quantization), tensor_files(base)
    stored = set(shape.tensors) - set(shape.tied)
    if missing := sorted(stored - set(files)):
        raise NotBounded(f"the base's files have no tensor {missing[0]}: they name their tensors otherwise")
    changes = {} if adapter is None else changes_by_tensor(shape, adapter)
    untied = {target for target, source in shape.tied.items() if target in changes or source in changes}
    shards: dict[str, list[Entry]] = {path.name: [] for path in files.values()}
    for name in sorted(files):
        wanted = [name, *(target for target in untied if shape.tied[target] == name and target not in files)]
        for made in wanted:
            shards[files[name].name].append(_entry(made, name, files[name], shape, changes))
    return Plan(
        {shard: tuple(entries) for shard, entries in shards.items()},
        bool(untied),
        shape.architecture,
    )


def _entry(name: str, source: str, file: Path, shape: Shape, changes: Mapping[str, Callable[[], Change]]) -> Entry:
    with safe_open(file, framework="pt") as opened:
        found = opened.get_slice(source)
        dtype = _DTYPES.get(found.get_dtype())
        size = tuple(found.get_shape())
    if dtype is None:
        raise NotBounded(f"the base holds {source} as {found.get_dtype()}")
    return Entry(name, source, file, size, dtype, name in shape.quantized, changes.get(name))


_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def build_shape(base: Path, quantization: QuantizationParams | None) -> Shape:
    """The model of a folder, without weights, as transformers would load it.

    Raises:
        NotBounded: its files are quantised already, or it has layers that are quantised in another orientation.
    """
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    if getattr(config, "quantization_config", None) is not None:
        raise NotBounded("the base's files are quantised")
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    tensors = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    kinds = {name: _kind(module) for name, module in model.named_modules()}
    quantized: set[str] = set()
    if quantization is not None:
        quantizer = AutoHfQuantizer.from_config(build_quantization_config(quantization, torch.float32))
        quantizer.preprocess_model(model=model, dtype=torch.float32, device_map={"": "cpu"})
        quantized = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Linear4bit)}
        if any(kinds[name.removesuffix(".weight")] != "linear" for name in quantized):
            raise NotBounded("the base has quantised layers of another kind than Linear")
    tied = dict(model.all_tied_weights_keys)
    return Shape(kinds, tensors, frozenset(quantized), tied, type(model).__name__)


def _kind(module: torch.nn.Module) -> str:
    if isinstance(module, torch.nn.Linear):
        return "linear"
    if isinstance(module, torch.nn.Embedding):
        return "embedding"
    return "conv1d" if type(module).__name__ == "Conv1D" else "other"


def tensor_files(base: Path) -> dict[str, Path]:
    """The file of every tensor of a model folder.

    Raises:
        BaseInvalid: it has no safetensors, or one that its index names is not there.
    """
    if (base / INDEX).is_file():
        index = json.loads((base / INDEX).read_text(encoding="utf-8"))
        files = {name: base / file for name, file in index["weight_map"].items()}
    elif (base / SINGLE).is_file():
        with safe_open(base / SINGLE, framework="pt") as opened:
            files = dict.fromkeys(opened.keys(), base / SINGLE)
    else:
        raise BaseInvalid(f"{base}: neither {SINGLE} nor {INDEX}; run `dvc repro --force --single-item base`")
    if missing := sorted({path.name for path in files.values() if not path.is_file()}):
        raise BaseInvalid(f"{base}: {INDEX} names {missing[0]}, which is not there; fetch the base again")
    return files


def changes_by_tensor(shape: Shape, adapter: Adapter) -> dict[str, Callable[[], Change]]:
    """What the adapter does to the base, by the name of the tensor.

    Raises:
        MergeRefused: it names a module that the base does not have, or its matrices are of other shapes.
        NotBounded: it changes a layer that no formula is for.
    """
    changes: dict[str, Callable[[], Change]] = {}
    for module, parts in adapter.modules.items():
        kind = shape.kinds.get(module)
        if kind is None:
            first = next(iter(parts.values()))
            raise MergeRefused(
                f"{adapter.folder}: {first} is for the module {module}, which the base does not have; the adapter was "
                "trained on another base: run `dvc repro train` again"
            )
        if kind == "other" and set(parts) - {"weight", "bias"}:
            raise NotBounded(f"the layer {module} is neither Linear nor Conv1D nor Embedding")
        _require_fit(adapter, module, shape)
        for part, read in changes_of(adapter, module, kind).items():
            if f"{module}.{part}" in shape.tensors:
                changes[f"{module}.{part}"] = read
    return changes


def _require_fit(adapter: Adapter, module: str, shape: Shape) -> None:
    parts, weight = adapter.modules[module], shape.tensors.get(f"{module}.weight", ())
    ends = weight[::-1] if shape.kinds[module] in {"conv1d", "embedding"} else weight
    for part, name in parts.items():
        found = adapter.shapes[name]
        if part in {"weight", "bias"}:
            wanted, fits = shape.tensors.get(f"{module}.{part}", ()), found == shape.tensors.get(f"{module}.{part}")
        else:
            wanted = weight
            fits = _fits(part, found, outputs=ends[0], inputs=ends[-1])
        if not fits:
            raise MergeRefused(
                f"{adapter.folder}: {name} has the shape {_text(found)}, which does not fit {module}.{_of(part)} of "
                f"the base, {_text(wanted)}; the adapter was trained on another base: run `dvc repro train` again"
            )


def _fits(part: str, found: tuple[int, ...], *, outputs: int, inputs: int) -> bool:
    if part in {"lora_A.weight", "lora_embedding_A"}:
        return found[-1] == inputs
    if part == "ia3_l":
        return found in {(1, inputs), (outputs, 1)}
    if part.startswith("peanut_A"):
        return found[-1] == outputs
    is_of_outputs = part.startswith(("lora_B", "lora_embedding_B", "lora_magnitude_vector", "peanut_B"))
    return found[0] == outputs if is_of_outputs else True


def _of(part: str) -> str:
    return "bias" if part == "bias" else "weight"


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "none"
