"""A made-up run: a plausible record and the files that its stages would have left, for tests and for looking at pages.

Nothing here was measured. `python -m tests.flows.fake_run FOLDER` writes four pages to FOLDER.
"""

import math
import sys
from pathlib import Path

from flows.reporting import write_report
from flows.run_record import ReleaseRecord, RunRecord, ScoreLine, StageRecord
from tasks import paths
from tasks.approvals import Approval
from tasks.digests import digest_text
from tasks.files import write_json, write_jsonl, write_text
from tasks.findings import Finding
from tasks.records import (
    CandidateParity,
    Champion,
    Conflict,
    ContaminatedItems,
    DataProfile,
    DataSummary,
    ExpectationResult,
    LedgerEntry,
    MergedFrom,
    Pace,
    Parity,
    Sample,
    ServedModel,
    Serving,
    SupervisedExample,
    SupervisionAudit,
    SupervisionCheck,
    TrainingPoint,
    TrainMetrics,
    Validation,
)
from tasks.tables import write_records
from tasks.verdict_records import Comparison, RuleResult, Verdict

STAGES = (
    "base", "ingest", "clean", "dedup", "benchmark_items", "split", "validate", "evaluate_base", "train",
    "evaluate_candidate", "gate", "merge",
)  # fmt: skip
SECONDS = (0.4, 2.1, 3.3, 4.8, 1.2, 2.9, 6.2, 48.0, 171.4, 51.7, 2.2, 19.5)
PARAMS = {
    "base_model": {"name": "HuggingFaceTB/SmolLM2-135M-Instruct", "dtype": "bfloat16"},
    "sources": [
        {"name": "support_tickets", "role": "train", "path": "data/sources/support_tickets.jsonl"},
        {"name": "general_instructions", "role": "replay", "path": "data/sources/general_instructions.jsonl"},
    ],
    "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "bias": "none"},
    "train": {"method": "qlora", "num_train_epochs": 1.0, "learning_rate": 5e-4, "max_length": 256, "seed": 1},
    "evaluate": {"batch_size": 32, "limit": None, "apply_chat_template": True, "seed": 1},
    "gate": {"confidence": 0.95, "resamples": 2000, "seed": 1},
}
TICKETS = (
    "My parcel has been sitting in the same depot for nine days and the tracking page has not moved.",
    "I was charged twice for the annual plan, once on the 3rd and once on the 4th. Please refund one of them.",
    "The app closes by itself as soon as I open the camera, since the update last night.",
    "Please delete everything that you hold about me and confirm it in writing.",
    "Do you offer a discount for schools? We would need about forty licences.",
    "The drum of the washing machine screams during the spin cycle; it is 14 months old.",
    "I cannot log in any more: the reset mail never arrives, not even in the spam folder.",
    "The jacket is too small, I would like to swap it for an L before Friday.",
)
QUEUES = ("shipping", "billing", "technical", "privacy", "sales", "repair", "account", "returns")


FINDINGS = (
    Finding(
        mode="noisy_data",
        evidence={"benchmark": "ticket_routing", "validation_loss": 0.292},
        sentence="ticket_routing does not follow",
        mitigation="look for wrong labels in the sources",
    ),
    Finding(
        mode="overfitting",
        evidence={"best_eval_loss": 0.292, "last_eval_loss": 0.401},
        sentence="the validation loss rose from 0.292 to 0.401",
        mitigation="lower lora.r (now 16) or raise lora.lora_dropout (now 0)",
        changes=({"lora.r": 8, "lora.lora_alpha": 16}, {"lora.lora_dropout": 0.05}),
    ),
)
FAKE_PACE = Pace(steps=104, seconds=152.4, examples_per_second=5.61, tokens_per_second=367.2, memory_gb=1.93)
FAKE_SERVING = Serving(
    device="cpu",
    models=(
        ServedModel(name="base", ms_per_token=51.5, memory_gb=0.54),
        ServedModel(name="base plus adapter", ms_per_token=63.2, memory_gb=0.56),
        ServedModel(name="merged, dequantized", ms_per_token=51.7, memory_gb=0.54),
    ),
)


def fake_digest(name: str) -> str:
    return digest_text(name)


