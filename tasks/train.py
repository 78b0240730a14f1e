"""Stage `train`: approved splits and base -> data/train (adapter, metrics, history, curves, supervision.json).

The parts: `training_rows` makes labels, `adapters` the method, `trainer` the loop, `supervision` looks at what carries
loss before step one, `training_watch` while it goes. The seed is set before the adapter is drawn.
"""

import json
import os
import tempfile
from pathlib import Path

import torch
from transformers import set_seed

from tasks import paths
from tasks.adapters import adapt, check_start, first_batches, keep_start, logits_of, promise, save_trained
from tasks.approvals import require_approval
from tasks.curve_findings import best_point, curve_findings
from tasks.digests import digest_path
from tasks.entry import run_stage
from tasks.errors import ParamsInvalid
from tasks.files import need_disk, read_json, write_json, write_jsonl
from tasks.finding_changes import trained_with
from tasks.gated_layers import keep_less
from tasks.launch import launch, quiet_unless_first, rank
from tasks.loss_findings import loss_findings
from tasks.models import (
    attention_implementation,
    base_folder,
    device,
    dtype_name,
    give_back_memory,
    load_base,
    load_tokenizer,
    resolve_dtype,
    set_threads,
)
from tasks.params import Params, load_params
from tasks.params_checks import impossible_without_cuda, outside_usual_ranges
from tasks.records import BaseRecord, Example, RowLoss, SupervisionAudit, TrainingPoint, TrainMetrics
from tasks.row_losses import measure_rows
from tasks.sharding import is_sharded
from tasks.supervision import audit, print_audit, require_sound
from tasks.tables import read_examples
from tasks.trainer import AnswerTrainer, Rows, build_collator, build_trainer
from tasks.trainer_checkpoints import BYTES_PER_WEIGHT, KEPT, Checkpoints, build_key
from tasks.training_rows import build_rows
from tasks.training_watch import history, trained_weights, write_curves

ADAPTER_DISK_BYTES = 200_000_000
EVA_BATCHES = 8
PROBE_TOKENS = 64
"""Of the row on which the adapted model is held to the base: over a large vocabulary a long row's scores would be the
most that training ever needs."""


class Session:
    """One training, ready to run: its trainer, and the adapter as it started where the method needs that for saving."""

    def __init__(self, trainer: AnswerTrainer, start: Path | None) -> None:
        self.trainer = trainer
        self.start = start
        self.trainable_weights = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
        self.attention: str = trainer.model.config._attn_implementation  # noqa: SLF001  it has no other name
        self.all_weights: int = trainer.model.num_parameters()  # counted now: later FSDP leaves this process a part

    def run(self) -> None:
        """Train to the end, from the newest whole checkpoint of this training if there is one; keep the best weights.

        Raises:
            TrainingInvalid: the loss is not finite.
            DiskFull: there is no room for checkpoints.
        """
        trainer, resumed = self.trainer, None
        if trainer.checkpoints is not None:
            need_disk(trainer.checkpoints.folder, (KEPT + 1) * BYTES_PER_WEIGHT * self.trainable_weights)
            with trainer.accelerator.main_process_first():  # the others find nothing left to remove
                trainer.checkpoints.prepare()
                for line in trainer.checkpoints.others():
                    print(f"train: {line}")
                resumed = trainer.checkpoints.newest_valid()
        if resumed is not None:
            print(f"train: carries on from {resumed.name.replace('-', ' of step ')}", flush=True)
        trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
        trainer.best.restore(trainer.model)

    def gathered(self) -> dict[str, torch.Tensor] | None:
        """The trained weights of a sharded model, whole; None of one that is whole. Every process has to ask."""
        return trained_weights(self.trainer.model) if is_sharded(self.trainer.model) else None


