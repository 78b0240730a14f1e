"""The exact changes that findings propose: other values of parameters, inside the ranges that `tasks.params` allows.

Steps are the usual ones: ranks and rates are doubled or halved, dropout is 0.05 or 0.1, replay 5 to 10 %. A builder
returns the alternatives that there are, none where the parameter is at its usual end already or the method lacks it.
"""

from collections.abc import Sequence

from tasks.findings import Changes
from tasks.params_checks import USUAL_DROPOUT, USUAL_LEARNING_RATE, USUAL_LEARNING_RATE_FULL, USUAL_R
from tasks.params_train import LoraParams, TrainParams
from tasks.records import Record

USUAL_REPLAY = (0.05, 0.1)
MOST_REPLAY = 0.3
MOST_EPOCHS = 1000.0
LEAST_GOOD_R = 16
"""The least rank that is proposed where a rank is too low."""


class TrainedWith(Record):
    """The parameters of a training that findings may change; those of LoRA are None for methods without it."""

    method: str
    learning_rate: float
    num_train_epochs: float
    max_steps: int
    warmup_steps: int
    lr_scheduler_type: str
    max_grad_norm: float
    r: int | None = None
    lora_alpha: float | None = None
    lora_dropout: float | None = None
    target_modules: str | tuple[str, ...] | None = None


class PreparedWith(Record):
    """The parameters of the data that findings may change; `has_replay` is whether a source has that role."""

    replay_share: float
    has_replay: bool
    conflicting_answers: str


def trained_with(train: TrainParams, lora: LoraParams | None) -> TrainedWith:
    """What findings need of the sections `train` and `lora`."""
    shared = TrainedWith(
        method=train.method,
        learning_rate=train.learning_rate,
        num_train_epochs=train.num_train_epochs,
        max_steps=train.max_steps,
        warmup_steps=train.warmup_steps,
        lr_scheduler_type=train.lr_scheduler_type,
        max_grad_norm=train.max_grad_norm,
    )
    if lora is None:
        return shared
    modules = lora.target_modules if isinstance(lora.target_modules, str) else tuple(lora.target_modules)
    adapter = {
        "r": lora.r,
        "lora_alpha": lora.lora_alpha,
        "lora_dropout": lora.lora_dropout,
        "target_modules": modules,
    }
    return shared.model_copy(update=adapter)


def plain(value: float) -> int | float:
    """Two significant digits, without a fraction that is zero."""
    rounded = float(f"{value:.2g}")
    return int(rounded) if rounded.is_integer() else rounded


def slower(trained: TrainedWith, factor: float = 2.0) -> list[Changes]:
    """A lower learning rate."""
    return [{"train.learning_rate": plain(trained.learning_rate / factor)}]


def faster(trained: TrainedWith) -> list[Changes]:
    """A higher learning rate, up to the highest usual one."""
    _, most = USUAL_LEARNING_RATE_FULL if trained.method == "full" else USUAL_LEARNING_RATE
    rate = plain(min(2 * trained.learning_rate, most))
    return [{"train.learning_rate": rate}] if rate > trained.learning_rate else []


def longer(trained: TrainedWith) -> list[Changes]:
    """Twice the steps."""
    if trained.max_steps > 0:
        return [{"train.max_steps": 2 * trained.max_steps}]
    if trained.num_train_epochs >= MOST_EPOCHS:
        return []
    return [{"train.num_train_epochs": plain(min(2 * trained.num_train_epochs, MOST_EPOCHS))}]


def shorter(trained: TrainedWith, share: float = 0.5) -> list[Changes]:
    """A part of the steps."""
    if trained.max_steps > 0:
        steps = max(1, int(trained.max_steps * share))
        return [{"train.max_steps": steps}] if steps < trained.max_steps else []
    epochs = plain(trained.num_train_epochs * share)
    return [{"train.num_train_epochs": epochs}] if 0 < epochs < trained.num_train_epochs else []


def gentler(trained: TrainedWith) -> list[Changes]:
    """Twice the steps of warm-up, where the schedule has one."""
    if trained.lr_scheduler_type == "constant":
        return []
    return [{"train.warmup_steps": max(10, 2 * trained.warmup_steps)}]


def clipped(trained: TrainedWith) -> list[Changes]:
    """Gradients cut at half the norm."""
    return [{"train.max_grad_norm": plain(trained.max_grad_norm / 2)}]


def larger(trained: TrainedWith) -> list[Changes]:
    """The next two ranks, up to the highest usual one, with the same scaling."""
    if trained.r is None:
        return []
    first = max(LEAST_GOOD_R, 2 * trained.r)
    return [_rank(trained, trained.r, rank) for rank in (first, 2 * first) if rank <= USUAL_R[1]]


def smaller(trained: TrainedWith) -> list[Changes]:
    """Half the rank, down to the lowest usual one, with the same scaling."""
    if trained.r is None or trained.r < 2 * USUAL_R[0]:
        return []
    return [_rank(trained, trained.r, 2 * (trained.r // 4))]  # even, as orthogonal initialisation needs it


def _rank(trained: TrainedWith, now: int, then: int) -> Changes:
    alpha = (trained.lora_alpha or 0.0) * then / now
    return {"lora.r": then, "lora.lora_alpha": int(alpha) if alpha.is_integer() else alpha}


def dropped_out(trained: TrainedWith) -> list[Changes]:
    """The next usual dropout."""
    if trained.lora_dropout is None:
        return []
    usual = (USUAL_DROPOUT[1] / 2, USUAL_DROPOUT[1])
    found: list[Changes] = [{"lora.lora_dropout": share} for share in usual if share > trained.lora_dropout]
    return found[:1]


def wider(trained: TrainedWith) -> list[Changes]:
    """More layers with an adapter, in the order of the presets."""
    if trained.target_modules is None or trained.target_modules == "all-linear":
        return []
    names: Sequence[str] = ("attention", "all-linear") if trained.target_modules == "attention-qv" else ("all-linear",)
    return [{"lora.target_modules": name} for name in names]


def unquantised(trained: TrainedWith) -> list[Changes]:
    """LoRA on the base as it is, in place of the base in 4 bits."""
    return [{"train.method": "lora", "quantization": None}] if trained.method == "qlora" else []


def more_replay(prepared: PreparedWith) -> list[Changes]:
    """More examples of general instructions, where a source has them."""
    if not prepared.has_replay:
        return []
    shares = [share for share in USUAL_REPLAY if share > prepared.replay_share]
    if not shares and prepared.replay_share < MOST_REPLAY:
        shares = [float(plain(min(2 * prepared.replay_share, MOST_REPLAY)))]
    found: list[Changes] = [{"split.replay_share": share} for share in shares]
    return found
