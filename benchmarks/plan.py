"""Claim: the peak memory that `tunegate plan` computes is within 15 % of the measured one, on a CPU.

Needs a workspace in which stage `base` was run, for the default model and its tokenizer. Measured is a training of
three steps at full length (`benchmarks.plan_once`) in a fresh process with the environment of stage `train`: the
default, and shapes with random weights.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Claim, parse_arguments, show
from flows.reproduce import stage_environment
from tasks import paths
from tasks.memory import Memory, estimate, setting_of
from tasks.model_shape import ModelShape, read_shape
from tasks.params import Params, load_params

GOAL = 0.15


@dataclass(frozen=True)
class Case:
    """A model and how it is trained; `shape` is None for the default base, `train` changes its section."""

    name: str
    shape: ModelShape | None
    train: dict[str, object]
    lora: dict[str, object] = field(default_factory=dict)

    def params(self) -> Params:
        """The default parameters with this case's changes, checked."""
        values = load_params().model_dump(by_alias=True)
        values["train"] |= {"max_steps": 3, "logging_steps": 1, "warmup_steps": 0, "keep_best": False} | self.train
        values["lora"] = values["lora"] | self.lora if values["train"]["method"] != "full" else None
        values["quantization"] = values["quantization"] if values["train"]["method"] == "qlora" else None
        values["clean"]["max_tokens"] = values["train"]["max_length"]
        return Params.model_validate(values)


def llama(hidden: int, layers: int, heads: int, inner: int, *, is_tied: bool) -> ModelShape:
    """A Llama with the default's vocabulary, so that its tokenizer serves."""
    return ModelShape(
        model_type="llama",
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        intermediate_size=inner,
        vocab_size=49152,
        tie_word_embeddings=is_tied,
    )


CASES = {
    case.name: case
    for case in (
        Case("default: 135M, qlora, 4 x 256", None, {}),
        Case(
            "75M, lora r 32, 2 x 512",
            llama(512, 8, 8, 1536, is_tied=False),
            {"method": "lora", "per_device_train_batch_size": 2, "max_length": 512},
            {"r": 32, "lora_alpha": 64},
        ),
        Case(
            "124M, full, 4 x 128",
            llama(1024, 6, 16, 2816, is_tied=True),
            {"method": "full", "learning_rate": 1e-5, "max_length": 128},
        ),
        Case("default with checkpointing, 4 x 512", None, {"activation_checkpointing": True, "max_length": 512}),
    )
}


def make_model(case: Case, base: Path, scratch: Path) -> Path:
    """The folder of the case's model: the default's, or random weights of its shape with the default's tokenizer."""
    if case.shape is None:
        return base
    folder = scratch / "model"
    shutil.copytree(paths.BASE_TOKENIZER, folder)
    code = (
        "import json, sys, torch; from transformers import LlamaConfig, LlamaForCausalLM; torch.manual_seed(0); "
        "LlamaForCausalLM(LlamaConfig(**json.loads(sys.argv[1]))).to(torch.bfloat16).save_pretrained(sys.argv[2])"
    )
    described = case.shape.model_dump(exclude={"model_type"}, exclude_none=True)
    subprocess.run([sys.executable, "-c", code, json.dumps(described), str(folder)], check=True, capture_output=True)
    return folder


def measure(case: Case) -> tuple[int, Memory]:
    """Bytes measured and the parts predicted."""
    base = paths.BASE_MODEL
    if not base.is_dir():
        raise SystemExit(f"{base}: no such folder; run `tunegate run --until base` or `dvc repro base` first")
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_model(case, base, Path(scratch))
        command = [sys.executable, "-m", "benchmarks.plan_once", case.name, str(folder)]
        environment = dict(os.environ) | stage_environment(Path.cwd(), "train")
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        predicted = estimate(read_shape(folder / "config.json"), setting_of(case.params(), is_cuda=False))
    return int(json.loads(done.stdout.splitlines()[-1])["peak"]), predicted


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments(__doc__ or "")
    cases = list(CASES.values())[: 1 if arguments.quick else None]
    table = Table("case", "measured MB", "predicted MB", "off", title="peak memory of training, without the imports")
    claims = []
    for case in cases:
        measured, predicted = measure(case)
        off = predicted.peak / measured - 1
        table.add_row(case.name, f"{measured / 1e6:,.0f}", f"{predicted.peak / 1e6:,.0f}", f"{off:+.1%}")
        claims.append(Claim(f"{case.name}: predicted off measured", abs(off), "share", GOAL, "max"))
    Console().print(table)
    show("plan", [], claims, is_quick=arguments.quick, path=arguments.json)


if __name__ == "__main__":
    main()