def prepare(
    params: Params,
    folder: Path,
    train: list[Example],
    validation: list[Example],
    scratch: Path,
    checkpoints: Checkpoints | None = None,
) -> Session:
    """The trainer over the base in `folder`, adapted as the parameters say and checked to start as it should.

    Args:
        params: everything.
        folder: of the base model.
        train: examples to train on.
        validation: examples to measure; may be none.
        scratch: an empty folder for what is needed until the training ends.
        checkpoints: where trainer checkpoints go; without it none are written.

    Raises:
        TrainingInvalid: the base has no such layers, the template loses a turn, or the adapter does not start right.
    """
    tokenizer, dtype = load_tokenizer(folder), resolve_dtype(params.compute.dtype)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    made = (build_rows(part, tokenizer, params.train.max_length) if part else None for part in (train, validation))
    rows = Rows(*made)
    set_seed(params.train.seed)
    is_full = params.train.method == "full"
    will_shard = params.compute.sharding == "fsdp" and rank() is not None
    place = torch.device("cpu") if will_shard else device()  # one GPU may not hold what is to be sharded
    model = load_base(folder, params.quantization, torch.float32 if is_full else dtype, place)
    if device().type == "cpu" and not params.train.activation_checkpointing:
        keep_less(model)
    collate = build_collator(tokenizer.pad_token_id)
    batches = first_batches(rows.train, collate, params.train.per_device_train_batch_size, EVA_BATCHES)
    (row,) = first_batches(rows.train, collate, 1, 1)
    probe = {name: values[:, :PROBE_TOKENS] for name, values in row.items()}
    before = logits_of(model, probe)
    adapted = adapt(model, params, batches)
    check_start(before, logits_of(adapted, probe), promise(params))
    start = keep_start(adapted, params, scratch)
    trainer = build_trainer(adapted, params, rows, tokenizer, scratch / "trainer", checkpoints)
    if device().type == "cpu":
        give_back_memory()
    return Session(trainer, start)


def measure(
    session: Session,
    params: Params,
    points: list[TrainingPoint],
    row_losses: list[RowLoss],
    audited: SupervisionAudit,
) -> TrainMetrics:
    """What training did, from the session after its last step."""
    trainer = session.trainer
    losses = [point.loss for point in points if point.loss is not None]
    best = best_point(points)
    return TrainMetrics(
        method=params.train.method,
        compute_dtype=dtype_name(resolve_dtype(params.compute.dtype)),
        device=trainer.model.device.type,
        threads=torch.get_num_threads(),
        trainable_weights=session.trainable_weights,
        all_weights=session.all_weights,
        train_examples=audited.rows,
        validation_examples=len(trainer.eval_dataset or ()),
        train_tokens=sum(len(ids) for ids in trainer.train_dataset["input_ids"]),
        supervised_tokens=audited.trained_tokens,
        steps=trainer.state.global_step,
        final_loss=losses[-1],
        eval_loss=_eval_loss(trainer, points),
        adapter_digest=digest_path(paths.ADAPTER),
        best_step=None if best is None else best.step,
        best_eval_loss=None if best is None else best.eval_loss,
        stopped_early=trainer.state.global_step < trainer.state.max_steps,
        findings=(*curve_findings(points, trained_with(params.train, params.lora)), *loss_findings(row_losses)),
        attention=session.attention,
        nondeterminism=nondeterminism(trainer.model.device.type, params.compute.num_processes),
    )


def nondeterminism(kind: str, num_processes: int) -> str:
    """Why a training on such devices may end in other bytes when it is repeated; empty where it may not.

    Sources: the PyTorch notes on reproducibility, and those on NCCL, which chooses algorithm and order at run time.
    """
    reasons = []
    if num_processes > 2 or (num_processes > 1 and kind == "cuda"):
        reasons.append(
            f"the gradients of {num_processes} processes are summed in an order that the communication library chooses"
        )
    if kind == "cuda":
        reasons.append("some CUDA kernels have no deterministic form (PyTorch names them in warnings)")
    return "; ".join(reasons)