def fake_stages(ended: int, outcome: str = "executed", message: str = "") -> tuple[StageRecord, ...]:
    """The stages of the line: `ended` of them succeeded, the next one has `outcome`, the rest did not run."""
    stages = []
    for place, (name, seconds) in enumerate(zip(STAGES, SECONDS, strict=True)):
        done, last = place < ended, place == ended and outcome != "executed"
        codes = {"refused": 3, "failed": 1}
        stages.append(
            StageRecord.model_validate(
                {
                    "name": name,
                    "outcome": ("restored" if place < 2 else "executed") if done else outcome if last else "not_run",
                    "seconds": seconds if done or last else 0.0,
                    "exit_code": 0 if done else codes.get(outcome) if last else None,
                    "output_digests": {f"data/{name.replace('_', '/')}": fake_digest(name)} if done else {},
                    "message": message if last else "",
                    "pace": FAKE_PACE if done and name == "train" else None,
                    "serving": FAKE_SERVING if done and name == "merge" else None,
                }
            )
        )
    return tuple(stages)


def fake_verdict(*, passed: bool) -> Verdict:
    found = 0.708 if passed else 0.271
    gain = 0.613 if passed else 0.178
    rules = (
        ("ticket_routing", "exact_match", "min_value", 0.4, found),
        ("ticket_routing", "exact_match", "min_gain_over_base", 0.3, gain),
        ("ticket_routing", "exact_match", "max_loss_from_champion", 0.03, -0.024 if passed else 0.413),
        ("general_knowledge", "acc", "max_loss_from_base", 0.03, 0.0125),
        ("general_knowledge", "acc", "max_loss_from_champion", 0.05, 0.0),
    )
    results = tuple(_rule(*rule) for rule in rules)
    move = 0.679 if passed else 0.242
    return Verdict(
        verdict="passed" if passed else "refused",
        adapter_digest=fake_digest("adapter"),
        confidence=0.95,
        results=results,
        comparisons={
            "ticket_routing exact_match": (
                Comparison(other="base", difference=move, low=gain, high=move + 0.06, wins=166, losses=3),
                Comparison(other="champion", difference=found - 0.684, low=-0.021, high=0.067, wins=21, losses=15),
            ),
            "general_knowledge acc": (
                Comparison(other="base", difference=-0.0125, low=-0.05, high=0.025, wins=6, losses=8),
            ),
        },
        failures=tuple(f"{item.benchmark} {item.metric}: {item.reason}" for item in results if not item.passed),
        diagnosis=() if passed else FINDINGS,
    )


def _rule(benchmark: str, metric: str, condition: str, threshold: float, found: float) -> RuleResult:
    passed = found >= threshold if condition.startswith("min") else found <= threshold
    words = (
        f"{100 * found:.1f} % found where {100 * threshold:.1f} % are {'asked' if 'min' in condition else 'allowed'}"
    )
    return RuleResult(
        benchmark=benchmark, metric=metric, condition=condition, threshold=threshold, found=found,
        outcome="passed" if passed else "refused", low=found - 0.05, high=found + 0.05, items=240, p_holds=0.01,
        reason=words,
    )  # fmt: skip


def fake_scores(candidate: float) -> tuple[ScoreLine, ...]:
    values = {
        ("ticket_routing", "exact_match", 240): {"base": 0.029, "candidate": candidate, "champion": 0.684},
        ("general_knowledge", "acc", 160): {"base": 0.475, "candidate": 0.4625, "champion": 0.4625},
    }
    lines = []
    for (benchmark, metric, samples), models in values.items():
        for model, value in models.items():
            half = 1.96 * math.sqrt(value * (1 - value) / samples)
            lines.append(
                ScoreLine.model_validate(
                    {
                        "benchmark": benchmark, "metric": metric, "model": model, "value": value,
                        "low": max(0.0, value - half), "high": value + half, "samples": samples,
                    }
                )
            )  # fmt: skip
    return tuple(lines)


