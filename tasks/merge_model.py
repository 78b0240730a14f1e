"""A merged model as a folder that `AutoModelForCausalLM.from_pretrained` loads: shards, configuration, tokenizer.

Tensor by tensor where that is possible, else by PEFT with the whole model in memory, which is then said.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tasks.errors import MergeRefused
from tasks.files import need_disk, whole
from tasks.merge_deltas import Adapter, read_adapter, require_finite
from tasks.merge_plan import NotBounded, Plan, plan_merge
from tasks.merge_shards import Writer
from tasks.models import attach_adapter, is_whole_model, load_base
from tasks.params import MergeParams
from tasks.params_train import QuantizationParams

MERGEABLE = {"LORA", "PEANUT", "IA3"}
BYTES_PER_WEIGHT_WHOLE = 8
"""Memory of PEFT's merge for each weight: the model in float32, and a copy of a layer or of what was quantised."""
DISK_FACTOR = 1.2


@dataclass(frozen=True)
class Merge:
    """What is merged: `trained` is an adapter's folder, or of method `full` the model itself.

    With `quantization` the adapter goes onto the dequantised 4-bit weights, else onto the base's own.
    """

    base: Path
    trained: Path
    quantization: QuantizationParams | None
    params: MergeParams
    tokenizer: PreTrainedTokenizerBase

    @property
    def dtype(self) -> torch.dtype:
        """The type of the merged weights."""
        found: torch.dtype = getattr(torch, self.params.dtype)
        return found

    @property
    def max_memory(self) -> int | None:
        """The bytes that `merge.max_memory_gib` allows."""
        allowed = self.params.max_memory_gib
        return None if allowed is None else int(allowed * 2**30)


def is_mergeable(trained: Path) -> bool:
    """Whether what training wrote can be one model with the base."""
    return is_whole_model(trained) or read_adapter(trained).config["peft_type"] in MERGEABLE


def write_merged(merge: Merge, folder: Path, receipts: Path, label: str) -> None:
    """Write the merged model into `folder`; what was written there before, whole, is not written again.

    Raises:
        DiskFull: there is no room for it.
        MergeRefused: the adapter cannot be merged, does not fit the base or is not finite, or memory does not suffice.
    """
    if not is_mergeable(merge.trained):
        raise MergeRefused(
            f"{merge.trained}: what this method learned cannot be merged into weights; take train.method lora or "
            "qlora, or adapter with peft_type PEANUT or IA3, to release a merged model"
        )
    is_whole = is_whole_model(merge.trained)
    adapter: Adapter | None = None if is_whole else read_adapter(merge.trained)
    if adapter is not None:
        require_finite(adapter)
    source = merge.trained if is_whole else merge.base
    try:
        plan = plan_merge(source, adapter, merge.quantization)
    except NotBounded as reason:
        print(f"merge: {label}: by PEFT with the whole model in memory: {reason}", flush=True)
        _write_whole(merge, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    Writer(merge.dtype, merge.quantization, merge.max_memory).write(plan, folder, receipts, label)
    _write_settings(source, plan, merge, folder)


def _write_settings(source: Path, plan: Plan, merge: Merge, folder: Path) -> None:
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    config.dtype, config.architectures = merge.dtype, [plan.architecture]
    if plan.is_untied:
        config.tie_word_embeddings = False
    config.save_pretrained(folder)
    generation = GenerationConfig.from_model_config(config)
    with suppress(OSError):  # a base need not have the file
        generation = GenerationConfig.from_pretrained(source)
    _finish(generation, merge.tokenizer, folder)
    generation.save_pretrained(folder)


def _finish(generation: GenerationConfig, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """The tokenizer with its stop and padding tokens, and a configuration without traces of the base."""
    generation.eos_token_id, generation.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    tokenizer.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("quantization_config", None)
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, sort_keys=True, indent=2) + "\n", encoding="utf-8")


def _write_whole(merge: Merge, folder: Path) -> None:
    size = sum(path.stat().st_size for path in merge.base.glob("*.safetensors"))
    weights = size // 2
    if merge.max_memory is not None and weights * BYTES_PER_WEIGHT_WHOLE > merge.max_memory:
        raise MergeRefused(
            f"merge.max_memory_gib allows {merge.max_memory / 2**30:.2f} GiB, and PEFT's merge takes about "
            f"{weights * BYTES_PER_WEIGHT_WHOLE / 2**30:.2f} for this base; write that, or null"
        )
    need_disk(folder, int(DISK_FACTOR * weights * merge.dtype.itemsize))
    model = merge_whole(merge.base, merge.trained, merge.quantization, merge.dtype)
    write_model(model, merge.tokenizer, folder)


def merge_whole(
    base: Path, adapter: Path, quantization: QuantizationParams | None, dtype: torch.dtype
) -> PreTrainedModel:
    """PEFT's own merge: the base in memory, dequantised, the adapter folded in in float32, then cast to `dtype`."""
    model = load_base(base, quantization, torch.float32)
    attached = attach_adapter(model if quantization is None else model.dequantize().float(), adapter)
    merged: PreTrainedModel = attached.merge_and_unload(safe_merge=True)
    return merged.to(dtype)


def write_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model that is in memory, with its tokenizer, whole or not at all."""
    with whole(folder) as partial:
        model.save_pretrained(partial)
        _finish(model.generation_config, tokenizer, partial)
        model.generation_config.save_pretrained(partial)
