"""Every method of training, and what each is checked for, on any base."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tasks.adapters import logits_of, promise, save_trained
from tasks.errors import MergeRefused
from tasks.merge_model import Merge, merge_whole, write_merged
from tasks.models import is_whole_model, load_base, load_candidate, load_plain, load_tokenizer
from tasks.params import Params, load_params
from tasks.records import Example
from tasks.train import Session, prepare, stored_dtype
from tests.contract.imports import ROOT

PARAMS = load_params(ROOT / "params.yaml")
NF4 = PARAMS.quantization.model_dump() if PARAMS.quantization else None
LORA = PARAMS.lora.model_dump() if PARAMS.lora else {}


@dataclass(frozen=True)
class Case:
    """One method: its sections of the parameters, and the parts of weights' names that alone may move."""

    name: str
    method: str
    moves: tuple[str, ...]
    lora: dict[str, Any] | None = None
    adapter: dict[str, Any] | None = None
    train: dict[str, Any] = field(default_factory=dict)
    is_mergeable: bool = True
    needs_cuda: bool = False

    def params(self, **train: Any) -> Params:
        """The parameters of the repository with this method."""
        value = PARAMS.model_dump(by_alias=True)
        value["train"] |= {"method": self.method} | self.train | train
        value["lora"], value["adapter"] = self.lora, self.adapter
        value["quantization"] = NF4 if self.method == "qlora" else None
        return Params.model_validate(value)


A_AND_B = ("lora_A", "lora_B")


def lora(
    name: str, method: str = "lora", moves: tuple[str, ...] = A_AND_B, *, needs_cuda: bool = False, **changed: Any
) -> Case:
    return Case(name, method, moves, lora=LORA | changed, needs_cuda=needs_cuda)


CASES = (
    lora("qlora", "qlora"),
    lora("qlora_dora", "qlora", (*A_AND_B, "lora_magnitude_vector"), use_dora=True),
    lora("qlora_eva", "qlora", init_lora_weights="eva"),
    lora("lora"),
    lora("rslora", use_rslora=True),
    lora("dora", moves=(*A_AND_B, "lora_magnitude_vector"), use_dora=True),
    lora("loraplus", loraplus_lr_ratio=4.0),
    lora("gaussian", init_lora_weights="gaussian"),
    lora("orthogonal", init_lora_weights="orthogonal"),
    lora("pissa", init_lora_weights="pissa"),
    lora("olora", init_lora_weights="olora"),
    lora("loftq", needs_cuda=True, init_lora_weights="loftq"),
    lora("eva", init_lora_weights="eva"),
    lora("attention_qv", target_modules="attention-qv"),
    lora("attention", target_modules="attention"),
    lora("named", target_modules=["down_proj"]),
    Case("full", "full", ("",)),
    Case(
        "prefix_tuning", "adapter", ("prompt_encoder",), is_mergeable=False,
        adapter={"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 8, "prefix_projection": False},
    ),
    Case(
        "adaption_prompt", "adapter", ("adaption_",), is_mergeable=False,
        adapter={"peft_type": "ADAPTION_PROMPT", "adapter_len": 4, "adapter_layers": 2},
    ),
    Case(
        "peanut", "adapter", ("peanut_",),
        adapter={
            "peft_type": "PEANUT", "r": 8, "depth": 0, "act_fn": "relu", "scaling": 1.0, "target_modules": "all-linear",
        },
    ),
    Case(
        "shadow", "adapter", ("shadow_",), is_mergeable=False,
        adapter={
            "peft_type": "SHADOW", "r": 8, "shadow_alpha": 0.1, "shadow_dropout": 0.0, "shadow_num_hidden_layers": 1,
        },
    ),
    Case(
        "ia3", "adapter", ("ia3_",),
        adapter={
            "peft_type": "IA3", "target_modules": ["k_proj", "v_proj", "down_proj"],
            "feedforward_modules": ["down_proj"],
        },
    ),
)  # fmt: skip


def check_method(case: Case, base: Path, examples: list[Example], scratch: Path, **train: Any) -> Session:
    """Train a few steps, and hold the method to what it promises; `prepare` has compared it with the base before."""
    params = case.params(**train)
    session = prepare(params, base, examples, [], scratch)
    trainer, probe = session.trainer, {"input_ids": torch.tensor([[2, 3, 4, 8, 6]])}
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainable = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    session.run()
    moved = {name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved, "nothing moved"
    assert moved <= trainable
    assert [name for name in sorted(trainable) if not any(part in name for part in case.moves)] == []
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert sum(losses[-3:]) < sum(losses[:3]), losses
    check_files(case, params, base, session, probe)
    return session


def check_files(case: Case, params: Params, base: Path, session: Session, probe: dict[str, torch.Tensor]) -> None:
    """What was trained is saved, loads on the plain base with the same answers, and merges into one model of them."""
    folder = base.parent / case.name
    if case.method == "full":  # trained in float32, saved in the base's type: what is compared is what that leaves
        for weight in session.trainer.model.parameters():
            weight.data = weight.data.to(stored_dtype(base)).float()
    trained = logits_of(session.trainer.model, probe)
    save_trained(session.trainer.model, "base", stored_dtype(base), session.start, folder)
    assert not any("pickle" in path.suffix or path.suffix in {".bin", ".pt"} for path in folder.iterdir())
    loaded = load_candidate(base, folder, params.quantization, torch.float32)
    answered = logits_of(loaded, probe)
    untrained = logits_of(load_base(base, params.quantization, torch.float32), probe)
    spread = (untrained.max() - untrained.min()).item()
    allowed = 0.02 * spread if promise(params) == "equal" else 0.1 * spread
    assert (answered - untrained).abs().max() > 0
    assert (answered - trained).abs().max() < allowed
    merged = folder.with_name(f"{case.name}-merged")
    if not case.is_mergeable:
        try:
            write_float32(params, base, folder, merged)
        except MergeRefused:
            return
        raise AssertionError("what cannot be merged was merged")
    write_float32(params, base, folder, merged)
    assert (logits_of(load_plain(merged, torch.float32), probe) - answered).abs().max() < 0.02 * spread
    if not is_whole_model(folder):
        check_against_peft(params, base, folder, merged)


def write_float32(params: Params, base: Path, trained: Path, merged: Path) -> None:
    """Merge in float32, with so little memory that the largest tensors go in slices."""
    largest = max(weight.numel() for weight in load_file(base / "model.safetensors").values())
    changed = params.merge.model_copy(update={"dtype": "float32", "max_memory_gib": 12 * largest / 2**30})
    merge = Merge(base, trained, params.quantization, changed, load_tokenizer(base))
    write_merged(merge, merged, merged.with_name(f"{merged.name}-receipts"), "test")


def check_against_peft(params: Params, base: Path, trained: Path, merged: Path) -> None:
    """The merged files hold what PEFT's own merge of the whole model gives, tensor by tensor."""
    expected = merge_whole(base, trained, params.quantization, torch.float32).state_dict()
    found = load_file(merged / "model.safetensors")
    base_names = set(load_file(base / "model.safetensors"))
    assert set(found) == base_names
    plain = load_file(base / "model.safetensors")
    assert any(not torch.equal(found[name], plain[name].float()) for name in found)
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name].cpu(), rtol=1e-5, atol=1e-6, msg=f"{name} is not PEFT's")


def trained_names(folder: Path) -> set[str]:
    """The names of the tensors in a saved adapter."""
    return set(load_file(folder / "adapter_model.safetensors"))


def config_of(folder: Path) -> dict[str, Any]:
    """The configuration of a saved adapter."""
    value: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return value
