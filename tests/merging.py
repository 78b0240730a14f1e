"""Bases and adapters of a few thousand weights to merge, made by PEFT itself."""

from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoraConfig, PeftConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tasks.merge_model import Merge, write_merged
from tasks.params import load_params
from tests.contract.imports import ROOT
from tests.unit.tiny_model import WORDS, make_tokenizer

PARAMS = load_params(ROOT / "params.yaml")


def llama(*, is_tied: bool = False, has_bias: bool = False) -> LlamaForCausalLM:
    """Two layers with a hidden size of 64, the same at every call."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        tie_word_embeddings=is_tied, attention_bias=has_bias,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    return model


def gpt2() -> GPT2LMHeadModel:
    """Layers of transformers' Conv1D, which hold their weights as (in, out), and have biases; tied."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), n_embd=64, n_layer=2, n_head=2, n_positions=64))


def write_base(folder: Path, model: PreTrainedModel, **options: Any) -> Path:
    """The model with its tokenizer; `max_shard_size` makes shards."""
    model.save_pretrained(folder, **options)
    make_tokenizer().save_pretrained(folder)
    return folder


def write_adapter(folder: Path, model: PreTrainedModel, config: PeftConfig, *, seed: int = 1) -> Path:
    """An adapter for the model as if it were trained: every weight that learns is drawn anew."""
    adapted: Any = get_peft_model(model, config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder


def lora(**changed: Any) -> LoraConfig:
    """A small LoRA on two kinds of layers."""
    values = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    return LoraConfig(**(values | changed))


def ia3(**changed: Any) -> IA3Config:
    """(IA)3 on two kinds of layers, one of them scaled at its inputs."""
    values = {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"], "task_type": "CAUSAL_LM"}
    return IA3Config(**(values | changed))


def merging(base: Path, adapter: Path, **changed: Any) -> Merge:
    """A merge into the base's own weights, in float32, without a limit of memory unless asked for."""
    params = PARAMS.merge.model_copy(update={"dtype": "float32", "max_memory_gib": None} | changed)
    return Merge(base, adapter, None, params, make_tokenizer())


def merge(merge: Merge, place: Path) -> Path:
    """Write the merged model below `place`; its folder."""
    write_merged(merge, place / "merged", place / "receipts", "test")
    return place / "merged"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a model folder, whatever its shards."""
    return {name: weight for path in folder.glob("*.safetensors") for name, weight in load_file(path).items()}


def damage(path: Path, name: str, value: torch.Tensor) -> None:
    """Put another tensor into a file of safetensors."""
    save_file(load_file(path) | {name: value}, path)
