"""Stage `merge`: approved adapter, base -> data/merge (model, parity.json, approval.json of the merged model).

An adapter that was trained on the 4-bit base is merged into the dequantised 4-bit weights: merging into the original
16-bit weights drifts hundreds of times further (peft issue 2321). The result must answer as base plus adapter does.
What `full` trained is the model already; what adds inputs instead of changing weights (prefix tuning) cannot be merged.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tasks import paths
from tasks.approvals import Approval, require_approval, write_approval
from tasks.digests import digest_path, digest_text
from tasks.entry import run_stage
from tasks.errors import MergeRefused
from tasks.files import need_disk, read_json, whole, write_json
from tasks.models import (
    attach_adapter,
    base_folder,
    is_whole_model,
    load_base,
    load_candidate,
    load_plain,
    load_tokenizer,
    read_chat_template,
    resolve_dtype,
    set_threads,
)
from tasks.params import MergeParams, load_params
from tasks.params_train import QuantizationParams
from tasks.records import BaseRecord, Example, Parity, SupervisionAudit
from tasks.tables import read_examples

DISK_FACTOR = 1.2
MERGEABLE = {"LORA", "PEANUT", "IA3"}


def is_mergeable(trained: Path) -> bool:
    """Whether what training wrote can be one model with the base."""
    if is_whole_model(trained):
        return True
    config = json.loads((trained / "adapter_config.json").read_text(encoding="utf-8"))
    return config["peft_type"] in MERGEABLE


def merge_weights(
    base: Path, adapter: Path, quantization: QuantizationParams | None, dtype: torch.dtype
) -> PreTrainedModel:
    """The base, dequantised, with the adapter folded in (LoRA: W + (alpha/r)·B·A) in float32, then cast to `dtype`.

    Raises:
        MergeRefused: the adapter changes no weights, so there is nothing to fold in.
    """
    if is_whole_model(adapter):
        return load_plain(adapter, dtype)
    if not is_mergeable(adapter):
        raise MergeRefused(
            f"{adapter}: what this method learned cannot be merged into weights; take train.method lora or qlora, or "
            "adapter with peft_type PEANUT or IA3, to release a merged model"
        )
    model = load_base(base, quantization, torch.float32)
    attached = attach_adapter(model if quantization is None else model.dequantize().float(), adapter)
    merged: PreTrainedModel = attached.merge_and_unload(safe_merge=True)
    return merged.to(dtype)


def write_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """A folder that `AutoModelForCausalLM.from_pretrained` loads; its config keeps no trace of the quantisation."""
    with whole(folder) as partial:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        config = json.loads((partial / "config.json").read_text(encoding="utf-8"))
        config.pop("quantization_config", None)
        config.pop("_name_or_path", None)
        (partial / "config.json").write_text(json.dumps(config, sort_keys=True, indent=2) + "\n", encoding="utf-8")


@dataclass
class Drift:
    """Running sums of the difference between two models over answer positions."""

    positions: int = 0
    kl: float = 0.0
    max_kl: float = 0.0
    agreed: int = 0
    difference: float = 0.0
    max_difference: float = 0.0

    def add(self, reference: torch.Tensor, merged: torch.Tensor) -> None:
        """Add one example's logits, each of shape (positions, vocabulary), in float32."""
        expected, found = reference.log_softmax(-1), merged.log_softmax(-1)
        kl = (expected.exp() * (expected - found)).sum(-1)
        gap = (reference - merged).abs()
        self.positions += len(kl)
        self.kl += kl.sum().item()
        self.max_kl = max(self.max_kl, kl.max().item())
        self.agreed += int((reference.argmax(-1) == merged.argmax(-1)).sum())
        self.difference += gap.mean(-1).sum().item()
        self.max_difference = max(self.max_difference, gap.max().item())


@torch.no_grad()
def answer_logits(model: torch.nn.Module, ids: torch.Tensor, prompt_tokens: int) -> torch.Tensor:
    """Logits that predict the answer's tokens, shape (answer tokens, vocabulary), float32 on the CPU."""
    logits: torch.Tensor = model(input_ids=ids.to(next(model.parameters()).device), use_cache=False).logits[0]
    return logits[prompt_tokens - 1 : -1].float().cpu()


