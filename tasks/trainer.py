"""TRL's trainer as the line uses it: the one owner of trl.

Rows come labelled (`training_rows`), the model adapted (`adapters`); nothing of TRL's own preparation is left to guess.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file, save_file
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import SFTConfig, SFTTrainer, pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tasks.answer_loss import can_be_fused, summed_loss
from tasks.files import need_disk
from tasks.models import resolve_dtype
from tasks.params import Params
from tasks.params_train import TrainParams
from tasks.trainer_checkpoints import BYTES_PER_WEIGHT, Checkpoints
from tasks.training_guards import Guards, check_step
from tasks.training_rows import IGNORED
from tasks.training_watch import BestWeights, Progress, put_back, trained_weights

SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")
"""Configuration fields of models whose output layer is more than a product; their loss is left to TRL."""
TRAINED = "trained.safetensors"
OPTIMIZER_PART, SCHEDULER = "optimizer_{}.pt", "scheduler.pt"
Batch = dict[str, torch.Tensor]
INSIDE_THE_LAYERS = {"LORA", "PEANUT", "IA3", "ADAPTION_PROMPT"}
"""Methods that live in the layers of the base, so that its parts can be called one by one."""


def build_training_config(
    train: TrainParams, dtype: torch.dtype, folder: Path, *, evaluates: bool, saves: bool
) -> SFTConfig:
    """trl.SFTConfig of the `train` section.

    Args:
        train: the section.
        dtype: the compute type.
        folder: where trainer checkpoints go.
        evaluates: whether there are validation rows.
        saves: whether trainer checkpoints are written.
    """
    on_cpu = not torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(folder),
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
        packing=train.packing,
        neftune_noise_alpha=train.neftune_noise_alpha,
        logging_steps=train.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it would put a mean in the place of a loss that is not finite
        include_num_input_tokens_seen="non_padding",
        eval_strategy="steps" if evaluates else "no",
        eval_steps=train.eval_steps,
        activation_checkpointing=train.activation_checkpointing,
        seed=train.seed,
        data_seed=train.seed,
        bf16=dtype is torch.bfloat16,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        dataset_kwargs={"skip_prepare_dataset": True},
        save_strategy="steps" if saves else "no",
        save_steps=max(train.save_steps, 1),
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )


def micro_batches(batch: Batch, most_tokens: int) -> list[Batch]:
    """The rows of a padded batch in portions, the shortest first, each as wide as its longest row.

    Args:
        batch: `input_ids`, `labels` and `attention_mask`, each of shape (rows, longest), padded on the right.
        most_tokens: rows times width of a portion, at most; a longer row is a portion of its own.
    """
    lengths = batch["attention_mask"].sum(dim=1)
    portions: list[list[int]] = []
    for row in torch.argsort(lengths, stable=True).tolist():
        if portions and (len(portions[-1]) + 1) * int(lengths[row]) <= most_tokens:
            portions[-1].append(row)
        else:
            portions.append([row])
    return [{name: values[rows, : int(lengths[rows].max())] for name, values in batch.items()} for rows in portions]


class SeededOrder(Sampler[int]):
    """The order in which rows are seen, for each epoch its own, by seed and epoch alone.

    transformers' samplers draw from the state that the process happens to be in, which is another one when a training
    carries on in the middle of an epoch. With `lengths` rows of similar length stand together, in batches for a step.
    """

    def __init__(self, count: int, lengths: list[int] | None, rows_per_step: int, seed: int) -> None:
        self.count = count
        self.lengths = lengths
        self.rows_per_step = rows_per_step
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is next; called by accelerate."""
        self.epoch = epoch

    def __len__(self) -> int:
        """How many rows an epoch has."""
        return self.count

    def __iter__(self) -> Iterator[int]:
        """The rows of one epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.lengths is None:
            yield from torch.randperm(self.count, generator=generator).tolist()
        else:
            yield from get_length_grouped_indices(self.lengths, self.rows_per_step, generator=generator)


class Rows(NamedTuple):
    """What is trained on, and what is only measured; of `training_rows.build_rows`."""

    train: Dataset
    validation: Dataset | None


def build_collator(pad_token_id: int) -> DataCollatorForLanguageModeling:
    """What pads rows to a batch: `input_ids`, `labels` and `attention_mask`, each of shape (rows, longest)."""
    return DataCollatorForLanguageModeling(pad_token_id=pad_token_id)


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]  # trl is not typed
    """TRL's trainer; on a CPU the output layer is applied only where there is loss, and LoRA+ has its optimizer.

    TRL scores every position unless Triton is there, and with a vocabulary of 49,152 that is a fifth of the arithmetic
    of a small model. The loss is the same: the sum of the token losses over the number of supervised tokens.
    """

    loraplus_lr_ratio: float | None = None
    micro_batch_tokens: int | None = None
    checkpoints: Checkpoints | None = None
    best: BestWeights = BestWeights(patience=None, keeps=False)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:  # noqa: FBT001, FBT002
        """The weights that are trained, by their names and in their own type: a checkpoint needs no more."""
        weights = trained_weights(self.model)  # every process gives its part where the model is sharded
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            save_file(weights, folder / TRAINED)

    def _save_checkpoint(self, model: torch.nn.Module, trial: object) -> None:
        if self.control.should_training_stop:
            return  # the outputs come next; from a checkpoint of the last step transformers would train one step more
        try:
            self._write_checkpoint(model, trial)
        except Exception:
            trained = sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)
            need_disk(Path(self.args.output_dir), BYTES_PER_WEIGHT * trained)  # torch names no disk where it is full
            raise

    def _write_checkpoint(self, model: torch.nn.Module, trial: object) -> None:
        Trainer._save_checkpoint(self, model, trial)  # noqa: SLF001  TRL's own writes a model card each time
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        self.accelerator.wait_for_everyone()
        if self.checkpoints is not None and self.args.should_save:
            self.best.save(folder)
            self.checkpoints.seal(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Put the trained weights back as they were: transformers would bring some back in another type."""
        folder = Path(resume_from_checkpoint)
        put_back(self.model if model is None else model, load_file(folder / TRAINED))
        self.best.load(folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Of a sharded model each process keeps the states of its own part; a checkpoint's key has their number.

        transformers would gather the base too, and PEFT 0.21 names no adapter behind more than one of FSDP's wrappers.
        """
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.optimizer.state_dict(), folder / OPTIMIZER_PART.format(self.args.process_index))
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), folder / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """What `_save_optimizer_and_scheduler` kept, into this process."""
        if checkpoint is None or not self.is_fsdp_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        part = Path(checkpoint) / OPTIMIZER_PART.format(self.args.process_index)
        self.optimizer.load_state_dict(torch.load(part, map_location="cpu", weights_only=True))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER, weights_only=True))

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SeededOrder:
        """The order of the rows; in epochs of its own, so that a training carries on within an epoch as it began it."""
        rows = self.train_dataset if train_dataset is None else train_dataset
        lengths = None if self.padding_free else [len(ids) for ids in rows["input_ids"]]
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.accelerator.num_processes
        return SeededOrder(len(rows), lengths, step, self.args.data_seed)

    def create_optimizer(self, *rest: Any, **options: Any) -> torch.optim.Optimizer:
        """The optimizer of the parameters; with LoRA+ B learns `loraplus_lr_ratio` times as fast as A."""
        if self.loraplus_lr_ratio is None:
            plain: torch.optim.Optimizer = super().create_optimizer(*rest, **options)
            return plain
        kind, arguments = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        made: torch.optim.Optimizer = create_loraplus_optimizer(
            self.model,
            kind,
            loraplus_lr_ratio=self.loraplus_lr_ratio,
            loraplus_weight_decay=self.args.weight_decay,
            **arguments,
        )
        self.optimizer = made
        return made

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """The loss of one batch after its backward pass; one above `micro_batch_tokens` is worked on in portions.

        Raises:
            TrainingInvalid: no token of the step carries loss, or the loss is not finite.
        """
        loss = self._backward(model, inputs, num_items_in_batch)
        check_step(self.state.global_step + 1, loss, num_items_in_batch, self.args.learning_rate)
        return loss

    def _backward(
        self, model: torch.nn.Module, inputs: Batch, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        is_split = self.micro_batch_tokens is not None and num_items_in_batch is not None
        if not is_split or "attention_mask" not in inputs or self.accelerator.num_processes > 1:
            whole: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
            return whole
        portions = micro_batches(inputs, self.micro_batch_tokens or 0)
        losses = [super(AnswerTrainer, self).training_step(model, part, num_items_in_batch) for part in portions]
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,  # noqa: FBT001, FBT002  transformers' signature
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of one batch, a scalar."""
        if return_outputs or not self._scores_answers_only():
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        causal = self.accelerator.unwrap_model(model)
        causal = causal.get_base_model() if hasattr(causal, "get_base_model") else causal
        # No mask: rows are padded on the right, so that under a causal model no token sees padding.
        given = {name: inputs[name] for name in ("input_ids", "position_ids") if name in inputs}
        hidden = causal.base_model(**given, use_cache=False).last_hidden_state[:, :-1]
        labels = inputs["labels"][:, 1:]
        taught = labels != IGNORED
        output_layer = causal.get_output_embeddings()
        if can_be_fused(output_layer):
            total = summed_loss(hidden[taught], output_layer, labels[taught])
        else:
            scores = output_layer(hidden[taught]).float()
            total = torch.nn.functional.cross_entropy(scores, labels[taught], reduction="sum")
        return total / (taught.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch)

    def _scores_answers_only(self) -> bool:
        """Whether this model's loss may be computed from its parts: one CPU process, a plain output layer."""
        is_alone = self.accelerator.num_processes == 1 and self.accelerator.device.type == "cpu"
        kinds = {config.peft_type.value for config in getattr(self.model, "peft_config", {}).values()}
        is_scaled = any(getattr(self.model.config, name, None) for name in SCALED_LOGITS)
        return is_alone and not is_scaled and kinds <= INSIDE_THE_LAYERS


def build_trainer(
    model: torch.nn.Module,
    params: Params,
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    checkpoints: Checkpoints | None,
) -> AnswerTrainer:
    """The trainer over an adapted model, whose weights it leaves as they are: TRL would round them to bfloat16.

    Args:
        model: of `adapters.adapt`.
        params: of them, `train`, `lora` and `compute` are read.
        rows: what is trained on and what is measured.
        tokenizer: with a padding token.
        folder: for what TRL writes where there are no checkpoints.
        checkpoints: where trainer checkpoints go, or None.
    """
    train, evaluates = params.train, rows.validation is not None
    trained = {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}
    best = BestWeights(patience=train.early_stopping_patience, keeps=train.keep_best and evaluates)
    config = build_training_config(
        train, resolve_dtype(params.compute.dtype), checkpoints.folder if checkpoints else folder,
        evaluates=evaluates, saves=checkpoints is not None,
    )  # fmt: skip
    trainer = AnswerTrainer(
        model=model,
        args=config,
        train_dataset=pack_dataset(rows.train, train.max_length, "bfd") if train.packing else rows.train,
        eval_dataset=rows.validation,
        processing_class=tokenizer,
        callbacks=[Guards(), Progress(len(rows.train)), best],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.best = best
    trainer.checkpoints = checkpoints
    trainer.micro_batch_tokens = train.micro_batch_tokens
    trainer.loraplus_lr_ratio = params.lora.loraplus_lr_ratio if params.lora else None
    for name, weight in trainer.model.named_parameters():
        if name in trained:
            weight.data = trained[name]  # in their own type again
    return trainer
