"""What an adapter makes of a tensor of the base: the formulas of PEFT 0.21.2, by slices of rows if they allow it.

PEFT holds the whole model to merge it; here no more than one tensor is there. Where each formula is from stands at its
class, by module and function of the package. All is computed in float32.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft.utils.other import get_pattern_key
from safetensors import safe_open
from transformers.activations import ACT2FN

from tasks.errors import MergeRefused

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KINDS = {"LORA", "IA3", "PEANUT"}
PARTS = re.compile(
    r"base_model\.model\.(?P<module>.+?)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_magnitude_vector"
    r"|lora_embedding_A|lora_embedding_B|ia3_l|peanut_(?:A|B|(?:en|de)coders\.\d+)(?:\.weight)?"
    r"|(?:base_layer\.)?(?:weight|bias))"
)
BEYOND = (
    *("trainable_token_indices", "layer_replication", "target_parameters", "alora_invocation_tokens", "use_qalora"),
    *("velora_config", "monteclora_config", "arrow_config", "kasa_config", "use_bdlora", "ensure_weight_tying"),
)
"""Settings of LoraConfig after which a merge is more than a formula for each tensor, or is none at all."""


@dataclass(frozen=True)
class LowRank:
    """LoRA: W + s·BA, with s = alpha/r, or alpha/√r of rsLoRA (`tuners/lora/layer.py`, `Linear.get_delta_weight`).

    PiSSA, OLoRA, LoftQ, EVA and LoRA+ end in the same two matrices: training writes what they learned as a difference
    from the base as it was. `is_transposed` is of layers that hold W as (in, out), and of embeddings, whose delta is
    (BA)ᵀ·s (`Embedding.get_delta_weight`). With a `magnitude` m it is DoRA: m·(W + s·BA)/‖W + s·BA‖, the norm of each
    output (`tuners/lora/variants.py`, `DoraLinearVariant.merge_safe`).
    """

    down: torch.Tensor
    up: torch.Tensor
    scaling: float
    is_transposed: bool = False
    magnitude: torch.Tensor | None = None

    @property
    def is_rowwise(self) -> bool:
        """Whether a slice of rows needs no other rows."""
        return self.magnitude is None or not self.is_transposed

    def apply(self, weight: torch.Tensor, start: int) -> torch.Tensor:
        """The rows of `weight`, which begin at row `start` of the tensor, with the delta."""
        stop = start + len(weight)
        if self.is_transposed:
            changed = weight.add_((self.up @ self.down[:, start:stop]).T, alpha=self.scaling)
        else:
            changed = weight.addmm_(self.up[start:stop], self.down, alpha=self.scaling)
        if self.magnitude is None:
            return changed
        if self.is_transposed:
            return changed.mul_((self.magnitude / torch.linalg.norm(changed, dim=0))[None, :])
        return changed.mul_((self.magnitude[start:stop] / torch.linalg.norm(changed, dim=1))[:, None])


@dataclass(frozen=True)
class Scaled:
    """(IA)³: W times a vector, of its outputs or, in front of a feed-forward layer, of its inputs.

    `tuners/ia3/layer.py`, `Linear.merge`: a bias is scaled with the outputs and left alone with the inputs. `factors`
    has the shape (rows or 1, columns or 1) of the stored tensor, or (rows,) of a bias.
    """

    factors: torch.Tensor
    is_rowwise: bool = True

    def apply(self, weight: torch.Tensor, start: int) -> torch.Tensor:
        """The rows of `weight`, scaled."""
        part = self.factors if len(self.factors) == 1 else self.factors[start : start + len(weight)]
        return weight.mul_(part)


@dataclass(frozen=True)
class NonLinear:
    """PEANuT: W + s·(B·f(…f(Wᵀ·Aᵀ)))ᵀ, with encoders and decoders in between, each added to what went into it.

    `tuners/peanut/layer.py`, `Linear._compute_delta_weight`.
    """

    down: torch.Tensor
    up: torch.Tensor
    encoders: tuple[torch.Tensor, ...]
    decoders: tuple[torch.Tensor, ...]
    activation: str
    scaling: float
    is_rowwise: bool = False

    def apply(self, weight: torch.Tensor, _start: int) -> torch.Tensor:
        """The whole of `weight` with the delta."""
        act: Callable[[torch.Tensor], torch.Tensor] = ACT2FN[self.activation]
        hidden = act(weight.T @ self.down.T)
        before = []
        for encoder in self.encoders:
            before.append(hidden)
            hidden = act(hidden @ encoder.T)
        for decoder in self.decoders:
            hidden = act(hidden @ decoder.T) + before.pop()
        return weight.add_((hidden @ self.up.T).T, alpha=self.scaling)


@dataclass(frozen=True)
class Added:
    """A bias with the bias of B, times s (`lora_bias`; `tuners/lora/layer.py`, `Linear.merge`)."""

    value: torch.Tensor
    is_rowwise: bool = True

    def apply(self, weight: torch.Tensor, start: int) -> torch.Tensor:
        """The rows with the bias."""
        return weight.add_(self.value[start : start + len(weight)])


@dataclass(frozen=True)
class Replaced:
    """What was trained whole: `modules_to_save`, and the biases of `bias: all` and `lora_only`; read by the slice."""

    file: Path
    name: str
    is_rowwise: bool = True

    def apply(self, weight: torch.Tensor, start: int) -> torch.Tensor:
        """The trained rows."""
        with safe_open(self.file, framework="pt") as file:
            rows: torch.Tensor = file.get_slice(self.name)[start : start + len(weight)]
            return rows.float()


Change = LowRank | Scaled | NonLinear | Added | Replaced


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder: its configuration, and the shapes of its tensors, which are read when they are needed.

    `modules` maps the name of a module to its parts: `lora_A.weight`, `ia3_l`, … to the name of the tensor. `unknown`
    are tensors that no formula here knows.
    """

    folder: Path
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    modules: dict[str, dict[str, str]]
    unknown: tuple[str, ...] = ()

    def read(self, name: str) -> torch.Tensor:
        """One tensor, in float32."""
        with safe_open(self.folder / WEIGHTS, framework="pt") as file:
            value: torch.Tensor = file.get_tensor(name)
            return value.float()

    def scaling(self, module: str, rank: int) -> float:
        """What a module's BA is multiplied with (`tuners/lora/model.py`, `_create_and_replace`)."""
        patterns: dict[str, float] = self.config.get("alpha_pattern") or {}
        alpha = patterns.get(get_pattern_key(list(patterns), module), self.config["lora_alpha"])
        return float(alpha / math.sqrt(rank) if self.config.get("use_rslora") else alpha / rank)


