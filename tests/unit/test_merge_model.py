"""Merging tensor by tensor: the same as PEFT's merge of the whole model, whatever the base and the adapter are."""

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from tasks.digests import file_digests
from tasks.errors import DiskFull, MergeRefused
from tasks.merge_model import merge_whole
from tests.contract.imports import ROOT
from tests.merging import (
    damage,
    gpt2,
    ia3,
    llama,
    lora,
    merge,
    merging,
    weights,
    write_adapter,
    write_base,
)

IDS = torch.tensor([[2, 3, 4, 8, 6]])
SMALL = 1e5 / 2**30
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"
CASES: dict[str, tuple[PreTrainedModel, PeftConfig]] = {
    "lora": (llama(), lora()),
    "alpha by layer": (llama(), lora(alpha_pattern={"layers.1.self_attn.q_proj": 3})),
    "rank by layer, rslora": (llama(), lora(rank_pattern={"down_proj": 2}, use_rslora=True)),
    "dora": (llama(), lora(use_dora=True)),
    "biases of the layers": (llama(has_bias=True), lora(bias="lora_only")),
    "all biases": (llama(has_bias=True), lora(bias="all")),
    "bias of B": (llama(has_bias=True), lora(target_modules=["q_proj"], lora_bias=True)),
    "modules to save": (llama(), lora(modules_to_save=["lm_head", "embed_tokens"])),
    "a norm to save": (llama(), lora(modules_to_save=["norm"])),
    "embedding": (llama(), lora(target_modules=["embed_tokens", "q_proj"])),
    "ia3": (llama(), ia3()),
    "ia3 with a bias": (llama(has_bias=True), ia3()),
    "conv1d": (gpt2(), lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
    "conv1d, dora": (gpt2(), lora(target_modules=["c_attn"], fan_in_fan_out=True, use_dora=True)),
    "conv1d, ia3": (
        gpt2(), ia3(target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True),
    ),
}  # fmt: skip


def make(place: Path, model: PreTrainedModel, config: PeftConfig, **options: Any) -> tuple[Path, Path]:
    """A base and an adapter for it."""
    base = write_base(place / "base", model, **options)
    return base, write_adapter(place / "adapter", copy.deepcopy(model), config)


def adapted_logits(base: Path, adapter: Path) -> torch.Tensor:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=IDS).logits
    return logits


