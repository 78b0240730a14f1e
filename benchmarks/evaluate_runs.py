"""Base and candidate on the default benchmarks: through Tunegate's stages, and by the plain `lm_eval` command.

Everything runs in processes of its own, in a workspace made for it whose state folder is empty at first. The same base
in 4 bits, the same adapter, items, few-shot, template, batch size, length, type and seed. lm-eval's own options for 4
bits (`load_in_4bit=True`) do not work with transformers 5, which takes a quantization_config instead; so the command is
given the base as bitsandbytes has quantised and saved it.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tasks import paths
from tasks.files import read_json
from tasks.models import base_folder, build_quantization_config, dtype_name, load_plain, load_tokenizer, resolve_dtype
from tasks.params import Params, load_params
from tasks.records import BaseRecord, Evaluation

ROOT = Path(__file__).parents[1]
WEIGHTS = "adapter_model.safetensors"
Figures = dict[tuple[str, str], float]
"""Scores by benchmark and metric."""


@dataclass
class Contest:
    """A workspace, and what the last run of each side found, by the model that was measured."""

    folder: Path
    limit: int | None
    ours: dict[str, Figures] = field(default_factory=dict)
    theirs: dict[str, Figures] = field(default_factory=dict)

    @property
    def params(self) -> Params:
        """The parameters that both sides are measured under."""
        return load_params(self.folder / paths.PARAMS)

    def prepare(self) -> str:
        """Fill the workspace; says where the adapter comes from."""
        for place in (paths.BASE, paths.EVALS):
            (self.folder / place).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / place).symlink_to(place.absolute())
        text = paths.PARAMS.read_text(encoding="utf-8")
        limited = text.replace("  limit: null", f"  limit: {self.limit or 'null'}")
        (self.folder / paths.PARAMS).write_text(limited, encoding="utf-8")
        for number in (1, 2):
            origin = self._write_adapter(self.folder / f"adapter-{number}", number)
        self.take_adapter(1)
        self._base()  # made before any clock runs
        return origin

    def _write_adapter(self, target: Path, number: int) -> str:
        """The workspace's own adapter, or one of seeded numbers; the second candidate is another by its last digits."""
        if (paths.ADAPTER / WEIGHTS).is_file():
            shutil.copytree(paths.ADAPTER, target)
            origin = "the adapter of this workspace"
        else:
            write_random_adapter(target)
            origin = "an adapter of random numbers, as stage train was not run"
        weights = {name: tensor * (1 + (number - 1) * 1e-3) for name, tensor in load_file(target / WEIGHTS).items()}
        save_file(weights, target / WEIGHTS)
        return origin

    def take_adapter(self, number: int) -> None:
        """Let the workspace hold the adapter of the first or second candidate."""
        shutil.rmtree(self.folder / paths.ADAPTER, ignore_errors=True)
        shutil.copytree(self.folder / f"adapter-{number}", self.folder / paths.ADAPTER)

    def forget(self) -> None:
        """Empty the state folder."""
        shutil.rmtree(self.folder / paths.STATE, ignore_errors=True)

    def run_ours(self, *models: str) -> None:
        """The stage `evaluate` for each of the models."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), paths.STATE_VARIABLE: str(self.folder / paths.STATE)}
        for model in models:
            self._call([sys.executable, "-m", "tasks.evaluate", model], environment)
            place = paths.EVALUATE_BASE if model == "base" else paths.EVALUATE_CANDIDATE
            found = read_json(self.folder / place / paths.EVALUATION, Evaluation)
            self.ours[model] = {(score.benchmark, score.metric): score.value for score in found.scores}

    def run_theirs(self) -> None:
        """`lm_eval` for the base, and again with the adapter."""
        for model in ("base", "candidate"):
            out = self.folder / f"lm_eval-{model}"
            shutil.rmtree(out, ignore_errors=True)
            self._call(self._command(model, out), dict(os.environ))
            (report,) = out.rglob("results_*.json")
            results = json.loads(report.read_text(encoding="utf-8"))["results"]
            self.theirs[model] = {
                (task, name.removesuffix(",none")): value
                for task, figures in results.items()
                for name, value in figures.items()
                if name.endswith(",none") and "_stderr" not in name
            }

    def _command(self, model: str, out: Path) -> list[str]:
        evaluate, dtype = self.params.evaluate, dtype_name(resolve_dtype(self.params.compute.dtype))
        arguments: dict[str, Any] = {"pretrained": self._base(), "dtype": dtype, "max_length": evaluate.max_length}
        if model == "candidate":
            arguments["peft"] = (self.folder / paths.ADAPTER).absolute()
        command = [str(Path(sys.executable).parent / "lm_eval"), "--model", "hf", "--log_samples"]
        options: dict[str, object] = {
            "model_args": ",".join(f"{name}={value}" for name, value in arguments.items()),
            "tasks": ",".join(benchmark.name for benchmark in evaluate.benchmarks),
            "num_fewshot": evaluate.benchmarks[0].num_fewshot,
            "include_path": paths.EVALS,
            "batch_size": evaluate.batch_size,
            "seed": evaluate.seed,
            "output_path": out,
        }
        options |= {} if evaluate.limit is None else {"limit": evaluate.limit}
        flags = ["--apply_chat_template"] if evaluate.apply_chat_template else []
        return [*command, *flags, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]

    def _base(self) -> Path:
        """The folder of the base, in 4 bits where the parameters say so."""
        folder = base_folder(read_json(paths.BASE_RECORD, BaseRecord)).absolute()
        quantised = self.folder / "base-4bit"
        if self.params.quantization is None:
            return folder
        if not quantised.exists():
            dtype = resolve_dtype(self.params.compute.dtype)
            settings = build_quantization_config(self.params.quantization, dtype)
            model = (
                AutoModelForCausalLM.from_pretrained(  # in the type that it is computed in: constants are saved in it
                    folder, quantization_config=settings, dtype=dtype, device_map={"": "cpu"}
                )
            )
            model.save_pretrained(quantised)
            load_tokenizer(folder).save_pretrained(quantised)
        return quantised

    def _call(self, command: list[str], environment: dict[str, str]) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=3600
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")

    def differing(self) -> list[str]:
        """The scores that are not the same to the last digit."""
        return [
            f"{model} {' '.join(key)}: {self.ours[model].get(key)} and {value}"
            for model, figures in self.theirs.items()
            for key, value in figures.items()
            if self.ours[model].get(key) != value
        ]


def write_random_adapter(target: Path) -> None:
    """A LoRA adapter of the parameters' shape, with small seeded numbers."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415  only where no adapter was trained

    torch.manual_seed(1)
    base = load_plain(base_folder(read_json(paths.BASE_RECORD, BaseRecord)), torch.float32)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=1e-3)
    model.save_pretrained(target)