def read_adapter(folder: Path) -> Adapter:
    """The adapter of a folder, its tensors by the module that they belong to; none is read yet."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    shapes: dict[str, tuple[int, ...]] = {}
    modules: dict[str, dict[str, str]] = {}
    unknown = []
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        for name in sorted(file.keys()):
            shapes[name] = tuple(file.get_slice(name).get_shape())
            if (found := PARTS.fullmatch(name)) is None:
                unknown.append(name)
            else:
                part = found["part"].removeprefix("base_layer.")
                modules.setdefault(found["module"], {})[part] = name
    return Adapter(folder, config, shapes, modules, tuple(unknown))


def require_finite(adapter: Adapter) -> None:
    """Look at every number of the adapter before anything is written.

    Raises:
        MergeRefused: one is not finite.
    """
    for name in adapter.shapes:
        if not torch.isfinite(adapter.read(name)).all():
            raise MergeRefused(
                f"{adapter.folder / WEIGHTS}: {name} has numbers that are not finite; the training went wrong: look at "
                "its losses, then run `dvc repro --force --single-item train`"
            )


def why_not_bounded(adapter: Adapter) -> str | None:
    """Why no formula for each tensor says what the adapter does, or None."""
    config = adapter.config
    if config["peft_type"] not in KINDS:
        return f"peft_type {config['peft_type']}"
    for name in BEYOND:
        if config.get(name):
            return name
    if config.get("use_dora") and any("lora_embedding_A" in parts for parts in adapter.modules.values()):
        return "use_dora on an embedding"
    return f"the tensor {adapter.unknown[0]}" if adapter.unknown else None


def changes_of(adapter: Adapter, module: str, kind: str) -> dict[str, Callable[[], Change]]:
    """How to read what the adapter makes of the tensors of one module: `weight`, `bias`, each read when it is called.

    Args:
        adapter: of `read_adapter`.
        module: the name of a module that it has parts for.
        kind: `linear`; `conv1d`, which holds its weight as (in, out); `embedding`; or `other`.
    """
    parts = adapter.modules[module]
    is_transposed = kind in {"conv1d", "embedding"}
    changes: dict[str, Callable[[], Change]] = {}
    for part in ("weight", "bias"):
        if part in parts:
            changes[part] = partial(Replaced, adapter.folder / WEIGHTS, parts[part])
    if "lora_A.weight" in parts or "lora_embedding_A" in parts:
        changes["weight"] = lambda: _low_rank(adapter, module, is_transposed=is_transposed)
    if "lora_B.bias" in parts:
        rank = adapter.shapes[parts["lora_B.weight"]][1]
        changes["bias"] = lambda: Added(adapter.read(parts["lora_B.bias"]) * adapter.scaling(module, rank))
    if "ia3_l" in parts:
        changes["weight"] = lambda: _scaled(adapter.read(parts["ia3_l"]), is_transposed=is_transposed)
        if adapter.shapes[parts["ia3_l"]][1] == 1:
            changes["bias"] = lambda: Scaled(adapter.read(parts["ia3_l"]).flatten())
    if any(part.startswith("peanut_A") for part in parts):
        changes["weight"] = lambda: _non_linear(adapter, module)
    return changes


def _low_rank(adapter: Adapter, module: str, *, is_transposed: bool) -> LowRank:
    parts = adapter.modules[module]
    down, up = (
        (parts["lora_embedding_A"], parts["lora_embedding_B"])
        if "lora_embedding_A" in parts
        else (parts["lora_A.weight"], parts["lora_B.weight"])
    )
    magnitude = parts.get("lora_magnitude_vector")
    return LowRank(
        down=adapter.read(down),
        up=adapter.read(up),
        scaling=adapter.scaling(module, adapter.shapes[down][0]),
        is_transposed=is_transposed,
        magnitude=None if magnitude is None else adapter.read(magnitude).flatten(),
    )


def _scaled(factors: torch.Tensor, *, is_transposed: bool) -> Scaled:
    return Scaled(factors.T if is_transposed else factors)


def _non_linear(adapter: Adapter, module: str) -> NonLinear:
    parts = adapter.modules[module]

    def read(start: str) -> tuple[torch.Tensor, ...]:
        names = sorted((part for part in parts if part.startswith(start)), key=_number)
        return tuple(adapter.read(parts[part]) for part in names)

    return NonLinear(
        down=read("peanut_A")[0],
        up=read("peanut_B")[0],
        encoders=read("peanut_encoders"),
        decoders=read("peanut_decoders"),
        activation=adapter.config["act_fn"],
        scaling=float(adapter.config["scaling"]),
    )


def _number(part: str) -> int:
    return int(re.sub(r"\D", "", part) or 0)
