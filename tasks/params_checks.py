"""What no single section can see: parameters that contradict each other, and values outside the usual ranges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tasks.params_train import Ia3, PrefixTuning

if TYPE_CHECKING:
    from tasks.params import Benchmark, Params
    from tasks.params_gate import Rule
    from tasks.params_train import QuantizationParams

USUAL_R = (4, 64)
USUAL_ALPHA_OVER_R = (1, 2)
USUAL_DROPOUT = (0.0, 0.1)
USUAL_LEARNING_RATE = (1e-4, 1e-3)
USUAL_LEARNING_RATE_FULL = (1e-6, 1e-4)
USUAL_BATCH = (8, 32)
CHANGE_THE_BASE = {"pissa", "olora", "loftq"}
"""Initialisations that put a part of the base's weights into the adapter, and so need a base that is not quantised."""


def contradictions(params: Params) -> Iterator[str]:
    """What cannot be, each with the next move."""
    yield from _of_data(params)
    yield from _of_the_gate(params)
    yield from _of_the_method(params)
    yield from _of_training(params)
    if params.compute.sharding == "fsdp":
        yield from _of_fsdp(params)
    if params.evaluate.backend == "vllm":
        yield from impossible_with_vllm(params)


def _of_data(params: Params) -> Iterator[str]:
    names = [source.name for source in params.sources]
    if len(set(names)) < len(names):
        yield "sources: names must differ, they are part of every example's id"
    if not any(source.role == "train" for source in params.sources):
        yield "sources: at least one needs role `train`"
    longest = params.clean.max_tokens
    if longest is not None and longest > params.train.max_length:
        yield (
            f"clean.max_tokens ({longest}) must not be above train.max_length ({params.train.max_length}): "
            "what is longer would be cut, its stop token first"
        )
    if params.split.test_share == 0 and not any(source.role == "test" for source in params.sources):
        yield "split: test_share 0 needs a source with role `test`"
    if params.split.validation_share + params.split.test_share >= 1:
        yield "split: validation_share and test_share leave nothing to train on"


def _of_the_gate(params: Params) -> Iterator[str]:
    names = [benchmark.name for benchmark in params.evaluate.benchmarks]
    measured = set(names)
    for name in sorted(name for name in measured if names.count(name) > 1):
        yield f"evaluate.benchmarks: {name!r} is named more than once; write it once"
    for rule in params.gate.rules:
        if rule.benchmark not in measured:
            yield f"gate.rules: {rule.benchmark!r} is not in evaluate.benchmarks ({', '.join(sorted(measured))})"
    for benchmark in params.evaluate.benchmarks:
        yield from _without_its_rule(
            benchmark, [rule for rule in params.gate.rules if rule.benchmark == benchmark.name]
        )
    for bound in params.gate.measured:
        let_through = params.validate_.max_pii_share
        if bound.figure == "pii_share" and bound.max is not None and bound.max < let_through:
            yield (
                f"gate.measured: pii_share at most {bound.max:g} is below validate.max_pii_share ({let_through:g}): "
                "data that may be trained on would be refused after it; write the same in both"
            )


def _without_its_rule(benchmark: Benchmark, rules: Sequence[Rule]) -> Iterator[str]:
    """A role is a promise that a rule keeps: a target gains, a guard loses no more than so much."""
    name = f"evaluate.benchmarks: {benchmark.name!r}"
    if benchmark.role != "report" and not rules:
        yield f"{name} is a {benchmark.role} without a rule; give it one in gate.rules, or role `report`"
    elif benchmark.role == "target" and all(rule.min_gain_over_base is None for rule in rules):
        yield f"{name} is a target, and no rule asks it to improve; give one min_gain_over_base, or role `report`"
    elif benchmark.role == "guard" and all(rule.max_loss_from_base is None for rule in rules):
        yield f"{name} is a guard, and no rule limits its loss; give one max_loss_from_base, or role `report`"


