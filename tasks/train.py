"""Stage `train`: approved splits and base -> data/train (adapter, metrics.json, history.jsonl, supervision.json).

QLoRA with TRL, PEFT and bitsandbytes. The adapter is float32 throughout: TRL would cast it to bfloat16, which is slow
on a CPU and comes back in another type when a run is resumed. The seed is set before the adapter is drawn.
"""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, Json, List, Value
from peft import LoraConfig
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from trl import SFTConfig, SFTTrainer

from tasks import paths
from tasks.approvals import require_approval
from tasks.digests import digest_path
from tasks.entry import run_stage
from tasks.errors import TrainingInvalid
from tasks.files import need_disk, read_json, whole, write_json, write_jsonl
from tasks.models import base_folder, dtype_name, load_quantized, load_tokenizer, resolve_dtype, set_threads
from tasks.params import LoraParams, Params, TrainParams, load_params
from tasks.records import BaseRecord, Example, SupervisionAudit, TrainingPoint, TrainMetrics
from tasks.supervision import IGNORED, audit, print_audit, require_sound
from tasks.tables import read_examples

ROW_FEATURES = Features(
    {"id": Value("string"), "prompt": List(Json()), "completion": List(Json()), "tools": Value("string")}
)
SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")
"""Configuration fields of models whose output layer is more than a product; their loss is left to TRL."""
ADAPTER_DISK_BYTES = 200_000_000


def build_lora_config(lora: LoraParams) -> LoraConfig:
    """peft.LoraConfig of the `lora` section."""
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=lora.target_modules,
        bias=lora.bias,
        task_type="CAUSAL_LM",
    )


def build_training_config(train: TrainParams, dtype: torch.dtype, scratch: Path, *, evaluates: bool) -> SFTConfig:
    """trl.SFTConfig of the `train` section; checkpoints, reports and progress bars are off."""
    on_cpu = not torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(scratch),
        num_train_epochs=train.num_train_epochs,
        max_steps=train.max_steps,
        per_device_train_batch_size=train.per_device_train_batch_size,
        per_device_eval_batch_size=train.per_device_eval_batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.lr_scheduler_type,
        warmup_steps=train.warmup_steps,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        optim=train.optim,
        max_length=train.max_length,
        logging_steps=train.logging_steps,
        logging_first_step=True,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=train.eval_steps,
        activation_checkpointing=train.activation_checkpointing,
        seed=train.seed,
        data_seed=train.seed,
        bf16=dtype is torch.bfloat16,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        train_sampling_strategy="group_by_length",
        completion_only_loss=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )


def as_dataset(examples: list[Example]) -> Dataset:
    """TRL's conversational prompt/completion rows: the last turn is the completion, all before it the prompt.

    A row stands there `repeat` times. Turns are kept as JSON: a column of nested records would give every tool call
    the arguments of all others, as nulls, and train on another text than was counted and checked.
    """
    rows = [
        {
            "id": example.id,
            "prompt": [message.for_template() for message in example.messages[:-1]],
            "completion": [example.messages[-1].for_template()],
            "tools": example.tools,
        }
        for example in examples
        for _ in range(example.repeat)
    ]
    return Dataset.from_list(rows, features=ROW_FEATURES)


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is not typed enough
    """A plain line at every logged step, with the rate and the time left; a loss that is not finite stops the run."""

    def __init__(self, examples_per_step: int) -> None:
        self.examples_per_step = examples_per_step
        self.started = time.monotonic()

    def on_train_begin(
        self, _args: TrainingArguments, _state: TrainerState, _control: TrainerControl, **_: object
    ) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: object,
    ) -> None:
        """Print where the run is."""
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingInvalid(
                f"step {state.global_step}: the loss is {loss}; lower train.learning_rate (now "
                f"{_args.learning_rate}) or check the data, and run again"
            )
        seconds = max(time.monotonic() - self.started, 1e-6)
        left = seconds / state.global_step * (state.max_steps - state.global_step)
        rate = state.global_step * self.examples_per_step / seconds
        print(
            f"train: step {state.global_step}/{state.max_steps}  loss {loss:.3f}  "
            f"{rate:.1f} examples/s  {left:.0f} s left",
            flush=True,
        )


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]  # trl is not typed
    """TRL's trainer; on a CPU the output layer is applied only where there is loss.

    TRL scores every position unless Triton is there, and with a vocabulary of 49,152 that is a fifth of the arithmetic
    of a small model. The loss is the same: the sum of the token losses over the number of supervised tokens.
    """

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,  # noqa: FBT001, FBT002  transformers' signature
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of one batch, a scalar."""
        is_plain = self.accelerator.num_processes == 1 and self.accelerator.device.type == "cpu"
        if return_outputs or not is_plain or any(getattr(self.model.config, name, None) for name in SCALED_LOGITS):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        causal = self.accelerator.unwrap_model(model).get_base_model()
        hidden = causal.base_model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
        ).last_hidden_state[:, :-1]
        labels = inputs["labels"][:, 1:]
        taught = labels != IGNORED
        logits = causal.get_output_embeddings()(hidden[taught]).float()
        total = torch.nn.functional.cross_entropy(logits, labels[taught], reduction="sum")
        return total / (taught.sum() if num_items_in_batch is None else num_items_in_batch)


def build_trainer(params: Params, folder: Path, train: list[Example], validation: list[Example]) -> SFTTrainer:
    """The trainer over the 4-bit base, its adapter in float32 and drawn after the seed was set."""
    quantization, tokenizer = params.quantization, load_tokenizer(folder)
    dtype = resolve_dtype(quantization.bnb_4bit_compute_dtype)
    scratch = paths.TRAIN / ".trainer"
    set_seed(params.train.seed)
    batch = params.train.per_device_train_batch_size * params.train.gradient_accumulation_steps
    trainer = AnswerTrainer(
        model=load_quantized(folder, quantization),
        args=build_training_config(params.train, dtype, scratch, evaluates=bool(validation)),
        train_dataset=as_dataset(train),
        eval_dataset=as_dataset(validation) if validation else None,
        processing_class=tokenizer,
        peft_config=build_lora_config(params.lora),
        callbacks=[Progress(batch)],
    )
    trainer.remove_callback(PrinterCallback)
    for weight in trainer.model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return trainer


def check_untrained(trainer: SFTTrainer) -> None:
    """Before step one the adapted model must equal the base: LoRA's B starts at zero (Hu et al. 2021, section 4.1).

    Raises:
        TrainingInvalid: the logits differ, so the adapter was not drawn as LoRA promises.
    """
    model = trainer.model
    batch = trainer.data_collator([trainer.train_dataset[0]])
    inputs = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        adapted = model(**inputs).logits
        with model.disable_adapter():
            base = model(**inputs).logits
    if not torch.equal(adapted, base):
        raise TrainingInvalid(
            f"before step one the adapted model differs from the base by {(adapted - base).abs().max().item():.2e}"
        )


def save_adapter(trainer: SFTTrainer, base: BaseRecord, folder: Path) -> None:
    """Write adapter_model.safetensors and adapter_config.json, the latter with sorted keys and lists.

    PEFT keeps target modules in a set, whose order changes from process to process.
    """
    with whole(folder) as partial:
        trainer.model.save_pretrained(partial, safe_serialization=True, save_embedding_layers=False)
        config = json.loads((partial / "adapter_config.json").read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = base.name
        config["target_modules"] = sorted(config["target_modules"])
        (partial / "adapter_config.json").write_text(json.dumps(config, sort_keys=True, indent=2) + "\n", "utf-8")
        for extra in partial.iterdir():
            if extra.name not in {"adapter_model.safetensors", "adapter_config.json"}:
                extra.unlink()


def history(trainer: SFTTrainer) -> list[TrainingPoint]:
    """The trainer's log, a point for each line of it, without clocks."""
    names = set(TrainingPoint.model_fields)
    points = []
    for line in trainer.state.log_history:
        if "loss" in line or "eval_loss" in line:
            numbers = {name: float(value) for name, value in line.items() if name in names - {"step"}}
            points.append(TrainingPoint(step=int(line["step"]), **numbers))
    return points