def _eval_loss(trainer: AnswerTrainer, points: list[TrainingPoint]) -> float | None:
    """The validation loss of the weights that are kept."""
    measured = [point.eval_loss for point in points if point.eval_loss is not None]
    if not measured:
        return None
    return min(measured) if trainer.best.weights else measured[-1]


def find_checkpoints(params: Params, base: BaseRecord) -> Checkpoints:
    """Where the trainer checkpoints of this training lie."""
    data = {path.name: digest_path(path) for path in (paths.TRAIN_EXAMPLES, paths.VALIDATION_EXAMPLES)}
    place, dtype = device(), resolve_dtype(params.compute.dtype)
    flash = attention_implementation(dtype, place)
    kind = torch.cuda.get_device_name(place) if place.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    machine = f"{kind}, {dtype_name(dtype)}{f', {flash}' if flash else ''}, {torch.get_num_threads()} threads, "
    machine += f"{params.compute.num_processes} processes"
    return Checkpoints(paths.state_folder(), build_key(params, data, base.digest, machine))


def stored_dtype(folder: Path) -> torch.dtype:
    """The type that the weights in `folder` are stored in, by its configuration."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    dtype: torch.dtype = getattr(torch, config.get("dtype") or config.get("torch_dtype") or "float32")
    return dtype


def set_determinism() -> None:
    """Deterministic kernels; where there is none the library warns."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("FLASH_ATTENTION_DETERMINISTIC", "1")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid that costs time


def main() -> None:
    """Train what the parameters name on the approved splits."""
    params = load_params()
    if params.compute.num_processes > 1 and rank() is None:
        set_threads(params.compute)
        launch("tasks.train", params.compute.num_processes, torch.get_num_threads(), params.compute.sharding)
        return
    quiet_unless_first()
    require_approval(paths.DATA_APPROVAL, paths.SPLIT, "run `dvc repro validate`")
    base = read_json(paths.BASE_RECORD, BaseRecord)
    need_disk(paths.TRAIN, ADAPTER_DISK_BYTES)
    if not torch.cuda.is_available() and (problems := list(impossible_without_cuda(params))):
        raise ParamsInvalid("\n".join(["params.yaml: this machine has no CUDA device", *problems]))
    for unusual in outside_usual_ranges(params):
        print(f"train: note: {unusual}")
    examples = read_examples(paths.TRAIN_EXAMPLES)
    validation = read_examples(paths.VALIDATION_EXAMPLES)
    set_determinism()
    set_threads(params.compute)
    folder = base_folder(base)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = find_checkpoints(params, base) if params.train.save_steps else None
        session = prepare(params, folder, examples, validation, Path(scratch), checkpoints)
        trainer = session.trainer
        audited = audit(examples, trainer, base.chat_template_digest, folder)
        if trainer.accelerator.is_main_process:
            write_json(paths.SUPERVISION, audited)
        print_audit(audited)
        require_sound(audited)
        trained, total = session.trainable_weights, session.all_weights
        print(f"train: {len(examples)} examples; trainable weights {trained:,} of {total:,} ({trained / total:.2%})")
        session.run()
        gathered = session.gathered()
        if not trainer.accelerator.is_main_process:
            return
        save_trained(trainer.model, base.name, stored_dtype(folder), session.start, paths.ADAPTER, gathered)
    points = history(trainer.state.log_history)
    write_jsonl(paths.TRAIN_HISTORY, points)
    write_curves(paths.TRAIN_CURVES, points)
    row_losses = [] if is_sharded(trainer.model) else measure_rows(trainer, validation)
    write_jsonl(paths.ROW_LOSSES, row_losses)
    metrics = measure(session, params, points, row_losses, audited)
    write_json(paths.TRAIN_METRICS, metrics)
    for finding in metrics.findings:
        print(f"train: warning: {finding.text}")
    if checkpoints is not None:
        checkpoints.remove()
    print(f"train: {metrics.steps} steps, final loss {metrics.final_loss:.3f}, adapter {metrics.adapter_digest[:12]}")


if __name__ == "__main__":
    run_stage(main)