def tokenize(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[torch.Tensor, int]:
    """The ids of a whole conversation, shape (1, tokens), and how many of them are the prompt's."""
    messages = [message.for_template() for message in example.messages]
    tools = None if example.tools is None else json.loads(example.tools)
    prompt = tokenizer.apply_chat_template(messages[:-1], tools=tools, add_generation_prompt=True, tokenize=False)
    text = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    return ids, len(tokenizer(prompt, add_special_tokens=False)["input_ids"])


def measure_drift(
    reference: torch.nn.Module, merged: torch.nn.Module, examples: list[Example], tokenizer: PreTrainedTokenizerBase
) -> Drift:
    """Both models on the same held-out conversations, answer position by answer position."""
    drift, started = Drift(), time.monotonic()
    for count, example in enumerate(examples, start=1):
        ids, prompt_tokens = tokenize(example, tokenizer)
        drift.add(answer_logits(reference, ids, prompt_tokens), answer_logits(merged, ids, prompt_tokens))
        if count % 10 == 0:
            rate = count / (time.monotonic() - started)
            left = (len(examples) - count) / rate
            print(f"merge: parity {count}/{len(examples)} prompts  {rate:.1f}/s  {left:.0f} s left", flush=True)
    return drift


def judge_parity(drift: Drift, params: MergeParams, prompts: int, merged_digest: str) -> Parity:
    """The parity report: passes within params.max_mean_kl and params.min_top1_agreement."""
    mean_kl, agreement = drift.kl / drift.positions, drift.agreed / drift.positions
    return Parity(
        prompts=prompts,
        positions=drift.positions,
        mean_kl=mean_kl,
        max_kl=drift.max_kl,
        top1_agreement=agreement,
        mean_abs_logit_difference=drift.difference / drift.positions,
        max_abs_logit_difference=drift.max_difference,
        passed=mean_kl <= params.max_mean_kl and agreement >= params.min_top1_agreement,
        merged_digest=merged_digest,
    )


def require_template(folder: Path, trained_digest: str) -> None:
    """The model that ships renders conversations as training did.

    Raises:
        MergeRefused: its chat template is another one.
    """
    found = digest_text(read_chat_template(folder))
    if found != trained_digest:
        raise MergeRefused(
            f"{folder}: chat template {found[:12]}, trained with {trained_digest[:12]}; run `dvc repro train` again"
        )


def main() -> None:
    """Merge the approved adapter, measure the merged files against it, approve them or refuse."""
    params = load_params()
    require_approval(paths.ADAPTER_APPROVAL, paths.ADAPTER, "see data/gate/verdict.json")
    base = base_folder(read_json(paths.BASE_RECORD, BaseRecord))
    need_disk(paths.MERGE, int(DISK_FACTOR * sum(path.stat().st_size for path in base.glob("*.safetensors"))))
    set_threads(params.compute)
    tokenizer, dtype = load_tokenizer(base), getattr(torch, params.merge.dtype)
    write_model(merge_weights(base, paths.ADAPTER, params.quantization, dtype), tokenizer, paths.MERGED_MODEL)
    require_template(paths.MERGED_MODEL, read_json(paths.SUPERVISION, SupervisionAudit).template_digest)
    print(f"merge: wrote {paths.MERGED_MODEL}", flush=True)
    examples = read_examples(paths.TEST_EXAMPLES)[: params.merge.parity_prompts]
    compute = resolve_dtype(params.compute.dtype)
    reference = load_candidate(base, paths.ADAPTER, params.quantization, compute)
    drift = measure_drift(reference, load_plain(paths.MERGED_MODEL, compute).eval(), examples, tokenizer)
    parity = judge_parity(drift, params.merge, len(examples), digest_path(paths.MERGED_MODEL))
    write_json(paths.PARITY, parity)
    approval = Approval(
        subject="merged_model",
        digest=parity.merged_digest,
        evidence={"parity": digest_path(paths.PARITY), "adapter": digest_path(paths.ADAPTER)},
        approved_by="merge",
        decision="approved" if parity.passed else "refused",
    )
    write_approval(paths.MERGED_APPROVAL, approval)
    found = (
        f"mean KL {parity.mean_kl:.2g}, top-1 agreement {parity.top1_agreement:.1%} over {parity.positions} positions"
    )
    if not parity.passed:
        raise MergeRefused(
            f"the merged model does not answer as base plus adapter: {found}; at most {params.merge.max_mean_kl} and "
            f"at least {params.merge.min_top1_agreement:.0%} are allowed; try merge.dtype float32"
        )
    print(f"merge: {found}; approved {parity.merged_digest[:12]}", flush=True)


if __name__ == "__main__":
    run_stage(main)