def merged_logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = AutoModelForCausalLM.from_pretrained(folder).eval()(input_ids=IDS).logits
    return logits


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:.*invalid shape")  # PEFT takes the bias of B for a matrix
def test_each_tensor_is_that_of_pefts_own_merge(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.merge_shards.SLICE_BYTES", 10_000)  # of a tensor's 64 rows some 39
    base, adapter = make(tmp_path, *CASES[name])
    merged = merge(merging(base, adapter, max_memory_gib=SMALL * 3), tmp_path)
    expected, plain = merge_whole(base, adapter, None, torch.float32).state_dict(), weights(base)
    found = weights(merged)
    assert set(found) == set(plain)
    assert any(not torch.equal(found[tensor], plain[tensor]) for tensor in found)
    for tensor, weight in found.items():
        torch.testing.assert_close(weight, expected[tensor], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(merged_logits(merged), adapted_logits(base, adapter), rtol=1e-4, atol=1e-4)


def test_the_merged_model_has_the_type_that_is_asked_for(tmp_path: Path) -> None:
    base, adapter = make(tmp_path, llama(), lora())
    merged = merge(merging(base, adapter, dtype="bfloat16"), tmp_path)
    expected = merge_whole(base, adapter, None, torch.float32).to(torch.bfloat16).state_dict()
    for name, weight in weights(merged).items():
        assert weight.dtype == torch.bfloat16
        torch.testing.assert_close(weight, expected[name], rtol=2**-8, atol=0)
    assert json.loads((merged / "config.json").read_text(encoding="utf-8"))["dtype"] == "bfloat16"


def test_a_base_in_shards_becomes_a_model_in_the_same_shards_with_an_index(tmp_path: Path) -> None:
    base, adapter = make(tmp_path, llama(), lora(), max_shard_size="100KB")
    merged = merge(merging(base, adapter), tmp_path)
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(shards) > 2
    assert sorted(path.name for path in merged.glob("*.safetensors")) == shards
    found = json.loads((merged / "model.safetensors.index.json").read_text(encoding="utf-8"))
    theirs = json.loads((base / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert found["weight_map"] == theirs["weight_map"]
    assert found["metadata"]["total_size"] == theirs["metadata"]["total_size"]
    torch.testing.assert_close(merged_logits(merged), adapted_logits(base, adapter), rtol=1e-4, atol=1e-4)


def test_the_files_are_those_of_the_library(tmp_path: Path) -> None:
    base, adapter = make(tmp_path, llama(), lora())
    merged = merge(merging(base, adapter), tmp_path)
    with safe_open(merged / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert sorted(path.name for path in merged.iterdir()) == [
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert json.loads((merged / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"] == 1


def test_embeddings_that_are_tied_stay_so_where_the_adapter_leaves_them_alone(tmp_path: Path) -> None:
    base, adapter = make(tmp_path, llama(is_tied=True), lora())
    merged = merge(merging(base, adapter), tmp_path)
    assert "lm_head.weight" not in weights(merged)
    assert json.loads((merged / "config.json").read_text(encoding="utf-8"))["tie_word_embeddings"] is True
    torch.testing.assert_close(merged_logits(merged), adapted_logits(base, adapter), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "changed",
    [{"modules_to_save": ["lm_head"]}, {"modules_to_save": ["embed_tokens"]}, {"target_modules": ["embed_tokens"]}],
    ids=["head saved", "embedding saved", "embedding adapted"],
)
@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings", "ignore:.*tied")
def test_tied_embeddings_part_where_the_adapter_changes_one_of_them(changed: dict[str, Any], tmp_path: Path) -> None:
    base, adapter = make(tmp_path, llama(is_tied=True), lora(**changed))
    merged = merge(merging(base, adapter), tmp_path)
    found = weights(merged)
    assert not torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])
    assert json.loads((merged / "config.json").read_text(encoding="utf-8"))["tie_word_embeddings"] is False
    torch.testing.assert_close(merged_logits(merged), adapted_logits(base, adapter), rtol=1e-4, atol=1e-4)


def test_a_tensor_that_must_be_there_as_a_whole_and_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    base, adapter = make(tmp_path, gpt2(), lora(target_modules=["c_attn"], fan_in_fan_out=True, use_dora=True))
    with pytest.raises(MergeRefused, match=r"max_memory_gib allows 0.00 GiB, transformer.h.0.attn.c_attn.weight must"):
        merge(merging(base, adapter, max_memory_gib=SMALL), tmp_path)
    assert not list((tmp_path / "merged").glob("*.safetensors"))


def test_an_adapter_of_another_base_is_refused_with_the_tensor_and_both_shapes(tmp_path: Path) -> None:
    base, adapter = make(tmp_path, llama(), lora())
    damage(adapter / "adapter_model.safetensors", f"{Q_PROJ}.lora_A.weight", torch.zeros(4, 48))
    with pytest.raises(MergeRefused, match=r"q_proj.lora_A.weight has the shape 4 x 48.*q_proj.weight of.*64 x 64"):
        merge(merging(base, adapter), tmp_path)


def test_an_adapter_for_a_layer_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    base, adapter = make(tmp_path, llama(), lora())
    name = "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight"
    damage(adapter / "adapter_model.safetensors", name, torch.zeros(4, 64))
    with pytest.raises(MergeRefused, match=r"is for the module model.layers.7.self_attn.q_proj, which the base"):
        merge(merging(base, adapter), tmp_path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_an_adapter_with_a_number_that_is_none_is_refused(number: float, tmp_path: Path) -> None:
    base, adapter = make(tmp_path, llama(), lora())
    damage(adapter / "adapter_model.safetensors", f"{Q_PROJ}.lora_B.weight", torch.full((64, 4), number))
    with pytest.raises(MergeRefused, match=r"0.self_attn.q_proj.lora_B.weight has numbers that are not finite"):
        merge(merging(base, adapter), tmp_path)
    assert not list((tmp_path / "merged").glob("*.safetensors"))


def test_a_weight_that_the_type_cannot_hold_is_refused_by_its_name(tmp_path: Path) -> None:
    base, adapter = make(tmp_path, llama(), lora())
    damage(adapter / "adapter_model.safetensors", f"{Q_PROJ}.lora_B.weight", torch.full((64, 4), 1e7))
    with pytest.raises(MergeRefused, match=r"layers.0.self_attn.q_proj.weight has numbers .* in float16"):
        merge(merging(base, adapter, dtype="float16"), tmp_path)
    assert not list((tmp_path / "merged").glob("*.safetensors"))


def test_what_is_no_formula_for_each_tensor_goes_through_peft_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, adapter = make(tmp_path, llama(), lora(trainable_token_indices=[2, 3]))
    merged = merge(merging(base, adapter), tmp_path)
    assert "by PEFT with the whole model in memory: trainable_token_indices" in capsys.readouterr().out
    torch.testing.assert_close(merged_logits(merged), adapted_logits(base, adapter), rtol=1e-4, atol=1e-4)
    with pytest.raises(MergeRefused, match="PEFT's merge takes about"):
        merge(merging(base, adapter, max_memory_gib=SMALL), tmp_path)


def test_a_base_whose_files_name_their_tensors_otherwise_goes_through_peft(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, adapter = make(tmp_path, llama(), lora())
    found = weights(base)
    save_file(
        {name.removeprefix("model."): weight for name, weight in found.items()},
        base / "model.safetensors",
        metadata={"format": "pt"},
    )
    merged = merge(merging(base, adapter), tmp_path)
    assert "they name their tensors otherwise" in capsys.readouterr().out
    torch.testing.assert_close(merged_logits(merged), adapted_logits(base, adapter), rtol=1e-4, atol=1e-4)


KILLED = """
import os, signal, sys
from pathlib import Path
from tasks.merge_shards import Writer
from tests.merging import merge, merging

write, count = Writer.write_shard, 0
def stop(self, path, entries, rate):
    global count
    count += 1
    if count == 3:
        rows = self.rows_of
        def some(entry):
            yield next(iter(rows(entry)))
            os.kill(os.getpid(), signal.SIGKILL)
        object.__setattr__(self, "rows_of", some)
    return write(self, path, entries, rate)
Writer.write_shard = stop
place = Path(sys.argv[1])
merge(merging(place / "base", place / "adapter"), place)
"""


def test_a_merge_that_was_killed_goes_on_after_its_last_whole_shard_and_ends_in_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, adapter = make(tmp_path, llama(), lora(), max_shard_size="100KB")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = sorted(path.name for path in (tmp_path / "merged").glob("*.safetensors"))
    assert len(left) == 2
    before = {name: (tmp_path / "merged" / name).stat().st_mtime_ns for name in left}
    merged = merge(merging(base, adapter), tmp_path)
    assert capsys.readouterr().out.count("was written before, its digest is right") == 2
    assert {name: (merged / name).stat().st_mtime_ns for name in left} == before
    assert file_digests(merged) == file_digests(merge(merging(base, adapter), tmp_path / "again"))
    assert not list(merged.glob(".*.partial"))


def test_a_shard_that_was_damaged_since_is_found_and_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, adapter = make(tmp_path, llama(), lora(), max_shard_size="100KB")
    merged = merge(merging(base, adapter), tmp_path)
    expected = file_digests(merged)
    shard = sorted(merged.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x7f")
    assert file_digests(merged) != expected
    capsys.readouterr()
    merge(merging(base, adapter), tmp_path)
    said = capsys.readouterr().out
    assert f"{shard.name} has other bytes than were written; it is written again" in said
    assert file_digests(merged) == expected


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, adapter = make(tmp_path, llama(), lora())
    monkeypatch.setattr("tasks.files.shutil.disk_usage", lambda _place: SimpleNamespace(free=32 << 20))
    with pytest.raises(DiskFull, match="34 MB needed"):
        merge(merging(base, adapter), tmp_path)
    assert not list((tmp_path / "merged").glob("*"))


def test_a_disk_that_fills_up_leaves_no_shard_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, adapter = make(tmp_path, llama(), lora(), max_shard_size="100KB")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tasks.merge_shards.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        merge(merging(base, adapter), tmp_path)
    assert not list((tmp_path / "merged").glob("*"))
    assert not list((tmp_path / "merged").glob(".*"))