def _of_the_method(params: Params) -> Iterator[str]:
    """Each method has the sections that it reads; those that it does not are null, so that no key is dead."""
    method = params.train.method
    needed = {"qlora": ("lora", "quantization"), "lora": ("lora",), "full": (), "adapter": ("adapter",)}[method]
    for section in ("lora", "adapter", "quantization"):
        is_given = getattr(params, section) is not None
        if section in needed and not is_given:
            yield f"{section}: train.method {method} needs this section"
        if section not in needed and is_given:
            yield f"{section}: train.method {method} does not read this section; write `{section}: null`"
    init = params.lora.init_lora_weights if params.lora else "default"
    if params.lora is not None and params.lora.use_dora and init != "default":
        yield f"lora.use_dora: DoRA starts from its own decomposition, not from {init}; write `default` or false"
    if params.lora is not None and params.lora.bias != "none" and init in CHANGE_THE_BASE:
        yield f"lora.bias: what {init} saves is a difference of A and B alone, the biases would be lost; write none"
    if params.lora is not None and init == "orthogonal" and params.lora.r % 2:
        yield f"lora.r ({params.lora.r}): orthogonal needs an even rank"
    if isinstance(params.adapter, Ia3):
        wanted = params.adapter.target_modules
        strangers = [name for name in params.adapter.feedforward_modules if name not in wanted]
        if strangers and not isinstance(wanted, str):
            yield f"adapter.feedforward_modules: {', '.join(strangers)} must be among adapter.target_modules"
    if method == "qlora" and init in CHANGE_THE_BASE:
        yield (
            f"lora.init_lora_weights: {init} splits the base's weights, which a base in 4 bits does not allow; "
            "take train.method lora for it, or `default`, `gaussian`, `orthogonal` or `eva`"
        )


def _of_training(params: Params) -> Iterator[str]:
    train = params.train
    if train.keep_best and train.early_stopping_patience is None and params.split.validation_share == 0:
        yield "train.keep_best: there is no validation loss without split.validation_share; write false"
    if train.early_stopping_patience is not None and params.split.validation_share == 0:
        yield "train.early_stopping_patience: there is no validation loss without split.validation_share; write null"
    if train.save_steps % train.logging_steps:
        yield (
            f"train.save_steps ({train.save_steps}) must be a multiple of train.logging_steps ({train.logging_steps}): "
            "a mean loss that was begun before a checkpoint is not in it"
        )
    if params.adapter is not None and params.adapter.peft_type in {"PREFIX_TUNING", "SHADOW"} and train.packing:
        yield f"train.packing: with {params.adapter.peft_type} rows of one pack would see each other; write false"
    if isinstance(params.adapter, PrefixTuning) and train.activation_checkpointing:
        yield "train.activation_checkpointing: it drops the keys and values that PREFIX_TUNING trains; write false"
    if train.method == "full" and params.compute.dtype == "float16":
        yield "compute.dtype: method full trains in float32, or in bfloat16 where it computes so; write one of these"
    if train.lr_scheduler_type == "constant" and train.warmup_steps:
        yield "train.warmup_steps: schedule `constant` has none; write 0, or take `constant_with_warmup`"
    if train.packing and params.compute.num_processes > 1 and params.adapter is not None:
        yield "train.packing: not with more than one process and a method `adapter`; write false"


