"""The model card: `README.md` of a released model, from the records of the run that made it."""

import json
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from tasks.errors import NotApproved
from tasks.files import write_text
from tasks.intervals import score_interval
from tasks.model_card_text import BEGIN, END, ChatFormat, cell, fenced, merge_card, rendered_prompt
from tasks.records import BaseRecord, DataSummary, Evaluation, Parity, Record, Score, TrainMetrics
from tasks.verdict_records import Verdict

TEMPLATE = "model_card.md.j2"
TAGS = ["tunegate", "lora", "fine-tuned"]


class CardEvidence(Record):
    """Everything that a model card is written from.

    `load_from` is what `from_pretrained` is given: a repository on the Hub, or a folder (then `revision` is None).
    """

    name: str
    version: str
    run: str
    commit: str
    load_from: str
    revision: str | None
    approval_digest: str
    base: BaseRecord
    data: tuple[DataSummary, ...]
    training: TrainMetrics
    base_scores: Evaluation
    candidate_scores: Evaluation
    verdict: Verdict
    parity: Parity
    chat: ChatFormat


class ScoreRow(Record):
    """One metric of one benchmark, base beside candidate, ready to be printed."""

    benchmark: str
    metric: str
    base: str
    candidate: str
    items: int
    better: str
    is_limited: bool


def write_model_card(path: Path, evidence: CardEvidence) -> None:
    """Write the card to `path`; what people wrote there, outside the marked block, is kept.

    Raises:
        NotApproved: the evidence is not that of a model that passed.
    """
    existing = path.read_text(encoding="utf-8") if path.is_file() else ""
    write_text(path, merge_card(existing, model_card(evidence)))


def model_card(evidence: CardEvidence) -> str:
    """The whole text: the Hub's metadata, then the marked block. The same evidence gives the same text.

    Raises:
        NotApproved: the evidence is not that of a model that passed.
    """
    check_evidence(evidence)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell, "fenced": fenced, "literal": _literal}
    body = environment.get_template(TEMPLATE).render(
        e=evidence,
        rows=score_rows(evidence),
        prompt=rendered_prompt(evidence.chat),
        messages=[message.model_dump() for message in evidence.chat.prompt],
        confidence=f"{evidence.verdict.confidence:.0%}",
        comparisons=sorted(evidence.verdict.comparisons.items()),
    )
    return f"---\n{_metadata(evidence).to_yaml()}\n---\n\n{BEGIN}\n{body.strip()}\n{END}\n"


def check_evidence(evidence: CardEvidence) -> None:
    """Refuse to describe one model by the figures of another.

    Raises:
        NotApproved: the verdict or the parity is a refusal, or they are about another adapter than training made.
    """
    if evidence.verdict.verdict != "passed" or not evidence.parity.passed:
        raise NotApproved(f"{evidence.name}: the gate or the merge refused this model; there is nothing to release")
    judged, trained = evidence.verdict.adapter_digest, evidence.training.adapter_digest
    if judged != trained:
        raise NotApproved(
            f"{evidence.name}: the verdict is about adapter {judged[:12]}, training made {trained[:12]}; "
            "run `dvc repro gate` and release again"
        )


def score_rows(evidence: CardEvidence) -> list[ScoreRow]:
    """The candidate's scores in their order, each beside the base's; a base that was not measured shows as a dash."""
    rows = []
    for score in evidence.candidate_scores.scores:
        base = evidence.base_scores.score(score.benchmark, score.metric, score.filter_name)
        fingerprint = evidence.candidate_scores.fingerprint(score.benchmark)
        rows.append(
            ScoreRow(
                benchmark=score.benchmark,
                metric=score.metric if score.filter_name == "none" else f"{score.metric} ({score.filter_name})",
                base=shown(base, evidence.verdict.confidence) if base else "–",
                candidate=shown(score, evidence.verdict.confidence),
                items=score.samples,
                better="higher" if score.higher_is_better else "lower",
                is_limited=fingerprint is not None and fingerprint.limit is not None,
            )
        )
    return rows


def shown(score: Score, confidence: float) -> str:
    """A score with its interval, `0.812 [0.764, 0.851]`; without one where there is no standard error."""
    bounds = score_interval(score, confidence)
    return f"{score.value:.3f}" + (f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else "")


def _metadata(evidence: CardEvidence) -> ModelCardData:
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=score.benchmark,
            dataset_name=score.benchmark,
            dataset_args={"filter": score.filter_name, "items": score.samples},
            metric_type=score.metric,
            metric_value=round(score.value, 6),
        )
        for score in evidence.candidate_scores.scores
    ]
    return ModelCardData(
        base_model=evidence.base.name,
        license=evidence.base.license,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=TAGS,
        model_name=evidence.name,
        eval_results=results,
    )


def _literal(text: str) -> str:
    """`text` as a Python string literal; JSON's rules for strings are a part of Python's."""
    return json.dumps(text, ensure_ascii=False)