def measure(
    trainer: SFTTrainer, params: Params, points: list[TrainingPoint], audited: SupervisionAudit
) -> TrainMetrics:
    """What training did, from the trainer after its last step."""
    weights = list(trainer.model.named_parameters())
    rows = trainer.train_dataset
    losses = [point.loss for point in points if point.loss is not None]
    eval_losses = [point.eval_loss for point in points if point.eval_loss is not None]
    return TrainMetrics(
        method=params.train.method,
        compute_dtype=dtype_name(resolve_dtype(params.quantization.bnb_4bit_compute_dtype)),
        device=trainer.model.device.type,
        threads=torch.get_num_threads(),
        trainable_weights=sum(weight.numel() for _, weight in weights if weight.requires_grad),
        all_weights=trainer.model.num_parameters(),
        train_examples=len(rows),
        validation_examples=len(trainer.eval_dataset or ()),
        train_tokens=sum(len(ids) for ids in rows["input_ids"]),
        supervised_tokens=audited.trained_tokens,
        steps=trainer.state.global_step,
        final_loss=losses[-1],
        eval_loss=eval_losses[-1] if eval_losses else None,
        adapter_digest=digest_path(paths.ADAPTER),
    )


def set_determinism() -> None:
    """Deterministic kernels; where there is none the library warns."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid that costs time


def main() -> None:
    """Train the adapter on the approved splits."""
    params = load_params()
    require_approval(paths.DATA_APPROVAL, paths.SPLIT, "run `dvc repro validate`")
    base = read_json(paths.BASE_RECORD, BaseRecord)
    need_disk(paths.TRAIN, ADAPTER_DISK_BYTES)
    examples = read_examples(paths.TRAIN_EXAMPLES)
    validation = read_examples(paths.VALIDATION_EXAMPLES)
    set_determinism()
    set_threads(params.compute)
    folder = base_folder(base)
    trainer = build_trainer(params, folder, examples, validation)
    audited = audit(examples, trainer, base.chat_template_digest, folder)
    write_json(paths.SUPERVISION, audited)
    print_audit(audited)
    require_sound(audited)
    check_untrained(trainer)
    trainable, total = trainer.model.get_nb_trainable_parameters()
    print(f"train: {len(examples)} examples; trainable weights {trainable:,} of {total:,} ({trainable / total:.2%})")
    trainer.train()
    save_adapter(trainer, base, paths.ADAPTER)
    points = history(trainer)
    write_jsonl(paths.TRAIN_HISTORY, points)
    metrics = measure(trainer, params, points, audited)
    write_json(paths.TRAIN_METRICS, metrics)
    print(f"train: {metrics.steps} steps, final loss {metrics.final_loss:.3f}, adapter {metrics.adapter_digest[:12]}")


if __name__ == "__main__":
    run_stage(main)
