"""How much memory training takes at its peak, computed from the model's shape and the parameters; loads no weights.

Every figure is in bytes. What is kept for the backward pass follows Korthikanti et al. 2022 ("Reducing Activation
Recomputation in Large Transformer Models", section 4), adapted to what torch, transformers and PEFT keep for Llama's
blocks: attention by `scaled_dot_product_attention` keeps no matrix of scores, and under LoRA a frozen layer does not
keep what it read. A test compares it with the tensors that a small model really keeps, to the byte.

Assumed is the worst batch: every row at `max_length`, padded by a token, every token with loss.
"""

from dataclasses import dataclass, replace
from typing import Literal

from tasks.model_shape import Linear, ModelShape
from tasks.params import Params
from tasks.params_train import LoraParams
from tasks.target_modules import resolve_target_modules

Method = Literal["full", "lora", "qlora"]
METHODS: tuple[Method, ...] = ("full", "lora", "qlora")
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
NF4_BLOCK = 64
"""Weights that share a constant in 4 bits (Dettmers et al. 2023, section 3; bitsandbytes' default)."""
CONSTANTS_BLOCK = 256
"""Constants that share one with double quantisation (the same)."""
OPTIMIZER_BYTES = {"adamw_torch": 8, "paged_adamw_32bit": 8, "paged_adamw_8bit": 2}
"""Two moments of each trained weight."""
LOGIT_COPIES = 3
"""On a CPU: the scores, their logarithms of softmax and the gradient, in float32, at once in the loss's backward; where
the output layer is frozen and in float32 only those of `SCORED_AT_ONCE` tokens, and a copy."""
SCORED_AT_ONCE = 32
"""Tokens, as tasks/answer_loss.py has it, which needs torch; a test holds the two equal."""
TILE_TOKENS, TILE_VOCABULARY = 4096, 32768
"""On a GPU TRL 1.16 scores in tiles of at most so many (trl/kernels/chunked_logprob.py)."""
IN_FLIGHT = 3
"""Tensors that a block makes and does not keep: of each adapted layer its base's result, its adapter's and that scaled;
else three gradients of the feed-forward part."""
LIBRARIES = 130_000_000
"""What libraries take on a CPU once training uses them, beside what their import took; measured."""
CUDA_CONTEXT = 600_000_000
"""What CUDA, cuBLAS and the kernels take of a GPU before any tensor; assumed, not measured by this project."""
CUDA_FRAGMENTS = 0.05
"""Share on top for what torch's allocator on a GPU cannot use; assumed, not measured by this project."""
DEFAULT_LORA = LoraParams(
    r=16,
    lora_alpha=32,
    lora_dropout=0.0,
    target_modules="all-linear",
    bias="none",
    use_dora=False,
    use_rslora=False,
    init_lora_weights="default",
    loraplus_lr_ratio=None,
)
"""What the rows for LoRA show where the parameters have no section `lora`."""


