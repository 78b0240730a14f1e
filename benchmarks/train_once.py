"""One training by the line's own parts, in a process of its own, for `benchmarks.train`; writes what it measured.

The limit by matrix products: every product of the very batches that were trained is counted by shape, those on 4-bit
weights as a product with the dequantised matrix, and each shape timed alone, with operands from memory as in a model.
What is left over is everything that is not a product.
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.harness import peak_gib
from tasks.adapters import save_trained
from tasks.params import load_params
from tasks.params_train import LoraParams, TrainParams
from tasks.tables import read_examples
from tasks.train import prepare, set_determinism
from tasks.trainer import AnswerTrainer

EXAMPLES_PER_STEP = 16
MICRO_BATCH_TOKENS = 320
PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.mm.out, torch.ops.aten.bmm.default, torch.ops.aten.addmm.default}
OPERANDS = 6
SECONDS_PER_SHAPE = 0.2


class Shapes(TorchDispatchMode):
    """Counts matrix products by the shapes and strides of their operands."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[tuple[Any, ...]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the shapes, then do what was asked."""
        if func in PRODUCTS:
            left, right = args[-2:]
            self.found[tuple(left.shape), left.stride(), tuple(right.shape), right.stride(), left.dtype] += 1
        elif func is torch.ops.bitsandbytes.gemm_4bit.default:  # the product inside it is not dispatched by itself
            left, (outputs, inputs) = args[0].reshape(-1, args[0].shape[-1]), args[2]
            self.found[tuple(left.shape), left.stride(), (inputs, outputs), (1, inputs), left.dtype] += 1
        return func(*args, **(kwargs or {}))


def operand(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Random numbers laid out as an operand was."""
    made = torch.empty_strided(shape, stride, dtype=dtype)
    return made.copy_(torch.randn(shape).to(dtype))


def seconds_of(key: tuple[Any, ...]) -> float:
    """Seconds of one product of these shapes, its operands changing from call to call."""
    left, left_stride, right, right_stride, dtype = key
    pairs = [(operand(left, left_stride, dtype), operand(right, right_stride, dtype)) for _ in range(OPERANDS)]
    product = torch.bmm if len(left) == 3 else torch.mm
    for pair in pairs:
        product(*pair)
    started, calls, spent = time.perf_counter(), 0, 0.0
    while spent < SECONDS_PER_SHAPE:
        product(*pairs[calls % OPERANDS])
        calls += 1
        spent = time.perf_counter() - started
    return spent / calls


def limit_seconds(trainer: AnswerTrainer, batches: list[Any]) -> float:
    """How long the matrix products of these batches take by themselves."""
    shapes = Shapes()
    with shapes:
        for batch, items in batches:
            trainer.training_step(trainer.model, dict(batch), items)
    trainer.model.zero_grad()
    return sum(count * seconds_of(key) for key, count in shapes.found.items())


def main() -> None:
    """Train, and write seconds, peak memory, and the limit."""
    base, count, out, threads = sys.argv[1:]
    imports = peak_gib()
    params = load_params()
    set_determinism()
    torch.set_num_threads(int(threads))
    assert params.lora is not None
    lora = LoraParams.model_validate(params.lora.model_dump() | {"target_modules": "attention"})
    train = TrainParams.model_validate(
        params.train.model_dump()
        | {
            "max_steps": int(count) // EXAMPLES_PER_STEP,
            "per_device_train_batch_size": EXAMPLES_PER_STEP,
            "gradient_accumulation_steps": 1,
            "micro_batch_tokens": MICRO_BATCH_TOKENS,
            "warmup_steps": 0,
            "save_steps": 0,
        }
    )
    examples = read_examples(Path("data/split/train.parquet"))[: int(count)]
    params = params.model_copy(update={"lora": lora, "train": train})
    session = prepare(params, Path(base), examples, [], Path(out))
    trainer, batches = session.trainer, []
    step = trainer.training_step

    def noted(model: torch.nn.Module, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        batches.append((dict(inputs), num_items_in_batch))
        return step(model, inputs, num_items_in_batch)

    trainer.training_step = noted  # type: ignore[method-assign]
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    peak = peak_gib()
    trainer.training_step = step  # type: ignore[method-assign]
    save_trained(trainer.model, "base", torch.float32, session.start, Path(out) / "adapter")
    measured = {
        "seconds": seconds,
        "peak_gib": peak,
        "imports_gib": imports,
        "steps": trainer.state.global_step,
        "limit_seconds": limit_seconds(trainer, batches),
    }
    Path(out, "measured.json").write_text(json.dumps(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