def passed_record() -> RunRecord:
    """A run whose adapter passed, was merged, released and promoted."""
    approvals = {
        name: Approval(subject=name, digest=fake_digest(name), evidence={}, approved_by=by, decision="approved")
        for name, by in (("data", "validate"), ("adapter", "gate"), ("merged_model", "merge"))
    }  # type: dict[str, Approval]
    return RunRecord(
        run_id="20261120-081502-3f9c2a",
        status="passed",
        reason="Every rule of the gate holds; the merged model was released and promoted to production.",
        trigger="schedule",
        started_at="2026-11-20T08:15:02Z",
        finished_at="2026-11-20T08:20:41Z",
        base_commit=fake_digest("commit")[:40],
        branch="main",
        snapshot_commit=fake_digest("snapshot")[:40],
        dirty=True,
        changed_files=("params.yaml", "data/sources/support_tickets.jsonl"),
        params_digest=fake_digest("params"),
        params=PARAMS,
        dvc_lock_digest=fake_digest("dvc.lock"),
        stages=fake_stages(len(STAGES)),
        packages={"torch": "2.13.0", "transformers": "5.23.0", "trl": "1.16.0", "peft": "0.21.2", "dvc": "3.67.1"},
        hardware={"cpu": "x86_64, 2 cores", "memory": "7.8 GB", "accelerator": "none"},
        seeds={"dedup": 1, "split": 1, "train": 1, "evaluate": 1, "gate": 1},
        scores=fake_scores(0.708),
        verdict=fake_verdict(passed=True),
        parity=Parity(
            prompts=32, positions=611, mean_kl=0.00174, max_kl=0.0412, top1_agreement=0.9951,
            mean_abs_logit_difference=0.0312, max_abs_logit_difference=0.418, passed=True,
            merged_digest=fake_digest("merged_model"), merged_from="dequantized",
            candidates=(fake_candidate("dequantized", 0.00174), fake_candidate("original", 0.0412)),
        ),
        approvals=approvals,
        release=ReleaseRecord(
            name="support-router", version="v0.3.0", tag="support-router@v0.3.0", target="folder",
            location="registry/support-router/v0.3.0", digest=fake_digest("merged_model"), promoted_stage="production",
        ),
        prefect={"flow_run": "humble-otter", "flow_run_id": "0b6f1a52-6f0c-4c5e-9a34-3d6b8f1c2e77"},
    )  # fmt: skip


def fake_candidate(merged_from: MergedFrom, mean_kl: float) -> CandidateParity:
    """One candidate of a merge; the original weights part from the adapter's texts."""
    is_close = merged_from == "dequantized"
    return CandidateParity(
        merged_from=merged_from, positions=611, mean_kl=mean_kl, max_kl=24 * mean_kl,
        top1_agreement=0.9951 if is_close else 0.96, mean_abs_logit_difference=0.0312, max_abs_logit_difference=0.418,
        greedy_texts=32, greedy_texts_equal=32 if is_close else 17, first_divergence=None if is_close else 5,
        passed=is_close, merged_digest=fake_digest("merged_model" if is_close else merged_from),
    )  # fmt: skip


def refused_record() -> RunRecord:
    """A run whose adapter the gate refused."""
    return passed_record().model_copy(
        update={
            "status": "refused",
            "reason": "The gate refused the adapter: 3 of 5 conditions do not hold. Production is unchanged.",
            "verdict": fake_verdict(passed=False),
            "scores": fake_scores(0.271),
            "stages": fake_stages(STAGES.index("merge")),
            "parity": None,
            "release": None,
            "dirty": False,
            "changed_files": (),
        }
    )


def inconclusive_record() -> RunRecord:
    """A run whose gate could prove neither that the adapter is good nor that it is not."""
    verdict = fake_verdict(passed=True)
    reason = "neither proved nor disproved by 160 items, about 410 would decide"
    undecided = verdict.results[3].model_copy(update={"outcome": "inconclusive", "reason": reason, "items_needed": 410})
    told = f"general_knowledge acc: {reason}"
    changes = {
        "verdict": "inconclusive",
        "results": (*verdict.results[:3], undecided, verdict.results[4]),
        "undecided": (told,),
    }
    return refused_record().model_copy(
        update={
            "status": "inconclusive",
            "reason": told,
            "verdict": verdict.model_copy(update=changes),
            "scores": fake_scores(0.708),
        }
    )


def crashed_record() -> RunRecord:
    """A run that lost its training stage."""
    message = "torch.OutOfMemoryError: tried to allocate 512.00 MiB; 311.00 MiB is free\nkilled after 94 s"
    return passed_record().model_copy(
        update={
            "status": "crashed",
            "reason": "The stage train failed and could not be retried.",
            "trigger": "manual",
            "verdict": None,
            "scores": (),
            "stages": fake_stages(STAGES.index("train"), "failed", message),
            "parity": None,
            "approvals": {},
            "release": None,
        }
    )


