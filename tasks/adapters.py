"""What training adds to the base, and how it is kept: the one owner of PEFT's methods.

Each method promises something before step one, which `Promise` says and `check_start` holds it to.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from peft import (
    AdaptionPromptConfig,
    EvaConfig,
    IA3Config,
    LoftQConfig,
    LoraConfig,
    PeanutConfig,
    PeftConfig,
    PrefixTuningConfig,
    ShadowConfig,
    get_peft_model,
    initialize_lora_eva_weights,
)
from safetensors.torch import load_file
from transformers import PreTrainedModel
from transformers.modeling_utils import unwrap_model

from tasks.errors import TrainingInvalid
from tasks.files import whole
from tasks.params import Params
from tasks.params_checks import CHANGE_THE_BASE
from tasks.params_train import AdapterParams, Ia3, LoraParams, Peanut, PrefixTuning
from tasks.target_modules import resolve_target_modules

Promise = Literal["equal", "close", "none"]
"""Before step one the adapted model's logits are the base's: bit for bit, but for rounding, or not at all."""
CLOSE = 0.02
"""How far logits may be from the base's for `close`, as a share of their spread: rounding in bfloat16 stays below."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
INPUTS = ("input_ids", "attention_mask", "position_ids")
OTHERS: dict[str, type[Any]] = {
    "PREFIX_TUNING": PrefixTuningConfig,
    "ADAPTION_PROMPT": AdaptionPromptConfig,
    "PEANUT": PeanutConfig,
    "SHADOW": ShadowConfig,
    "IA3": IA3Config,
}
Batch = dict[str, torch.Tensor]


def build_peft_config(params: Params, model: PreTrainedModel) -> PeftConfig | None:
    """PEFT's configuration of the method, None for `full`.

    Raises:
        TrainingInvalid: the base has none of the layers that are named.
    """
    if params.lora is not None:
        return build_lora_config(params.lora, model)
    return None if params.adapter is None else build_other_config(params.adapter, model)


def build_other_config(adapter: AdapterParams, model: PreTrainedModel) -> PeftConfig:
    """The configuration of one of PEFT's other methods; the section's names are PEFT's own."""
    values = adapter.model_dump(exclude={"peft_type"})
    if isinstance(adapter, Peanut | Ia3):
        values["target_modules"] = resolve_target_modules(adapter.target_modules, linear_layers(model))
    if isinstance(adapter, PrefixTuning):
        values["encoder_hidden_size"] = model.config.hidden_size
    return OTHERS[adapter.peft_type](task_type="CAUSAL_LM", **values)


def build_lora_config(lora: LoraParams, model: PreTrainedModel) -> LoraConfig:
    """peft.LoraConfig of the `lora` section."""
    init = lora.init_lora_weights
    special: dict[str, Any] = {}
    if init == "loftq":
        special["loftq_config"] = LoftQConfig(loftq_bits=4)
    if init == "eva":
        special["eva_config"] = EvaConfig()
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=resolve_target_modules(lora.target_modules, linear_layers(model)),
        bias=lora.bias,
        use_dora=lora.use_dora,
        use_rslora=lora.use_rslora,
        init_lora_weights=True if init == "default" else init,
        **special,
    )