def _of_fsdp(params: Params) -> Iterator[str]:
    """FSDP flattens the weights of a layer into one tensor, which must be of one type and learn as a whole or not."""
    compute, lora = params.compute, params.lora
    if compute.num_processes == 1:
        yield (
            "compute.sharding: fsdp splits the model over processes, and compute.num_processes is 1; "
            "write one process for each GPU, or sharding none"
        )
    if params.train.method not in {"lora", "qlora"}:
        yield (
            f"compute.sharding: fsdp is for train.method lora and qlora, not {params.train.method}, whose weights are "
            "not split from the base's; take one of these, or sharding none"
        )
    if params.quantization is not None and params.quantization.bnb_4bit_quant_storage != compute.dtype:
        yield (
            f"quantization.bnb_4bit_quant_storage ({params.quantization.bnb_4bit_quant_storage}) must be compute.dtype "
            f"({compute.dtype}) with compute.sharding fsdp, which flattens a layer's weights together; "
            "write the same type in both, such as bfloat16"
        )
    if params.train.optim == "paged_adamw_8bit":
        yield (
            "train.optim: the states of paged_adamw_8bit cannot be kept in a checkpoint with compute.sharding fsdp; "
            "take paged_adamw_32bit or adamw_torch"
        )
    if lora is not None and lora.bias != "none":
        yield (
            f"lora.bias: {lora.bias} trains a part of a layer that is frozen else, which compute.sharding fsdp cannot "
            "flatten; write none"
        )
    if lora is not None and lora.loraplus_lr_ratio is not None:
        yield "lora.loraplus_lr_ratio: with compute.sharding fsdp A and B look alike to the optimizer; write null"
    if lora is not None and lora.init_lora_weights in CHANGE_THE_BASE:
        yield (
            f"lora.init_lora_weights: {lora.init_lora_weights} changes the base's weights, and with compute.sharding "
            "fsdp no process has them whole to say what was learned; take default, gaussian, orthogonal or eva"
        )


def impossible_without_cuda(params: Params) -> Iterator[str]:
    """What a machine without a CUDA device cannot do, with what it can do instead."""
    if params.train.optim.startswith("paged_"):
        yield f"train.optim: {params.train.optim} pages to a GPU's host memory; without CUDA take adamw_torch"
    if params.lora is not None and params.lora.init_lora_weights == "loftq":
        yield "lora.init_lora_weights: PEFT computes loftq on a GPU only; without CUDA take pissa or default"
    if params.quantization is not None and params.quantization.bnb_4bit_quant_storage != "uint8":
        yield "quantization.bnb_4bit_quant_storage: types besides uint8 are for FSDP on GPUs; without CUDA take uint8"
    if params.compute.sharding == "fsdp":
        yield "compute.sharding: fsdp splits the model over GPUs; without CUDA take none"


def impossible_with_vllm(params: Params) -> Iterator[str]:
    """What vLLM cannot load, with what to write instead."""
    problems = list(unknown_to_vllm(params.quantization))
    if params.train.method == "adapter":
        problems.append("of PEFT's adapters it loads LoRA alone")
    if params.lora is not None and params.lora.use_dora:
        problems.append("it does not load DoRA")
    if params.lora is not None and params.lora.bias != "none":
        problems.append(f"it does not load adapters with lora.bias {params.lora.bias}")
    for problem in problems:
        yield f"evaluate.backend ({params.evaluate.backend}): vLLM cannot take this model: {problem}; write hf"


def unknown_to_vllm(quantization: QuantizationParams | None) -> Iterator[str]:
    """What vLLM does not do with a base."""
    if quantization is not None:
        yield "it quantises to 4 bits by settings of its own: the scores would be of other weights than were trained on"


def outside_usual_ranges(params: Params) -> Iterator[str]:
    """Values outside the ranges that the literature on LoRA calls usual; they are allowed, and told."""
    train = params.train
    if params.lora is not None:
        yield from _outside("lora.r", params.lora.r, USUAL_R)
        yield from _outside("lora.lora_alpha / lora.r", params.lora.lora_alpha / params.lora.r, USUAL_ALPHA_OVER_R)
        yield from _outside("lora.lora_dropout", params.lora.lora_dropout, USUAL_DROPOUT)
    usual = USUAL_LEARNING_RATE_FULL if train.method == "full" else USUAL_LEARNING_RATE
    if train.method != "adapter":
        yield from _outside(f"train.learning_rate of {train.method}", train.learning_rate, usual)
    batch = train.per_device_train_batch_size * train.gradient_accumulation_steps * params.compute.num_processes
    yield from _outside("examples in a step (batch size x accumulation x processes)", batch, USUAL_BATCH)


def _outside(name: str, value: float, usual: tuple[float, float]) -> Iterator[str]:
    low, high = usual
    if not low <= value <= high:
        yield f"{name} is {value:g}, usual is {low:g} to {high:g}"
