"""What a candidate's generated answers show: a stop token that was not learned, a template that is not the training's.

Counted over the samples that the evaluation keeps. A chosen answer has none of these faults by nature.
"""

import re
from collections.abc import Iterator, Sequence

from tasks.finding_changes import TrainedWith, longer
from tasks.findings import Changes, Finding
from tasks.records import Evaluation, Sample
from tasks.verdict_records import AnswerFaults, RuleResult

LEAST_SHARE, LEAST_ITEMS = 0.05, 3
"""Fewer faulty answers than this may be chance, or what the items ask for."""
MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</s>")
"""Marks of the families of chat templates; decoding leaves some of them out, and of those the role stays, in a line."""
ROLES = frozenset({"system", "user", "assistant", "model"})


def count_faults(samples: Sequence[Sample]) -> tuple[AnswerFaults, ...]:
    """The faults of the generated answers, benchmark by benchmark, in the order of the samples."""
    generated = [sample for sample in samples if sample.ending is not None]
    names = dict.fromkeys(sample.benchmark for sample in generated)
    return tuple(_counted(name, [sample for sample in generated if sample.benchmark == name]) for name in names)


def _counted(benchmark: str, samples: Sequence[Sample]) -> AnswerFaults:
    return AnswerFaults(
        benchmark=benchmark,
        generated=len(samples),
        known_endings=sum(sample.ending != "unknown" for sample in samples),
        at_limit=sum(sample.ending == "limit" for sample in samples),
        goes_on=sum(goes_on(sample) for sample in samples),
        marked=sum(is_marked(sample) for sample in samples),
    )


def goes_on(sample: Sample) -> bool:
    """Whether a wrong answer is the right one with text behind it."""
    target, answer = sample.target.strip(), sample.answer.strip()
    rest = answer.removeprefix(target)
    is_wrong = any(value < 1 for value in sample.metrics.values())
    return is_wrong and bool(target) and answer.startswith(target) and bool(rest) and not rest[0].isalnum()


def is_marked(sample: Sample) -> bool:
    """Whether an answer has marks of a chat template in it that the right answer has not."""
    wanted = set(MARK.findall(sample.target))
    lines = sample.answer.strip().split("\n")
    has_role = len(lines) > 1 and any(line.strip() in ROLES for line in lines)
    return has_role or bool(set(MARK.findall(sample.answer)) - wanted)


def answer_findings(
    faults: Sequence[AnswerFaults], candidate: Evaluation, trained: TrainedWith | None
) -> Iterator[Finding]:
    """The findings of every benchmark with enough faulty answers."""
    for found in faults:
        fingerprint = candidate.fingerprint(found.benchmark)
        is_bare = fingerprint is not None and not fingerprint.chat_template_digest
        templated: list[Changes] = [{"evaluate.apply_chat_template": True}] if is_bare else []
        if _is_fault(found.marked, found.generated):
            yield _marked(found, templated)
        if _is_fault(found.at_limit, found.known_endings) or _is_fault(found.goes_on, found.generated):
            yield _endless(found, templated or ([] if trained is None else longer(trained)))


def _is_fault(faulty: int, items: int) -> bool:
    return faulty >= max(LEAST_ITEMS, LEAST_SHARE * items)


def _marked(found: AnswerFaults, changes: list[Changes]) -> Finding:
    how = (
        "measure with the chat template that it was trained with (evaluate.apply_chat_template)"
        if changes
        else "compare the prompt that `tunegate gate explain` shows with what `train` printed as supervised text; the "
        "template of the benchmark's prompts, or texts in the sources that hold such marks, differ from the training's"
    )
    return Finding(
        mode="template",
        evidence={"benchmark": found.benchmark, "generated": found.generated, "marked": found.marked},
        sentence=f"{found.marked} of {found.generated} generated answers of {found.benchmark} hold marks of a chat "
        "template",
        mitigation=how,
        changes=tuple(changes),
    )


def _endless(found: AnswerFaults, changes: list[Changes]) -> Finding:
    seen = []
    if found.at_limit:
        seen.append(f"{found.at_limit} of {found.known_endings} ran to their greatest length")
    if found.goes_on:
        seen.append(f"{found.goes_on} of {found.generated} begin with the right answer and go on")
    return Finding(
        mode="stop_token",
        evidence={
            "benchmark": found.benchmark,
            "generated": found.generated,
            "known_endings": found.known_endings,
            "at_limit": found.at_limit,
            "goes_on": found.goes_on,
        },
        sentence=f"answers of {found.benchmark} do not stop: {', '.join(seen)}",
        mitigation="train longer, so that the stop token is learned, measure with the chat template of the training, "
        "and see that the benchmark's `until` and `max_gen_toks` let the right answer end",
        changes=tuple(changes),
    )


def other_template(results: Sequence[RuleResult]) -> Iterator[Finding]:
    """That scores were measured under another chat template than that of the training, once for each benchmark."""
    for benchmark in dict.fromkeys(item.benchmark for item in results if item.problem == "other_template"):
        yield Finding(
            mode="template",
            evidence={"benchmark": benchmark},
            sentence=f"{benchmark} was measured with another chat template than the candidate was trained with",
            mitigation="make both again from the same base: `dvc repro train evaluate_candidate`",
        )