def write_workspace(root: Path) -> None:
    """Write the files of a whole run below `root`."""
    for summary in fake_summaries():
        write_json(root / "data" / summary.stage / paths.SUMMARY, summary)
        write_records(root / "data" / summary.stage / paths.LEDGER, fake_ledger(summary), LedgerEntry)
    conflict = Conflict(left="a", right="b", similarity=1.0, left_completion="billing", right_completion="sales")
    write_records(root / paths.DEDUP / paths.CONFLICTS, [conflict], Conflict)
    seen = ContaminatedItems(checked={"general_knowledge": 160, "ticket_routing": 240}, seen_by_base={})
    write_json(root / paths.CONTAMINATED_ITEMS, seen)
    write_json(root / paths.VALIDATION, fake_validation())
    write_json(root / paths.DRIFT, Validation(suite="drift", success=True, results=()))
    write_json(root / paths.DATA_PROFILE, fake_profile(tokens=0.6))
    write_json(root / paths.TRAIN_METRICS, fake_metrics())
    write_jsonl(root / paths.TRAIN_HISTORY, fake_history())
    write_jsonl(root / paths.ROW_LOSSES, [])
    write_text(root / paths.TRAIN_CURVES / "train.json", "[]\n")
    write_json(root / paths.SUPERVISION, fake_supervision())
    write_jsonl(root / paths.EVALUATE_BASE / paths.SAMPLES, fake_samples("base"))
    write_jsonl(root / paths.EVALUATE_CANDIDATE / paths.SAMPLES, fake_samples("candidate"))


def fake_summaries() -> tuple[DataSummary, ...]:
    dirt = {"empty_prompt": 14, "too_short": 22, "truncated": 31, "secret": 3, "special_token": 6, "unknown_label": 18}
    mended = {"unicode_repaired": 41, "email_masked": 63, "card_masked": 17}
    parts = {"train": 827, "validation": 78, "test": 115}
    return (
        _summary("ingest", 1534, {"broken_json": 7, "missing_column": 4}, {}, _by_source(1323, 200)),
        _summary("clean", 1523, dirt, mended, _by_source(1231, 198)),
        _summary("dedup", 1429, {"exact_duplicate": 96, "near_duplicate": 188}, {}, _by_source(947, 198)),
        _summary("split", 1145, {"in_benchmark": 9, "replay_not_needed": 116}, {}, parts),
    )


def fake_ledger(summary: DataSummary) -> list[LedgerEntry]:
    """An entry for every row that the summary counts; of those that stay in the line only `split` says so."""
    fates = [("dropped", rule, count) for rule, count in summary.dropped.items()]
    fates += [("changed", rule, count) for rule, count in summary.changed.items()]
    fates += [("kept", partition, count) for partition, count in summary.kept.items()] * (summary.stage == "split")
    return [
        LedgerEntry.model_validate(
            {
                "id": fake_digest(f"{summary.stage} {rule} {number}")[:16], "source": "support_tickets",
                "file": "data/sources/support_tickets.jsonl", "line": number + 1, "stage": summary.stage,
                "fate": fate, "rule": rule, "value": "",
            }
        )
        for fate, rule, count in fates
        for number in range(count)
    ]  # fmt: skip


def fake_profile(tokens: float) -> DataProfile:
    """A profile with a share of `tokens` between 32 and 64 tokens, the rest above."""
    return DataProfile(
        rows={"train": 827, "validation": 78, "test": 115},
        shares={
            "source": {"support_tickets": 0.91, "general_instructions": 0.09},
            "tokens": {"32": tokens, "64": round(1 - tokens, 3)},
        },
    )


def fake_champion() -> Champion:
    return Champion(release="support-router@v0.2.0", data=fake_profile(tokens=0.45))


def _by_source(tickets: int, general: int) -> dict[str, int]:
    return {"support_tickets": tickets, "general_instructions": general}


def _summary(
    stage: str, rows_in: int, dropped: dict[str, int], changed: dict[str, int], kept: dict[str, int]
) -> DataSummary:
    rows_out = rows_in - sum(dropped.values())
    return DataSummary(stage=stage, rows_in=rows_in, rows_out=rows_out, dropped=dropped, changed=changed, kept=kept)


