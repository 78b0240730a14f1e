"""The sections that training reads; names of upstream libraries are theirs, word for word."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tasks.params_types import Dtype, Section, Seed

TargetModules = Literal["attention-qv", "attention", "all-linear"] | Annotated[list[str], Field(min_length=1)]
"""Names of layers, or a preset: query and value, all four of attention, every linear layer but the output."""

Sharding = Literal["none", "fsdp"]
"""torch's and FSDP's own word for weights, gradients and optimizer states that are split over processes."""

LACKING = {
    "nola": "it stores LoRA as seeds and coefficients: take method lora or qlora with a small lora.r",
    "houlsby": "of its bottleneck adapters take method adapter with peft_type PEANUT (merges) or SHADOW",
}
"""What users may look for and PEFT has not, with the nearest that the line offers."""


def _known(value: object) -> object:
    """Say what to take instead of a method that PEFT lacks.

    Raises:
        ValueError: it is one of these.
    """
    if isinstance(value, str) and value.lower() in LACKING:
        raise ValueError(f"PEFT has no {value}; {LACKING[value.lower()]}")
    return value


class LoraParams(Section):
    """peft.LoraConfig, by its own names; `loraplus_lr_ratio` is that of peft.optimizers (LoRA+, Hayou et al. 2024)."""

    r: int = Field(ge=1, le=4096)
    lora_alpha: float = Field(gt=0)
    lora_dropout: float = Field(ge=0, lt=1)
    target_modules: TargetModules
    bias: Literal["none", "all", "lora_only"]
    use_dora: bool
    use_rslora: bool
    init_lora_weights: Annotated[
        Literal["default", "gaussian", "orthogonal", "pissa", "olora", "loftq", "eva"], BeforeValidator(_known)
    ]
    loraplus_lr_ratio: float | None = Field(ge=1, le=1024)


class PrefixTuning(Section):
    """peft.PrefixTuningConfig (Li and Liang 2021): trained keys and values before every layer's own."""

    peft_type: Literal["PREFIX_TUNING"]
    num_virtual_tokens: int = Field(ge=1, le=4096)
    prefix_projection: bool


class AdaptionPrompt(Section):
    """peft.AdaptionPromptConfig (LLaMA-Adapter, Zhang et al. 2023): gated prompts in the topmost layers."""

    peft_type: Literal["ADAPTION_PROMPT"]
    adapter_len: int = Field(ge=1, le=4096)
    adapter_layers: int = Field(ge=1, le=1000)


class Peanut(Section):
    """peft.PeanutConfig: a bottleneck of `r` with `act_fn` between its halves, folded into the weights by a merge."""

    peft_type: Literal["PEANUT"]
    r: int = Field(ge=1, le=4096)
    depth: int = Field(ge=0, le=16)
    act_fn: str
    scaling: float = Field(gt=0)
    target_modules: TargetModules


class Shadow(Section):
    """peft.ShadowConfig: a small network beside the base, fed into every block through a bottleneck of `r`."""

    peft_type: Literal["SHADOW"]
    r: int = Field(ge=1, le=4096)
    shadow_alpha: float = Field(gt=0)
    shadow_dropout: float = Field(ge=0, lt=1)
    shadow_num_hidden_layers: int = Field(ge=1, le=100)


class Ia3(Section):
    """peft.IA3Config (Liu et al. 2022): learned factors on keys, values and the feed-forward layer."""

    peft_type: Literal["IA3"]
    target_modules: list[str] = Field(min_length=1)
    feedforward_modules: list[str]


AdapterParams = Annotated[PrefixTuning | AdaptionPrompt | Peanut | Shadow | Ia3, Field(discriminator="peft_type")]


class QuantizationParams(Section):
    """transformers.BitsAndBytesConfig, by its own names; its bnb_4bit_compute_dtype is `compute.dtype`."""

    load_in_4bit: Literal[True]
    bnb_4bit_quant_type: Literal["nf4", "fp4"]
    bnb_4bit_use_double_quant: bool
    bnb_4bit_quant_storage: Literal["uint8", "bfloat16", "float16", "float32"]


class TrainParams(Section):
    """What is trained and how; the fields are trl.SFTConfig's own unless this says otherwise.

    `method`: `qlora` trains LoRA on the base in 4 bits, `lora` on the base as it is, `full` every weight, `adapter`
    what the section `adapter` names. `early_stopping_patience` is transformers' (evaluations without a better
    validation loss, null never stops); `keep_best` saves the adapter of the least validation loss, not the last.
    A batch is computed in portions of at most `micro_batch_tokens`, padding included: less memory, the same gradient.
    `save_steps` is how often a trainer checkpoint is written, 0 never.
    """

    method: Annotated[Literal["qlora", "lora", "full", "adapter"], BeforeValidator(_known)]
    num_train_epochs: float = Field(gt=0, le=1000)
    max_steps: int = Field(ge=-1)
    per_device_train_batch_size: int = Field(ge=1)
    micro_batch_tokens: int | None = Field(ge=8)
    per_device_eval_batch_size: int = Field(ge=1)
    gradient_accumulation_steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0, le=1)
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"]
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0, lt=1)
    max_grad_norm: float = Field(gt=0)
    optim: Literal["adamw_torch", "paged_adamw_32bit", "paged_adamw_8bit"]
    max_length: int = Field(ge=8)
    packing: bool
    neftune_noise_alpha: float | None = Field(gt=0, le=100)
    logging_steps: int = Field(ge=1)
    eval_steps: int = Field(ge=1)
    early_stopping_patience: int | None = Field(ge=1)
    keep_best: bool
    save_steps: int = Field(ge=0)
    activation_checkpointing: bool
    seed: Seed


class ComputeParams(Section):
    """The machine's part.

    `dtype` is what products are computed in, by training, evaluation and merge alike. `threads` is the number of CPU
    threads of torch, 0 takes what torch chooses. `num_processes` above 1 trains under `accelerate launch`. `sharding`
    is FSDP's word for what the processes do with the model: with `none` each has all of it (DDP), with `fsdp` (Fully
    Sharded Data Parallel) each holds a part of every layer, for a base that is too large for one GPU.
    """

    dtype: Literal["auto"] | Dtype
    threads: int = Field(ge=0, le=1024)
    num_processes: int = Field(ge=1, le=1024)
    sharding: Sharding
