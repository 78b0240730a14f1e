"""A made-up run on record whose verdict is the gate's own, so that it can be explained and replayed."""

import json
from pathlib import Path

from flows import workspace
from flows.record import commit_record
from flows.run_record import RunRecord
from tasks import paths
from tasks.answer_findings import count_faults
from tasks.files import write_json, write_jsonl
from tasks.finding_changes import PreparedWith, trained_with
from tasks.gate_evidence import Case
from tasks.params import load_params
from tasks.records import Champion, ContaminatedItems, Evaluation, Sample, TrainingPoint
from tasks.verdict import Training, whole_verdict
from tasks.verdict_records import GateEvidence, LabelNoise
from tests.flows.fake_run import fake_digest, fake_history, fake_metrics, fake_samples
from tests.flows.tiny_line import ROOT
from tests.unit.evaluations import fingerprint, measured, score


def evaluation_of(model: str, samples: list[Sample]) -> Evaluation:
    metrics = (("ticket_routing", "exact_match"), ("general_knowledge", "acc"))
    scores = [
        score([sample.metrics[metric] for sample in samples if sample.benchmark == name], name, metric)
        for name, metric in metrics
    ]
    prints = [fingerprint(name, chat_template_digest="c") for name, _ in metrics]
    found = measured(model, *scores, fingerprints=prints)
    return found.model_copy(update={"adapter_digest": fake_digest("adapter") if model == "candidate" else None})


def judged_record(root: Path, record: RunRecord, candidate: list[Sample]) -> RunRecord:
    """Put a run on record whose verdict is the gate's own, about these samples."""
    params = load_params(ROOT / "params.yaml")
    gate = params.gate
    place = workspace.open_place(root, record.run_id)
    evidence = GateEvidence(
        adapter_digest=fake_digest("adapter"),
        template_digest="c",
        contaminated=ContaminatedItems(checked={"general_knowledge": 160}, seen_by_base={"general_knowledge": (1, 2)}),
        figures={"contaminated_rows": 0.0, "pii_share": 0.0, "seen_items_share": 0.0125},
        trained_with=trained_with(params.train, params.lora),
        prepared_with=PreparedWith(replay_share=0.08, has_replay=True, conflicting_answers="drop"),
        label_noise=LabelNoise(pairs=2, rows=4, compared=1429, example=("a", "b")),
        answers=count_faults(candidate),
    )
    base = fake_samples("base")
    case = Case(evaluation_of("base", base), evaluation_of("candidate", candidate), Champion(), evidence)
    history: list[TrainingPoint] = list(fake_history())
    verdict = whole_verdict(gate, case, Training(history, fake_metrics()))
    for folder, evaluation, samples in (
        (paths.EVALUATE_BASE, case.base, base),
        (paths.EVALUATE_CANDIDATE, case.candidate, candidate),
    ):
        write_json(place.worktree / folder / paths.EVALUATION, evaluation)
        write_jsonl(place.worktree / folder / paths.SAMPLES, samples)
    write_json(place.worktree / paths.CHAMPION, case.champion)
    write_json(place.worktree / paths.GATE_EVIDENCE, evidence)
    write_json(place.worktree / paths.VERDICT, verdict)
    write_json(place.worktree / paths.TRAIN_METRICS, fake_metrics())
    write_jsonl(place.worktree / paths.TRAIN_HISTORY, history)
    recorded = record.params | {"gate": json.loads(gate.model_dump_json())}
    status = verdict.verdict
    judged = record.model_copy(update={"verdict": verdict, "params": recorded, "status": status, "reason": "judged"})
    commit_record(place, judged)
    workspace.close_place(place)
    return judged


def forgetful() -> list[Sample]:
    """The candidate's samples, with half of its general knowledge lost."""
    return [
        sample.model_copy(update={"metrics": {"acc": 0.0}, "answer": "Saturn"}) if sample.item % 2 else sample
        for sample in fake_samples("base")
        if sample.benchmark == "general_knowledge"
    ] + [sample for sample in fake_samples("candidate") if sample.benchmark == "ticket_routing"]