def fake_validation() -> Validation:
    checks = (
        ("expect_table_row_count_to_be_between", "train", "827 rows, at least 400"),
        ("expect_column_values_to_be_unique", "id", "1,020 values, 0 repeated"),
        ("expect_column_values_to_not_be_null", "completion", "0 of 1,020 are null"),
        ("expect_column_values_to_be_in_set", "partition", "test, train, validation"),
        ("expect_column_max_to_be_between", "prompt_chars", "1,204, at most 1,500"),
    )
    results = tuple(ExpectationResult(expectation=e, subject=s, success=True, observed=o) for e, s, o in checks)
    return Validation(suite="examples", success=True, results=results)


def fake_metrics() -> TrainMetrics:
    return TrainMetrics(
        method="qlora", compute_dtype="bfloat16", device="cpu", threads=2, trainable_weights=4_884_480,
        all_weights=139_399_488, train_examples=827, validation_examples=78, train_tokens=54_120,
        supervised_tokens=14_882, steps=104, final_loss=0.262, eval_loss=0.292, adapter_digest=fake_digest("adapter"),
        best_step=104, best_eval_loss=0.292,
    )  # fmt: skip


def fake_history() -> list[TrainingPoint]:
    points = []
    for step in range(2, 105, 2):
        loss = 0.25 + 3.1 * math.exp(-step / 14) + 0.05 * math.sin(1.7 * step) + 0.03 * math.sin(5.1 * step)
        rate = 5e-4 * (step / 6 if step < 6 else 0.5 * (1 + math.cos(math.pi * (step - 6) / 98)))
        points.append(
            TrainingPoint(
                step=step, epoch=step / 104, loss=round(loss, 4), learning_rate=rate, grad_norm=round(0.4 + loss, 4)
            )
        )
        if step in {40, 80, 104}:
            points.append(
                TrainingPoint(step=step, epoch=step / 104, eval_loss=round(0.29 + 3 * math.exp(-step / 14), 4))
            )
    return points


def fake_supervision() -> SupervisionAudit:
    return SupervisionAudit(
        rows=827, max_length=256, trained_tokens=14_882, fewest_trained_tokens=16, median_trained_tokens=18,
        most_trained_tokens=22, rows_without_trained_tokens=0, rows_without_stop_token=0, stop_token="<|im_end|>",
        generation_stop_tokens=(2,), template_digest=fake_digest("template"), examples=_supervised_examples(),
        checks=(SupervisionCheck(name="every row trains something", passed=True, found="827 of 827"),),
    )  # fmt: skip


def _supervised_examples() -> tuple[SupervisedExample, ...]:
    return tuple(
        SupervisedExample(
            id=f"support_tickets-{fake_digest(text)[:12]}",
            masked_text=(
                f"<|im_start|>system\nRoute the ticket as JSON.<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n"
                "<|im_start|>assistant\n"
            ),
            supervised_text=f'{{"queue": "{queue}", "priority": "normal"}}<|im_end|>\n',
            tokens=58 + len(queue),
            supervised_tokens=17,
        )
        for text, queue in zip(TICKETS[:3], QUEUES, strict=False)
    )


def fake_samples(model: str) -> list[Sample]:
    samples = []
    for item in range(240):
        text, queue = TICKETS[item % len(TICKETS)], QUEUES[item % len(QUEUES)]
        target = f'{{"queue": "{queue}", "priority": "normal"}}'
        right = item % 35 == 0 if model == "base" else item % 24 > 6
        wrong = (
            "I'm sorry to hear that! Could you tell me more?" if model == "base" else target.replace("normal", "low")
        )
        samples.append(
            Sample(
                benchmark="ticket_routing", item=item, prompt=text, target=target, answer=target if right else wrong,
                metrics={"exact_match": float(right)},
            )
        )  # fmt: skip
    for item in range(160):
        right = item % 40 < 19 if model == "base" else (item + item // 40) % 40 < 18
        samples.append(
            Sample(
                benchmark="general_knowledge", item=item, prompt=f"Question {item}: which planet is the largest?",
                target="Jupiter", answer="Jupiter" if right else "Saturn", metrics={"acc": float(right)},
            )
        )  # fmt: skip
    return samples


def main() -> None:
    """Write the pages of the four records to the folder that is named on the command line."""
    folder = Path(sys.argv[1])
    write_workspace(folder / "workspace")
    for record in (passed_record(), refused_record(), inconclusive_record(), crashed_record()):
        write_report(record, folder / "workspace", folder / f"{record.status}.html")


if __name__ == "__main__":
    main()
