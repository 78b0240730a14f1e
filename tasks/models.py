"""Models and tokenizers as the line loads them: the one owner of transformers' loaders and of bitsandbytes' settings.

Training, evaluation and merging load the base through `load_base`, so that all of them see the same weights.
"""

import ctypes
import gc
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import torch
from bitsandbytes.functional import dequantize_blockwise
from bitsandbytes.nn import Linear4bit
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tasks.digests import file_digests
from tasks.errors import BaseInvalid, Unavailable
from tasks.params_train import ComputeParams, QuantizationParams
from tasks.records import BaseRecord

TOKENIZER_FILES = [
    *("config.json", "generation_config.json", "tokenizer*", "chat_template*", "special_tokens_map.json"),
    *("added_tokens.json", "vocab*", "merges.txt", "*.model"),
]
MODEL_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "*.txt"]


def fetch_hub_snapshot(repo_id: str, revision: str) -> Path:
    """The files of one commit, in the Hub's cache (`HF_ENDPOINT` and `HF_TOKEN` from the environment).

    Raises:
        BaseInvalid: the Hub has no such commit, or does not show it to this token.
        Unavailable: the Hub cannot be reached, or fails.
    """
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=MODEL_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx2.TransportError, ConnectionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        kind = BaseInvalid if _is_final(error) else Unavailable
        raise kind(f"{repo_id}@{revision[:12]}: cannot be fetched: {reason}") from None


def _is_final(error: Exception) -> bool:
    """Whether the Hub answered, and asking again would not change the answer."""
    response = getattr(error, "response", None)
    return response is not None and 400 <= response.status_code < 500 and response.status_code not in {408, 429}


def convert_gguf(gguf: Path, dtype: str, folder: Path) -> None:
    """Dequantise a GGUF file to safetensors in `dtype`, with its tokenizer and chat template, into `folder`."""
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=getattr(torch, dtype),
        trust_remote_code=False,
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def base_folder(record: BaseRecord) -> Path:
    """Where the weights of `record` lie on this machine, their digests checked.

    Raises:
        BaseInvalid: a file is missing or its bytes are not the recorded ones.
    """
    folder = _locate(record.weights)
    found = file_digests(folder) if folder.is_dir() else {}
    wrong = sorted(name for name, digest in record.files.items() if found.get(name) != digest)
    if wrong:
        raise BaseInvalid(
            f"{folder}: {', '.join(wrong)} missing or changed since `base` recorded digest {record.digest[:12]}; "
            "run `dvc repro --force --single-item base`"
        )
    return folder


def _locate(weights: str) -> Path:
    if weights.startswith("hub:"):
        repo_id, revision = weights.removeprefix("hub:").split("@")
        return fetch_hub_snapshot(repo_id, revision)
    return Path(weights.removeprefix("path:"))


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, with its chat template."""
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def copy_tokenizer(folder: Path, target: Path) -> None:
    """Copy the tokenizer of a model folder, chat template and generation configuration included, as plain files."""
    target.mkdir(parents=True)
    for pattern in TOKENIZER_FILES:
        for path in sorted(folder.glob(pattern)):
            shutil.copyfile(path, target / path.name)


def read_chat_template(folder: Path) -> str:
    """The chat template of a model folder.

    Raises:
        BaseInvalid: it has none, so a conversation has no defined text.
    """
    template = load_tokenizer(folder).chat_template
    if not isinstance(template, str):
        raise BaseInvalid(f"{folder}: the tokenizer has no chat template; choose an instruction-tuned base model")
    return template


def set_threads(compute: ComputeParams) -> None:
    """Use the number of CPU threads that the parameters name: it changes the order of sums, and so the last bits."""
    if compute.threads:
        torch.set_num_threads(compute.threads)


def device() -> torch.device:
    """This process's CUDA device (of several processes each has its own), or the CPU."""
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    return torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")


