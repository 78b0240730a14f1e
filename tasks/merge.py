"""Stage `merge`: approved adapter, base -> data/merge (model, parity.json, approval.json of the merged model).

An adapter that was trained on the 4-bit base can go into two sets of weights: those that the 4-bit ones stand for,
which it was trained on, and the base's original ones, which drift further as a rule (peft issue 2321). Both are merged
and measured against base plus adapter, and the closer one ships. What `full` trained is the model already; what adds
inputs instead of changing weights (prefix tuning) cannot be merged.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.approvals import Approval, require_approval, write_approval
from tasks.digests import digest_path, digest_text
from tasks.entry import run_stage
from tasks.errors import MergeRefused
from tasks.files import read_json, whole, write_json
from tasks.merge_model import Merge, write_merged
from tasks.merge_work import build_key, link, work_folder
from tasks.models import (
    base_folder,
    device,
    give_back_memory,
    is_whole_model,
    load_candidate,
    load_plain,
    load_tokenizer,
    read_chat_template,
    resolve_dtype,
    set_threads,
)
from tasks.params import Params, load_params
from tasks.params_train import QuantizationParams
from tasks.parity import build_prompts, choose, judge, measure_drift, measure_reference
from tasks.records import BaseRecord, CandidateParity, Example, MergedFrom, Parity, SupervisionAudit
from tasks.serving import measure_serving, tell_serving
from tasks.tables import read_examples


def candidates_of(
    trained: Path, quantization: QuantizationParams | None
) -> dict[MergedFrom, QuantizationParams | None]:
    """What can be merged: for each candidate the quantisation of the weights that it is merged from.

    Of two candidates that measure alike the first is chosen: the weights that the adapter was trained on.
    """
    if is_whole_model(trained):
        return {"trained": None}
    return {"original": None} if quantization is None else {"dequantized": quantization, "original": None}


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


def merge_key(base: BaseRecord, params: Params) -> str:
    """The key of a merge: everything that changes a merged byte."""
    quantization = params.quantization
    inputs = {
        "base": base.digest,
        "trained": digest_path(paths.ADAPTER),
        "dtype": params.merge.dtype,
        "quantization": "none" if quantization is None else quantization.model_dump_json(),
    }
    return build_key(inputs)


def measure(
    base: Path, merged: dict[MergedFrom, Path], examples: Sequence[Example], params: Params, scratch: Path
) -> list[CandidateParity]:
    """The parity of every candidate, and what answering costs before and after; one model at a time is in memory."""
    tokenizer, compute = load_tokenizer(base), resolve_dtype(params.compute.dtype)
    prompts = build_prompts(examples, tokenizer)
    model: Any = load_candidate(base, paths.ADAPTER, params.quantization, compute)
    reference = measure_reference(model, prompts, {tokenizer.eos_token_id}, scratch)
    served = []
    if not is_whole_model(paths.ADAPTER):
        served.append(measure_serving("base plus adapter", model, prompts[0]))
        model = model.unload()
        served.insert(0, measure_serving("base", model, prompts[0]))
    found = []
    for name, folder in merged.items():
        del model
        give_back_memory()
        model = load_plain(folder, compute).eval()
        drift = measure_drift(model, reference, name)
        found.append(judge(drift, name, params.merge, digest_path(folder)))
        served.append(measure_serving(f"merged, {name}", model, prompts[0]))
        print(f"merge: {name}: {describe(found[-1])}", flush=True)
    tell_serving(served, device().type)
    return found


def describe(parity: CandidateParity) -> str:
    """The figures of a candidate in one line."""
    parts_at = "" if parity.first_divergence is None else f", the first parts at token {parity.first_divergence}"
    return (
        f"mean KL {parity.mean_kl:.2g}, at most {parity.max_kl:.2g}, top-1 agreement {parity.top1_agreement:.1%} over "
        f"{parity.positions} positions, {parity.greedy_texts_equal} of {parity.greedy_texts} greedy texts the same"
        f"{parts_at}"
    )


def build_parity(chosen: CandidateParity, candidates: Sequence[CandidateParity], prompts: int) -> Parity:
    """The parity report: the chosen candidate's figures, and those of all."""
    shared = chosen.model_dump(exclude={"greedy_texts", "greedy_texts_equal", "first_divergence"})
    return Parity(prompts=prompts, candidates=tuple(candidates), **shared)


def write_outputs(parity: Parity, model: Path) -> None:
    """The chosen model, the report, and the approval of exactly its bytes, or a refusal."""
    with whole(paths.MERGED_MODEL) as partial:
        link(model, partial)
    write_json(paths.PARITY, parity)
    approval = Approval(
        subject="merged_model",
        digest=parity.merged_digest,
        evidence={"parity": digest_path(paths.PARITY), "adapter": digest_path(paths.ADAPTER)},
        approved_by="merge",
        decision="approved" if parity.passed else "refused",
    )
    write_approval(paths.MERGED_APPROVAL, approval)


def main() -> None:
    """Merge the approved adapter, measure every candidate against it, approve the closest one or refuse."""
    params = load_params()
    require_approval(paths.ADAPTER_APPROVAL, paths.ADAPTER, "see data/gate/verdict.json")
    record = read_json(paths.BASE_RECORD, BaseRecord)
    base = base_folder(record)
    require_template(base, read_json(paths.SUPERVISION, SupervisionAudit).template_digest)
    set_threads(params.compute)
    examples = read_examples(paths.TEST_EXAMPLES)[: params.merge.parity_prompts]
    tokenizer = load_tokenizer(base)
    with work_folder(merge_key(record, params)) as work:
        merged: dict[MergedFrom, Path] = {}
        for name, quantization in candidates_of(paths.ADAPTER, params.quantization).items():
            merged[name] = work / name
            merge = Merge(base, paths.ADAPTER, quantization, params.merge, tokenizer)
            write_merged(merge, merged[name], work / "receipts" / name, name)
        measured = measure(base, merged, examples, params, work / "reference")
        chosen = choose(measured)
        parity = build_parity(chosen, measured, len(examples))
        write_outputs(parity, merged[chosen.merged_from])
    found = (
        f"mean KL {parity.mean_kl:.2g}, top-1 agreement {parity.top1_agreement:.1%} over {parity.positions} positions"
    )
    if not parity.passed:
        raise MergeRefused(
            f"the merged model does not answer as base plus adapter: {found}; at most {params.merge.max_mean_kl} and "
            f"at least {params.merge.min_top1_agreement:.0%} are allowed; try merge.dtype float32"
        )
    print(f"merge: {parity.merged_from} weights: {found}; approved {parity.merged_digest[:12]}", flush=True)


if __name__ == "__main__":
    run_stage(main)