def linear_layers(model: torch.nn.Module) -> set[str]:
    """The last parts of the names of the linear layers, the output layer left out."""
    output = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    return {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if (isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D") and module is not output
    }


def promise(params: Params) -> Promise:
    """What the method of the parameters says of the model before step one."""
    if params.lora is None:
        return "none" if isinstance(params.adapter, PrefixTuning) else "equal"
    if params.lora.init_lora_weights == "loftq":
        return "none"
    is_rounded = params.lora.use_dora or params.lora.init_lora_weights in {"pissa", "olora", "orthogonal"}
    return "close" if is_rounded else "equal"


def adapt(model: PreTrainedModel, params: Params, batches: Iterable[Batch]) -> torch.nn.Module:
    """The model with what the method trains, its trained weights in float32, everything else frozen.

    They are float32 throughout: bfloat16 is slow on a CPU, and comes back in another type when a run is resumed.
    `batches` are of the training data, which EVA looks at.

    Raises:
        TrainingInvalid: PEFT cannot make such an adapter for this model.
    """
    config = build_peft_config(params, model)
    is_eva = params.lora is not None and params.lora.init_lora_weights == "eva"
    adapted: torch.nn.Module = model
    if config is not None:
        try:
            adapted = get_peft_model(model, config, low_cpu_mem_usage=is_eva)
        except ValueError as error:
            section = "lora" if params.lora is not None else "adapter"
            raise TrainingInvalid(f"{section}: PEFT does not make this for the base model: {error}") from None
    if is_eva:
        initialize_lora_eva_weights(adapted, batches, show_progress_bar=False)
    for weight in adapted.parameters():
        if weight.requires_grad or config is None:
            weight.data = weight.data.float()
            weight.requires_grad_()
    return adapted


@torch.no_grad()
def logits_of(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The logits of one batch, in float32 on the CPU, with dropout off; the model stays in the mode it was in."""
    was_training = model.training
    model.eval()
    place = next(model.parameters()).device
    inputs = {name: batch[name].to(place) for name in INPUTS if name in batch}
    logits: torch.Tensor = model(**inputs).logits.float().cpu()
    model.train(was_training)
    return logits


def check_start(base: torch.Tensor, adapted: torch.Tensor, promised: Promise) -> None:
    """Before step one the adapted model must be what its method promises (LoRA: B is zero, Hu et al. 2021, 4.1).

    Args:
        base: logits of the base, as `logits_of` gives them.
        adapted: those of the adapted model on the same batch.
        promised: of `promise`.

    Raises:
        TrainingInvalid: it is not, so the adapter was not drawn as it should.
    """
    gap = (adapted - base).abs().max().item()
    allowed = {"equal": 0.0, "close": CLOSE * (base.max() - base.min()).item(), "none": float("inf")}[promised]
    if gap > allowed or not torch.isfinite(adapted).all():
        raise TrainingInvalid(
            f"before step one the adapted model differs from the base by {gap:.2e}, at most {allowed:.2e} is right for "
            "this method; the base's weights may be damaged: run `dvc repro --force --single-item base`"
        )


def keep_start(model: torch.nn.Module, params: Params, folder: Path) -> Path | None:
    """Keep the adapter as it starts where the method changes the base's weights too; None elsewhere.

    `save_trained` needs it to say what was learned in terms of the base as it was.
    """
    if params.lora is None or params.lora.init_lora_weights not in CHANGE_THE_BASE:
        return None
    start = folder / "initial"
    saved: Any = model
    saved.save_pretrained(start)
    return start


def save_trained(
    model: torch.nn.Module,
    base_name: str,
    stored_dtype: torch.dtype,
    start: Path | None,
    to: Path,
    gathered: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write what was trained: adapter_model.safetensors and adapter_config.json, or of `full` the model.

    The configuration has sorted keys and lists, since PEFT keeps target modules in a set, whose order changes from
    process to process. It belongs to the base as it is published: of an initialisation that split the base's weights
    (`start` of `keep_start`) the difference is written, an ordinary LoRA adapter of twice the rank. Of a model that is
    sharded this process has a part: its trained weights are then `gathered` from all, by name.

    Raises:
        TrainingInvalid: PEFT left out some of what was gathered.
    """
    saved: Any = model
    with whole(to) as partial:
        if not hasattr(model, "peft_config"):
            saved.to(stored_dtype).save_pretrained(partial)
            return
        options: dict[str, Any] = {} if start is None else {"path_initial_model_for_weight_conversion": str(start)}
        if gathered is not None:
            saved = unwrap_model(model, recursive=True)  # PEFT 0.21 finds no adapter behind FSDP's wrappers
            options["state_dict"] = gathered
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*changes the base weights", UserWarning)  # which is what is undone here
            saved.save_pretrained(partial, safe_serialization=True, save_embedding_layers=False, **options)
        if gathered is not None and len(load_file(partial / WEIGHTS)) != len(gathered):
            raise TrainingInvalid(
                f"{to}: not every one of {len(gathered)} gathered weights was saved; the checkpoints are still there: "
                "run again with the pinned version of peft"
            )
        _write_config(partial / CONFIG, base_name)
        for extra in partial.iterdir():
            if extra.name not in {WEIGHTS, CONFIG}:
                extra.unlink()


def _write_config(path: Path, base_name: str) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_name
    for name, value in config.items():
        if name in {"target_modules", "feedforward_modules", "exclude_modules"} and isinstance(value, list):
            config[name] = sorted(value)
    if "init_lora_weights" in config:  # how it was drawn is of no use to who loads it, and would draw it again
        config |= {"init_lora_weights": True, "eva_config": None, "loftq_config": {}}
    path.write_text(json.dumps(config, sort_keys=True, indent=2) + "\n", encoding="utf-8")


def first_batches(rows: Sequence[Any], collate: Callable[[list[Any]], Batch], size: int, count: int) -> list[Batch]:
    """The first `count` batches of `size` rows, without labels."""
    starts = range(0, min(len(rows), size * count), size)
    batches = (collate([rows[at] for at in range(start, min(start + size, len(rows)))]) for start in starts)
    return [{name: batch[name] for name in INPUTS if name in batch} for batch in batches]
