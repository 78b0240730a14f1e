"""What training costs in steps, products and disk, from the model's shape and the parameters."""

import math

from tasks.memory import BYTES, OPTIMIZER_BYTES, Setting, adapter_weights, trained_weights
from tasks.model_shape import ModelShape
from tasks.params import PackageOrigin, Params, PathOrigin
from tasks.params_train import TrainParams


def steps(train: TrainParams, examples: int, processes: int) -> int:
    """Steps of the optimizer, as transformers counts them: an epoch's last batch may be smaller."""
    if train.max_steps > 0:
        return train.max_steps
    batches = math.ceil(examples / (train.per_device_train_batch_size * processes))
    of_an_epoch = max(math.ceil(batches / train.gradient_accumulation_steps), 1)
    return math.ceil(train.num_train_epochs * of_an_epoch)


def flops_of_a_token(shape: ModelShape, setting: Setting, length: float) -> float:
    """Multiplications and additions of one token in training.

    Two for each weight forward, two for the gradient of what a layer read, and two for its own, which only trained
    weights have (Kaplan et al. 2020, section 2.1); attention compares with `length` tokens. Checkpointing computes
    forward once more.
    """
    products = shape.linear_weights + shape.vocab_size * shape.hidden_size
    adapter = 0 if setting.method == "full" else adapter_weights(shape, setting.lora)
    attention = 4 * length * shape.query_size * shape.num_hidden_layers
    forward = 2 * (products + adapter) + attention
    own = 2 * (products if setting.method == "full" else adapter)
    backward = 2 * (products + adapter) + 2 * attention + own
    return forward * (2 if setting.is_checkpointed else 1) + backward


def disk(shape: ModelShape, setting: Setting, params: Params) -> dict[str, int]:
    """Bytes that each stage writes which holds weights; a path's weights stay where they are."""
    stored, merged = BYTES[params.base_model.dtype], BYTES[params.merge.dtype]
    origin = params.base_model.origin
    base = 0 if isinstance(origin, PathOrigin) else stored * shape.weights
    if isinstance(origin, PackageOrigin):
        base += shape.weights * 5 // 8  # the wheel in the cache: 4 bits and their constants
    trained = trained_weights(shape, setting)
    written = stored * shape.weights if setting.method == "full" else 4 * trained
    sizes = {"base": base, "train": written, "merge": merged * shape.weights, "release": merged * shape.weights}
    if params.train.save_steps:
        sizes["each trainer checkpoint"] = (4 + OPTIMIZER_BYTES[setting.optim]) * trained
    return sizes