@dataclass(frozen=True)
class Setting:
    """What of the parameters memory depends on.

    `rows` and `length` are those of one pass forward and backward, `batch` the rows of a batch, of which `accumulation`
    make a step; `may_split` says whether a batch can be worked on in portions. `compute_bytes` is the size of a number
    of the compute type.
    """

    method: Method
    is_cuda: bool
    compute_bytes: int
    rows: int
    batch: int
    may_split: bool
    length: int
    accumulation: int
    is_checkpointed: bool
    optim: str
    lora: LoraParams
    is_double_quantized: bool

    @property
    def tokens(self) -> int:
        """Tokens of one pass, padding included."""
        return self.rows * self.length

    @property
    def passes(self) -> int:
        """Passes forward and backward of one step."""
        return -(-self.batch // self.rows) * self.accumulation

    @property
    def result_bytes(self) -> int:
        """The size of a number that a layer gives; `full` has float32 weights, and on a CPU so are its results."""
        return 4 if self.method == "full" and not self.is_cuda else self.compute_bytes

    @property
    def stream_bytes(self) -> int:
        """The size of a number that goes from block to block."""
        return 4 if self.method == "full" else self.compute_bytes

    @property
    def adapter_bytes(self) -> int:
        """The size of a number inside an adapter: float32, but autocast on a GPU."""
        return self.compute_bytes if self.is_cuda else 4


@dataclass(frozen=True)
class Memory:
    """The parts of a training step in bytes, and the most that is there at once.

    `activations` are those with or without checkpointing, as the setting says, `layer` the part of them that
    checkpointing computes again, block by block. `transient` is what a block's products need for a moment, `update`
    what the optimizer's step does, `reserve` what the framework takes.
    """

    weights: int
    constants: int
    adapter: int
    gradients: int
    output_gradient: int
    optimizer: int
    activations: int
    layer: int
    logits: int
    transient: int
    update: int
    reserve: int
    accumulates: bool
    is_cuda: bool

    @property
    def fixed(self) -> int:
        """What is there all the time."""
        return self.weights + self.constants + self.adapter + self.optimizer

    @property
    def peak(self) -> int:
        """The most at once: at the loss, in the first block's backward pass, or in the optimizer's step.

        On a CPU glibc keeps what blocks have freed, and neither the scores nor gradients as large as a matrix fit
        there: they come on top.
        """
        held = self.gradients if self.accumulates else self.output_gradient
        if not self.is_cuda:
            on_top = max(self.logits + held, self.gradients + self.update)
            return self.fixed + self.activations + self.transient + on_top + self.reserve
        at_loss = self.activations - self.layer + self.logits + held
        in_backward = self.activations + self.transient + held
        in_step = self.gradients + self.update
        return self.fixed + max(at_loss, in_backward, in_step) + self.reserve


def setting_of(params: Params, *, is_cuda: bool) -> Setting:
    """The setting of the parameters on a machine with or without a GPU; of method `adapter` it is that of `lora`."""
    train = params.train
    may_split = not train.packing and params.compute.num_processes == 1
    batch = train.per_device_train_batch_size
    rows = batch
    if may_split and train.micro_batch_tokens is not None:
        rows = min(batch, max(train.micro_batch_tokens // train.max_length, 1))
    dtype = params.compute.dtype if params.compute.dtype != "auto" else "bfloat16" if is_cuda else "float32"
    return Setting(
        method="lora" if train.method == "adapter" else train.method,
        is_cuda=is_cuda,
        compute_bytes=BYTES[dtype],
        rows=rows,
        batch=batch,
        may_split=may_split,
        length=train.max_length,
        accumulation=train.gradient_accumulation_steps,
        is_checkpointed=train.activation_checkpointing,
        optim=train.optim,
        lora=params.lora or DEFAULT_LORA,
        is_double_quantized=params.quantization is None or params.quantization.bnb_4bit_use_double_quant,
    )


def adapted_linears(shape: ModelShape, lora: LoraParams) -> tuple[Linear, ...]:
    """The linear layers of a block that get an adapter.

    Raises:
        TrainingInvalid: the model has no layer of a name.
    """
    wanted = resolve_target_modules(lora.target_modules, {linear.name for linear in shape.linears})
    if wanted == "all-linear":
        return shape.linears
    return tuple(linear for linear in shape.linears if any(name.rsplit(".", 1)[-1] == linear.name for name in wanted))


def adapter_weights(shape: ModelShape, lora: LoraParams) -> int:
    """Trained weights of LoRA: A and B of every adapted layer (Hu et al. 2021, 4.1), DoRA's magnitudes, biases."""
    adapted = adapted_linears(shape, lora)
    of_a_block = sum(lora.r * (linear.inputs + linear.outputs) for linear in adapted)
    if lora.use_dora:
        of_a_block += sum(linear.outputs for linear in adapted)
    biased = {"none": (), "lora_only": adapted, "all": shape.linears}[lora.bias]
    of_a_block += sum(linear.outputs for linear in biased if linear.has_bias)
    return shape.num_hidden_layers * of_a_block


def trained_weights(shape: ModelShape, setting: Setting) -> int:
    """How many weights learn."""
    return shape.weights if setting.method == "full" else adapter_weights(shape, setting.lora)


def quantization_constants(weights: int, *, is_double_quantized: bool) -> int:
    """Bytes of the constants of NF4: a float32 for 64 weights, or a byte, and a float32 for 256 of these."""
    blocks = -(-weights // NF4_BLOCK)
    return blocks + 4 * -(-blocks // CONSTANTS_BLOCK) if is_double_quantized else 4 * blocks


def kept_by_a_block(shape: ModelShape, setting: Setting) -> int:
    """Bytes that one block keeps of one token for the backward pass."""
    result, inner = setting.result_bytes, shape.intermediate_size
    norms = 2 * (4 * shape.hidden_size + 4)  # what was normed, and its scale, in float32
    attention = result * 2 * shape.query_size + 4 * shape.num_attention_heads
    if setting.is_cuda:  # a padded batch has a mask, and with a mask keys and values are repeated
        attention += result * (2 * shape.query_size + setting.length)
        feed_forward = 3 * inner * result  # the gate, what its activation gives, and what it multiplies
    else:  # no mask (tasks/trainer.py), and the gate is computed again (tasks/gated_layers.py)
        attention += result * 2 * shape.key_size
        feed_forward = 2 * inner * result
    own = _kept_by_all(shape, setting) if setting.method == "full" else _kept_by_adapters(shape, setting)
    return norms + attention + feed_forward + own


def _kept_by_all(shape: ModelShape, setting: Setting) -> int:
    """What every layer read, and the normed values, whose scale learns too; autocast copies for each reader."""
    result, hidden = setting.result_bytes, shape.hidden_size
    readers = sum(linear.reads in {"attention", "mlp"} for linear in shape.linears) if setting.is_cuda else 2
    return 2 * 4 * hidden + readers * hidden * result + shape.intermediate_size * result


def _kept_by_adapters(shape: ModelShape, setting: Setting) -> int:
    """What the adapters read and their inner results; a copy for each where types differ or dropout is on."""
    lora, adapted, inside = setting.lora, adapted_linears(shape, setting.lora), setting.adapter_bytes
    is_copied = setting.is_cuda or setting.compute_bytes != inside or lora.lora_dropout > 0
    if is_copied:
        mask = (
            0 if lora.lora_dropout == 0 else 1 if setting.is_cuda else inside
        )  # of dropout: a byte, on a CPU a number
        read = sum(linear.inputs * (inside + mask) for linear in adapted)
    else:
        sources = {linear.reads: linear.inputs for linear in adapted if linear.reads != "attended"}
        read = inside * sum(sources.values())  # attention keeps its own result, and the adapter on it reads that
    inner = len(adapted) * lora.r * inside
    decomposed = sum(linear.outputs for linear in adapted) * (setting.compute_bytes + inside) if lora.use_dora else 0
    return read + inner + decomposed


def estimate(shape: ModelShape, setting: Setting) -> Memory:
    """The memory of a training step.

    Raises:
        TrainingInvalid: the model has no layer that `target_modules` names.
    """
    trained, tokens = trained_weights(shape, setting), setting.tokens
    is_full = setting.method == "full"
    weights, constants = _weights(shape, setting)
    layer = kept_by_a_block(shape, setting) * tokens
    last = (4 + 4 * is_full) * shape.hidden_size * tokens
    blocks = shape.num_hidden_layers
    kept = (
        blocks * shape.hidden_size * setting.stream_bytes * tokens + layer
        if setting.is_checkpointed
        else blocks * layer
    )
    parts = Memory(
        weights=weights,
        constants=constants,
        adapter=0 if is_full else trained * (4 + (setting.compute_bytes if setting.is_cuda else 0)),
        gradients=4 * trained,
        output_gradient=4 * shape.vocab_size * shape.hidden_size if is_full else 0,
        optimizer=OPTIMIZER_BYTES[setting.optim] * trained,
        activations=kept + last,
        layer=layer if setting.is_checkpointed else 0,
        logits=_logits(shape, setting),
        transient=_transient(shape, setting),
        update=_update(shape, setting, trained),
        reserve=0,
        accumulates=setting.passes > 1,
        is_cuda=setting.is_cuda,
    )
    reserve = int(CUDA_CONTEXT + CUDA_FRAGMENTS * parts.peak) if setting.is_cuda else LIBRARIES
    return replace(parts, reserve=reserve)


def _weights(shape: ModelShape, setting: Setting) -> tuple[int, int]:
    """The base's weights and, in 4 bits, their constants; `full` holds float32, and on a GPU autocast's copies."""
    if setting.method == "full":
        copies = setting.compute_bytes * shape.linear_weights if setting.is_cuda and setting.compute_bytes < 4 else 0
        return 4 * shape.weights + copies, 0
    if setting.method == "lora":
        return setting.compute_bytes * shape.weights, 0
    plain = setting.compute_bytes * (shape.embedding_weights + shape.other_weights)
    constants = quantization_constants(shape.linear_weights, is_double_quantized=setting.is_double_quantized)
    return plain + shape.linear_weights // 2, constants


def _logits(shape: ModelShape, setting: Setting) -> int:
    hidden = setting.tokens * shape.hidden_size * (4 + setting.compute_bytes)
    if setting.is_cuda:
        return min(setting.tokens, TILE_TOKENS) * TILE_VOCABULARY * setting.compute_bytes + hidden
    if setting.method != "full" and setting.result_bytes == 4:
        return 2 * 4 * SCORED_AT_ONCE * shape.vocab_size + 2 * 4 * setting.tokens * shape.hidden_size
    scores = setting.tokens * shape.vocab_size
    cast = 0 if setting.result_bytes == 4 else 2 * setting.result_bytes * scores
    return LOGIT_COPIES * 4 * scores + cast + (hidden if setting.method == "full" else 0)


def _transient(shape: ModelShape, setting: Setting) -> int:
    """Gradients on their way through a block; in 4 bits also its largest matrix, dequantised; DoRA's matrices."""
    largest = max(linear.weights for linear in shape.linears)
    adapted = () if setting.method == "full" else adapted_linears(shape, setting.lora)
    wide = max(sum(linear.outputs for linear in adapted), shape.intermediate_size)
    flight = IN_FLIGHT * setting.tokens * wide * setting.result_bytes
    dequantised = largest * setting.compute_bytes if setting.method == "qlora" else 0
    decomposed = 0
    if adapted and setting.lora.use_dora:  # peft.tuners.lora.dora: an identity, B A, and their sum
        decomposed = max(4 * linear.inputs**2 + 8 * linear.weights for linear in adapted)
    return flight + dequantised + decomposed


def _update(shape: ModelShape, setting: Setting, trained: int) -> int:
    """What AdamW's step needs for a moment: a copy of all weights on a GPU (torch's `foreach`), of one on a CPU."""
    if setting.is_cuda:
        return 4 * trained if setting.optim == "adamw_torch" else 0
    largest = max([linear.weights for linear in shape.linears] + [shape.vocab_size * shape.hidden_size])
    return 2 * 4 * largest if setting.method == "full" else 0  # a root and a quotient; or two parts of a tied gradient
