"""vLLM as lm-eval's model, on a GPU where it is installed: the same requests, answered by another engine."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lm_eval.api.registry import get_model

from tasks.errors import ParamsInvalid
from tasks.models import device, is_whole_model
from tasks.params import EvaluateParams
from tasks.params_checks import unknown_to_vllm
from tasks.params_train import QuantizationParams

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM allocates for; an adapter takes the next one that it fits into."""


def choose_backend(evaluate: EvaluateParams, quantization: QuantizationParams | None) -> str:
    """`vllm` where it is asked for, or with `auto` where it can be; the same for base and adapter, which are compared.

    Raises:
        ParamsInvalid: vLLM is asked for and there is no GPU, it is not installed, or the base is in 4 bits.
    """
    problem = next(iter(unknown_to_vllm(quantization)), None)
    if device().type != "cuda":
        problem = "this machine has no CUDA device"
    elif find_spec("vllm") is None:
        problem = "it is not installed"
    if evaluate.backend == "vllm" and problem is not None:
        raise ParamsInvalid(f"params.yaml evaluate.backend: vllm: {problem}; write hf or auto")
    return "vllm" if evaluate.backend != "hf" and problem is None else "hf"


def build_vllm(folder: Path, trained: Path | None, evaluate: EvaluateParams, dtype: str) -> Any:
    """The base in `folder`, with the adapter in `trained` in front of it, or the whole model there instead of it."""
    is_whole = trained is not None and is_whole_model(trained)
    adapter = None if is_whole else trained
    return get_model("vllm")(
        pretrained=str(trained if is_whole else folder),
        tokenizer=str(folder),
        dtype=dtype,
        batch_size=evaluate.batch_size,
        max_length=evaluate.max_length,
        seed=evaluate.seed,
        trust_remote_code=False,
        **({} if adapter is None else {"lora_local_path": str(adapter), "max_lora_rank": lora_rank(adapter)}),
    )


def lora_rank(adapter: Path) -> int:
    """The rank that vLLM must allocate for an adapter.

    Raises:
        ParamsInvalid: it is above the highest one.
    """
    rank = int(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"])
    fitting = next((size for size in LORA_RANKS if size >= rank), None)
    if fitting is None:
        raise ParamsInvalid(f"params.yaml lora.r: vLLM loads adapters up to rank {LORA_RANKS[-1]}, this one has {rank}")
    return fitting