def resolve_dtype(name: str) -> torch.dtype:
    """The compute type: `auto` is bfloat16 on a GPU that has it, else float32 (docs/adr/0004)."""
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    has_bfloat16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bfloat16 else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` for `torch.bfloat16`."""
    return str(dtype).removeprefix("torch.")


def build_quantization_config(quantization: QuantizationParams, dtype: torch.dtype) -> BitsAndBytesConfig:
    """The configuration of bitsandbytes, with the compute type."""
    return BitsAndBytesConfig(
        load_in_4bit=quantization.load_in_4bit,
        bnb_4bit_quant_type=quantization.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=quantization.bnb_4bit_use_double_quant,
        bnb_4bit_quant_storage=quantization.bnb_4bit_quant_storage,
        bnb_4bit_compute_dtype=dtype,
    )


def attention_implementation(dtype: torch.dtype, place: torch.device) -> str | None:
    """`flash_attention_2` on a GPU where the package `flash_attn` is installed, for the two types that it has.

    None leaves it to transformers: torch's own `sdpa`, or `eager` for a model that has no other.
    """
    is_possible = place.type == "cuda" and dtype in {torch.bfloat16, torch.float16}
    return "flash_attention_2" if is_possible and find_spec("flash_attn") is not None else None


def load_base(
    folder: Path, quantization: QuantizationParams | None, dtype: torch.dtype, place: torch.device | None = None
) -> PreTrainedModel:
    """The base model in the compute type, at `place` or on `device()`; with `quantization` in 4 bits."""
    if quantization is None:
        return load_plain(folder, dtype, place)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        quantization_config=build_quantization_config(quantization, dtype),
        dtype=dtype,
        device_map={"": place or device()},
        attn_implementation=attention_implementation(dtype, place or device()),
        use_safetensors=True,
        trust_remote_code=False,
    )
    forbid_repacking(model)
    if device().type == "cpu":
        flatten_constants(model)
        give_back_memory()
    return model


def forbid_repacking(model: torch.nn.Module) -> None:
    """Keep 4-bit weights as they were quantised, on a CPU with AVX512-BF16 too.

    There bitsandbytes 0.50 repacks a weight at its first pass in evaluation mode, for good and without a word: the
    block constants are rounded to bfloat16, and the product over the packed form has no gradient, so that training
    goes on without most of its signal (docs/adr/0007).
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def flatten_constants(model: torch.nn.Module) -> None:
    """Undo double quantisation of the block constants once, not in every product: the same numbers, and 1/16 byte more.

    On a CPU bitsandbytes does it anew at each pass over a layer, which costs a small layer a fifth of its time.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit) and (state := module.weight.quant_state).nested:
            state.absmax = (dequantize_blockwise(state.absmax, state.state2) + state.offset).float()
            state.nested, state.state2, state.offset = False, None, None


def give_back_memory() -> None:
    """Hand what loading has freed back to the system; glibc would keep it, as much as the model itself."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def load_for_inference(folder: Path, quantization: QuantizationParams | None, dtype: torch.dtype) -> PreTrainedModel:
    """The base for answering: on a CPU its 4-bit weights are dequantised once instead of for every token.

    The products are the same: bitsandbytes' CPU backend dequantises to the compute type before each of them.
    """
    model = load_base(folder, quantization, dtype)
    if quantization is not None and model.device.type == "cpu":
        model = model.dequantize().to(dtype)
    return model.eval()


def is_whole_model(trained: Path) -> bool:
    """Whether what training wrote is every weight (method `full`) and not an adapter."""
    return not (trained / "adapter_config.json").is_file()


def load_plain(folder: Path, dtype: torch.dtype, place: torch.device | None = None) -> PreTrainedModel:
    """A model folder in 16 or 32 bits, at `place` or on `device()`."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        device_map={"": place or device()},
        attn_implementation=attention_implementation(dtype, place or device()),
        use_safetensors=True,
        trust_remote_code=False,
    )
    return model


def attach_adapter(model: PreTrainedModel, adapter: Path) -> PeftModel:
    """`model` with the adapter of a folder in front of it, in float32, frozen."""
    attached: Any = PeftModel.from_pretrained(model, adapter, is_trainable=False, autocast_adapter_dtype=True)
    for name, weight in attached.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.float()
    return attached


def load_candidate(
    folder: Path, trained: Path, quantization: QuantizationParams | None, dtype: torch.dtype
) -> torch.nn.Module:
    """What training made of the base in `folder`, for answering."""
    if is_whole_model(trained):
        candidate: torch.nn.Module = load_plain(trained, dtype)
    else:
        candidate = attach_adapter(load_for_inference(folder, quantization, dtype), trained)
    return candidate.eval()
