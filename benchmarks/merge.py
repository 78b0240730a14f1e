"""Claim: a merge takes little more memory than the largest shard, and little more time than copying the same bytes.

A random model of the shape of Llama 3.2 3B in bfloat16, its embeddings tied, in 8 shards or more, and a random adapter
of rank 16 on all its linear layers, both made in a temporary folder. Ours and copying the shards take turns; either
ends when its bytes are on the disk (fsync). PEFT's merge in memory runs once beside them, and every tensor of both
results is compared: ours adds in float32 and rounds once, PEFT rounds the delta and then the sum, so that they may be a
step of bfloat16 apart. The peak is that of the whole process, with Python and its libraries.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from benchmarks.harness import Claim, Timing, interleave, parse_arguments, show
from tasks.merge_plan import INDEX, tensor_files

RANK = 16
PAD, END = "<pad>", "<end>"
REPETITIONS, QUICK_REPETITIONS = 3, 1
LARGEST_SHARD, QUICK_LARGEST_SHARD = 800_000_000, 8_000_000
SHAPE = LlamaConfig(
    hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24, num_key_value_heads=8,
    vocab_size=128_256, tie_word_embeddings=True, dtype="bfloat16", architectures=["LlamaForCausalLM"],
)  # fmt: skip
QUICK_SHAPE = LlamaConfig(
    hidden_size=512, intermediate_size=1536, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4,
    vocab_size=8_000, tie_word_embeddings=True, dtype="bfloat16", architectures=["LlamaForCausalLM"],
)  # fmt: skip
STEP = 2**-7
"""Two neighbouring numbers of bfloat16, relative to the smaller one."""
DELTA = 1e-4
"""A rounding of the largest deltas, where a sum is near zero."""


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments(__doc__ or "")
    shape = QUICK_SHAPE if arguments.quick else SHAPE
    with tempfile.TemporaryDirectory(prefix="merge-") as folder:
        place = Path(folder)
        base, adapter = place / "base", place / "adapter"
        largest = write_base(base, shape, QUICK_LARGEST_SHARD if arguments.quick else LARGEST_SHARD)
        write_adapter(adapter, base)
        runs: list[dict[str, float]] = []

        def ours() -> None:
            shutil.rmtree(place / "ours", ignore_errors=True)
            runs.append(run("ours", base, adapter, place / "ours"))

        def copying() -> None:
            copy_shards(base, place / "copy")
            shutil.rmtree(place / "copy")

        repetitions = QUICK_REPETITIONS if arguments.quick else REPETITIONS
        _, copied = interleave({"ours": ours, "copying the shards": copying}, repetitions)
        peft = run("peft", base, adapter, place / "peft")
        compare(place / "ours/model", place / "peft/model")
    merged = Timing("merge, tensor by tensor", tuple(one["seconds"] for one in runs), ())
    timings = [merged, copied, Timing("PEFT, in memory", (peft["seconds"],), ())]
    more = {"peak_gib": {"ours": max(one["peak_gib"] for one in runs), "peft": peft["peak_gib"]}}
    more["imports_gib"] = {"ours": runs[0]["imports_gib"], "peft": peft["imports_gib"]}
    more["largest_shard_gib"] = {"base": largest / 2**30}
    for name, values in more.items():
        print(name, {contestant: round(value, 2) for contestant, value in values.items()})
    claims = [
        Claim("peak memory of the process", more["peak_gib"]["ours"], "GiB", 1.25 * largest / 2**30 + 0.5, "max"),
        Claim("time over copying the same bytes", merged.median / copied.median, "x", 1.5, "max"),
    ]
    show("a merge", timings, claims, is_quick=arguments.quick, path=arguments.json, more=more)


def write_base(folder: Path, shape: LlamaConfig, largest: int) -> int:
    """A random model in shards of at most `largest` bytes; the bytes of its largest shard."""
    folder.mkdir()
    shape.save_pretrained(folder)
    write_tokenizer(folder)
    shards = list(split(shapes_of(shape), largest))
    placed: dict[str, str] = {}
    torch.manual_seed(1)
    for number, tensors in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file({tensor: random_weight(size) for tensor, size in tensors.items()}, folder / name, {"format": "pt"})
        placed |= dict.fromkeys(tensors, name)
    total = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    assert len(shards) >= 8
    os.sync()
    return max(path.stat().st_size for path in folder.glob("*.safetensors"))


def shapes_of(shape: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """The tensors that the files of such a model hold."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(shape)
    tied = set(model.all_tied_weights_keys)
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items() if name not in tied}


def split(tensors: dict[str, tuple[int, ...]], largest: int) -> Iterator[dict[str, tuple[int, ...]]]:
    """The tensors in shards, in their order."""
    shard: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, shape in tensors.items():
        bytes_of = 2 * torch.Size(shape).numel()
        if shard and size + bytes_of > largest:
            yield shard
            shard, size = {}, 0
        shard[name] = shape
        size += bytes_of
    yield shard


def random_weight(shape: tuple[int, ...]) -> torch.Tensor:
    """A weight as large as trained ones are."""
    return torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02)


def write_tokenizer(folder: Path) -> None:
    """A tokenizer with nothing in it but what a merge copies."""
    words = Tokenizer(models.WordLevel({PAD: 0, END: 1}, unk_token=PAD))
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token=PAD, eos_token=END).save_pretrained(folder)


def write_adapter(folder: Path, base: Path) -> None:
    """A random LoRA on every linear layer."""
    tensors: dict[str, torch.Tensor] = {}
    targets: set[str] = set()
    for name, path in tensor_files(base).items():
        if not name.endswith("_proj.weight"):
            continue
        with safe_open(path, framework="pt") as file:
            outputs, inputs = file.get_slice(name).get_shape()
        module = name.removesuffix(".weight")
        targets.add(module.rsplit(".", 1)[-1])
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(RANK, inputs) / inputs**0.5
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(outputs, RANK) * 0.001
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=sorted(targets), task_type="CAUSAL_LM")
    config.save_pretrained(folder)


def run(contestant: str, base: Path, adapter: Path, out: Path) -> dict[str, float]:
    """One merge in a process of its own; what it measured."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.merge_once", contestant, str(base), str(adapter), str(out)],
        env=os.environ | {"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{contestant} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{contestant}: {found['seconds']:.1f} s, {found['peak_gib']:.2f} GiB", flush=True)
    return found


def copy_shards(base: Path, target: Path) -> None:
    """Copy the shards, each on the disk before the next."""
    target.mkdir()
    for path in sorted(base.glob("*.safetensors")):
        shutil.copyfile(path, target / path.name)
        with (target / path.name).open("rb") as file:
            os.fsync(file.fileno())


def compare(ours: Path, peft: Path) -> None:
    """Every tensor of both results is the same, but for a rounding."""
    files, theirs = tensor_files(ours), tensor_files(peft)
    assert set(files) == set(theirs)
    for name, path in files.items():
        with safe_open(path, framework="pt") as left, safe_open(theirs[name], framework="pt") as right:
            torch.testing.assert_close(left.get_tensor(name), right.get_tensor(name), rtol=STEP, atol=DELTA)


if __name__ == "__main__":
    main()
