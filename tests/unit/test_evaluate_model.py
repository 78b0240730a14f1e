"""Sharing contexts must not change an answer: lm-eval's own code is the reference."""

from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from tasks.evaluate_model import HarnessModel, in_batches
from tests.unit.tiny_model import make_model, make_tokenizer

PAIRS = [
    ("route this ticket", " billing"),
    ("please repair this", " ticket please route"),
    ("route this ticket", " repair this ticket please"),
    ("user", " billing"),
    ("user", " repair"),
    ("route this ticket please user", " billing repair"),
    ("please repair this", " billing"),
    ("route this ticket please user", " repair"),
    ("", " repair this"),
]


def harness(kind: type[HFLM], *, batch_size: int = 64, max_length: int = 32) -> HFLM:
    model = make_model().eval()
    return kind(pretrained=model, tokenizer=make_tokenizer(), batch_size=batch_size, max_length=max_length)


def requests(pairs: list[tuple[str, str]]) -> list[Instance]:
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_answers_are_those_of_lm_eval(batch_size: int) -> None:
    ours = harness(HarnessModel, batch_size=batch_size).loglikelihood(requests(PAIRS))
    theirs = harness(HFLM).loglikelihood(requests(PAIRS))
    assert [answer[0] for answer in ours] == pytest.approx([answer[0] for answer in theirs], abs=1e-5)
    assert [answer[1] for answer in ours] == [answer[1] for answer in theirs]


def test_greedy_continuations_are_recognised() -> None:
    reference, pairs = harness(HFLM), [("route this ticket", f" {word}") for word in ("billing", "repair", "please")]
    text = reference.tokenizer.decode(
        reference.model.generate(**reference.tokenizer("route this ticket", return_tensors="pt"), max_new_tokens=1)[0][
            -1:
        ]
    )
    answers = harness(HarnessModel).loglikelihood(requests([*pairs, ("route this ticket", f" {text}")]))
    assert answers[-1][1]


def test_a_shared_context_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = harness(HarnessModel), list[int]()
    forward = model.model.forward

    def counted(**named: Any) -> Any:
        rows.append(named["input_ids"].numel())
        return forward(**named)

    monkeypatch.setattr(model.model, "forward", counted)
    model.loglikelihood(requests([("route this ticket please", f" {word}") for word in ("billing", "repair", "user")]))
    assert rows == [3, 3]


def test_what_is_too_long_is_left_to_lm_eval() -> None:
    pairs = [("route this ticket please", " billing repair"), ("route this ticket please", " repair billing")]
    ours = harness(HarnessModel, max_length=4).loglikelihood(requests(pairs))
    theirs = harness(HFLM, max_length=4).loglikelihood(requests(pairs))
    assert ours == theirs


def test_a_model_that_forgets_old_tokens_is_left_to_lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    model = harness(HarnessModel)
    monkeypatch.setattr(model.model.config, "sliding_window", 2, raising=False)
    monkeypatch.setattr(HarnessModel, "_answer_groups", lambda *_: pytest.fail("continued from a cut cache"))
    model.loglikelihood(requests([("route this ticket please", " billing"), ("route this ticket please", " repair")]))


def test_a_batch_holds_no_more_requests_than_asked() -> None:
    groups = [[(0, None)] * size for size in (2, 3, 1, 5, 9)]
    assert [[len(group) for group in batch] for batch in in_batches(groups, 5)] == [[2, 3], [1], [5], [9]]  # type: ignore[arg-type]


def ending_of(model: HFLM, **settings: object) -> tuple[str, object]:
    """What a model answers, and how it says that the answer ended."""
    wanted = {"until": ["nothing"], "max_gen_toks": 4, "do_sample": False} | settings
    (answer,) = model.generate_until([Instance("generate_until", {}, ("route this ticket", wanted), 0)])
    return answer, model.endings.get("route this ticket")


def test_how_a_generated_answer_ended_is_told() -> None:
    model = harness(HarnessModel)
    whole, ending = ending_of(model)
    assert (whole.split(), ending) == (["this", "route"], "stopped")  # the second is the model's own stop token
    assert ending_of(model, max_gen_toks=2)[1] == "stopped"
    assert ending_of(model, max_gen_toks=1)[1] == "limit"
    assert ending_of(model, max_gen_toks=1, until=["this"])[1] == "stopped"
    assert ending_of(model, num_beams=2)[1] is None  # transformers' own decoding does not tell
