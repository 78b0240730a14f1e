"""Stage `gate`: evaluations, champion, adapter, rows, figures -> data/gate (verdict, evidence, adapter's approval).

Always succeeds as a stage: the verdict is data, so that refused runs are locked and recorded too. What it rests on
besides evaluations is written as `evidence.json`, so that it can be recomputed from a run's record.
"""

from typing import Literal

from tasks import paths
from tasks.answer_findings import count_faults
from tasks.approvals import Approval, write_approval
from tasks.contaminated_rows import compare
from tasks.digests import digest_path
from tasks.entry import run_stage
from tasks.files import read_json, read_jsonl, write_json
from tasks.finding_changes import PreparedWith, trained_with
from tasks.gate_evidence import Case, NoEvidence, read_evaluation
from tasks.gate_figures import find_figures
from tasks.label_findings import count_noise, count_swaps
from tasks.params import Params, load_params
from tasks.params_gate import GateParams
from tasks.records import (
    BenchmarkItem,
    Champion,
    Conflict,
    ContaminatedItems,
    DataSummary,
    Sample,
    SupervisionAudit,
    TrainingPoint,
    TrainMetrics,
    Validation,
)
from tasks.tables import read_records
from tasks.verdict import Training, unreadable, whole_verdict
from tasks.verdict_records import GateEvidence, Outcome, Verdict
from tasks.verdict_text import summary_lines

DECISIONS: dict[Outcome, Literal["approved", "refused", "inconclusive"]] = {
    "passed": "approved",
    "refused": "refused",
    "inconclusive": "inconclusive",
}


def gather_evidence(params: Params, metrics: TrainMetrics) -> GateEvidence:
    """What the verdict and its findings rest on besides evaluations, from parameters and outputs of earlier stages.

    `split` has taken the rows out that hold an item of a benchmark; whether none came in after it is counted in the
    files that training read, so that no score rests on what was learned by heart.
    """
    contaminated = read_json(paths.CONTAMINATED_ITEMS, ContaminatedItems)
    samples = list(read_jsonl(paths.EVALUATE_CANDIDATE / paths.SAMPLES, Sample))
    validation = read_json(paths.VALIDATION, Validation)
    return GateEvidence(
        adapter_digest=digest_path(paths.ADAPTER),
        template_digest=read_json(paths.SUPERVISION, SupervisionAudit).template_digest,
        contaminated=contaminated,
        figures=find_figures(paths.ADAPTER, contaminated, metrics, validation, count_contaminated(params)),
        trained_with=trained_with(params.train, params.lora),
        prepared_with=prepared_with(params),
        label_noise=count_noise(
            read_records(paths.DEDUP / paths.CONFLICTS, Conflict),
            read_json(paths.DEDUP / paths.SUMMARY, DataSummary).rows_in,
        ),
        answers=count_faults(samples),
        swapped_labels=count_swaps(samples),
    )


def prepared_with(params: Params) -> PreparedWith:
    """What findings need of the parameters of the data."""
    return PreparedWith(
        replay_share=params.split.replay_share,
        has_replay=any(source.role == "replay" for source in params.sources),
        conflicting_answers=params.dedup.conflicting_answers,
    )


def count_contaminated(params: Params) -> int:
    """The rows of training and validation that hold an item of a benchmark, found as `split` finds them."""
    items = list(read_records(paths.BENCHMARK_ITEMS / paths.ITEMS, BenchmarkItem))
    trained_on = (paths.TRAIN_EXAMPLES, paths.VALIDATION_EXAMPLES)
    return sum(len(compare(path, items, params.split, params.engine).hits) for path in trained_on)


def decide(gate: GateParams, evidence: GateEvidence, metrics: TrainMetrics) -> Verdict:
    """The verdict about the outputs of earlier stages."""
    training = Training(list(read_jsonl(paths.TRAIN_HISTORY, TrainingPoint)), metrics)
    champion = read_json(paths.CHAMPION, Champion)
    try:
        base = read_evaluation(paths.EVALUATE_BASE / paths.EVALUATION)
        candidate = read_evaluation(paths.EVALUATE_CANDIDATE / paths.EVALUATION)
    except NoEvidence as reason:
        return unreadable(gate, evidence, reason)
    return whole_verdict(gate, Case(base, candidate, champion, evidence), training)


def approve(verdict: Verdict) -> Approval:
    """The decision about exactly the adapter that was judged; only a pass is an approval."""
    return Approval(
        subject="adapter",
        digest=verdict.adapter_digest,
        evidence={
            "evaluate_base": digest_path(paths.EVALUATE_BASE / paths.EVALUATION),
            "evaluate_candidate": digest_path(paths.EVALUATE_CANDIDATE / paths.EVALUATION),
        },
        approved_by="gate",
        decision=DECISIONS[verdict.verdict],
    )


def main() -> None:
    """Judge the candidate, write the verdict and the decision about exactly this adapter."""
    params = load_params()
    metrics = read_json(paths.TRAIN_METRICS, TrainMetrics)
    evidence = gather_evidence(params, metrics)
    verdict = decide(params.gate, evidence, metrics)
    write_json(paths.GATE_EVIDENCE, evidence)
    write_json(paths.VERDICT, verdict)
    write_approval(paths.ADAPTER_APPROVAL, approve(verdict))
    print("\n".join(summary_lines(verdict)), flush=True)


if __name__ == "__main__":
    run_stage(main)
