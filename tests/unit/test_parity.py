"""Parity: what is summed over two models, and which candidate is taken."""

import math
import shutil
from pathlib import Path

import pytest
import torch

from tasks import parity
from tasks.errors import DiskFull
from tasks.params import MergeParams
from tasks.parity import Drift, Reader, build_prompts, choose, judge, measure_drift, measure_reference, tokenize
from tasks.records import CandidateParity
from tests.unit.rows import conversation
from tests.unit.tiny_model import make_model, make_tokenizer

PARAMS = MergeParams(
    dtype="bfloat16", max_memory_gib=None, parity_prompts=1, max_mean_kl=0.1, min_top1_agreement=0.5
)  # fmt: skip
ASKED = [
    conversation("one", ("user", "route this ticket"), ("assistant", "billing")),
    conversation("two", ("user", "please route this ticket please"), ("assistant", "repair this ticket")),
    conversation("three", ("user", "repair"), ("assistant", "billing please")),
]
END = 1


def test_equal_logits_do_not_drift() -> None:
    drift = Drift()
    logits = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    drift.add(logits, logits.clone())
    assert (drift.positions, drift.kl, drift.agreed, drift.max_difference) == (2, 0.0, 2, 0.0)


def test_the_divergence_is_that_of_the_reference_from_the_merged_model() -> None:
    drift = Drift()
    drift.add(torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]]))
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert drift.kl == pytest.approx(expected, abs=1e-6)


def test_a_shift_of_all_logits_is_no_divergence() -> None:
    drift = Drift()
    drift.add(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 5.0]]))
    assert drift.kl == pytest.approx(0, abs=1e-6)
    assert drift.max_difference == 3.0


@pytest.mark.parametrize(
    ("kl", "agreed", "passed"), [(0.2, 2, True), (0.21, 2, False), (0.1, 1, True), (0.1, 0, False)]
)
def test_parity_passes_at_its_limits_and_not_beyond(kl: float, agreed: int, passed: bool) -> None:
    drift = Drift(positions=2, kl=kl, agreed=agreed)
    assert judge(drift, "original", PARAMS, "digest").passed is passed


def test_texts_part_at_the_first_token_that_the_merged_model_would_not_write() -> None:
    drift, text = Drift(positions=1), torch.tensor([2, 3, 4])
    same = torch.nn.functional.one_hot(text, 6).float()
    drift.add_text(text, same)
    drift.add_text(text, torch.nn.functional.one_hot(torch.tensor([2, 5, 5]), 6).float())
    found = judge(drift, "original", PARAMS, "digest")
    assert (found.greedy_texts, found.greedy_texts_equal, found.first_divergence) == (2, 1, 2)


def candidate(merged_from: str, mean_kl: float, *, passed: bool) -> CandidateParity:
    return CandidateParity.model_validate(
        {
            "merged_from": merged_from, "positions": 1, "mean_kl": mean_kl, "max_kl": 1.0, "top1_agreement": 1.0,
            "mean_abs_logit_difference": 0.0, "max_abs_logit_difference": 0.0, "greedy_texts": 1,
            "greedy_texts_equal": 1, "first_divergence": None, "passed": passed, "merged_digest": "d",
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dequantized", "original", "expected"),
    [
        ((0.1, True), (0.2, True), "dequantized"),
        ((0.2, True), (0.1, True), "original"),
        ((0.2, True), (0.1, False), "dequantized"),
        ((0.2, False), (0.1, False), "original"),
        ((0.1, True), (0.1, True), "dequantized"),
    ],
    ids=["the closer one", "the other one", "only one within the limits", "none within them", "alike"],
)
def test_the_candidate_within_the_limits_with_the_least_kl_is_chosen(
    dequantized: tuple[float, bool], original: tuple[float, bool], expected: str
) -> None:
    both = [
        candidate("dequantized", dequantized[0], passed=dequantized[1]),
        candidate("original", original[0], passed=original[1]),
    ]
    assert choose(both).merged_from == expected


def test_prompts_of_any_length_are_read_together_with_the_logits_of_each_alone() -> None:
    model, tokenizer = make_model(hidden_size=64).eval(), make_tokenizer()
    (prompts,) = build_prompts(ASKED, tokenizer)
    together = Reader(model, prompts).logits_before(prompts.answers)
    for example, found in zip(ASKED, together, strict=True):
        prompt, answer = tokenize(example, tokenizer)
        with torch.no_grad():
            alone = model(input_ids=torch.cat([prompt, answer])[None]).logits[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("positions", "sizes"),
    [(9, [3]), (8, [2, 1]), (1, [1, 1, 1])],
)
def test_as_many_prompts_are_read_at_once_as_the_logits_of_their_answers_have_room_for(
    positions: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = make_tokenizer()
    longest = max(len(tokenize(example, tokenizer)[1]) for example in ASKED)
    rows = positions * longest // 3
    monkeypatch.setattr(parity, "LOGIT_BYTES", rows * len(tokenizer) * torch.float32.itemsize)
    assert [len(group.answers) for group in build_prompts(ASKED, tokenizer)] == sizes


def test_long_answers_are_compared_in_parts_with_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, merged = torch.randn(7, 5), torch.randn(7, 5)
    whole = Drift()
    whole.add(reference, merged)
    monkeypatch.setattr(parity, "POSITIONS_AT_ONCE", 3)
    parts = Drift()
    parts.add(reference, merged)
    assert (parts.positions, parts.agreed) == (7, whole.agreed)
    assert (parts.max_kl, parts.max_difference) == (whole.max_kl, whole.max_difference)
    assert parts.kl == pytest.approx(whole.kl, rel=1e-6)


def test_room_for_the_logits_is_looked_for_before_the_first_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = make_model(hidden_size=64).eval(), make_tokenizer()
    prompts = build_prompts(ASKED, tokenizer)
    positions = sum(len(tokenize(example, tokenizer)[1]) for example in ASKED)
    needed = positions * model.config.vocab_size * torch.float32.itemsize
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("tasks.files.shutil.disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(DiskFull):
        measure_reference(model, prompts, {END}, tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("tasks.files.shutil.disk_usage", lambda _: usage._replace(free=needed))
    assert len(measure_reference(model, prompts, {END}, tmp_path).files) == 1


def test_a_greedy_text_is_what_the_model_generates_by_itself() -> None:
    model, tokenizer = make_model(hidden_size=64).eval(), make_tokenizer()
    (prompts,) = build_prompts(ASKED, tokenizer)
    written = Reader(model, prompts).greedy({END}, most=6)
    for example, found in zip(ASKED, written, strict=True):
        prompt, _ = tokenize(example, tokenizer)
        expected = model.generate(prompt[None], max_new_tokens=6, do_sample=False, eos_token_id=END, pad_token_id=0)
        assert found.tolist() == expected[0, len(prompt) :].tolist()


def test_a_greedy_text_ends_with_its_stop_token() -> None:
    model, tokenizer = make_model(hidden_size=64).eval(), make_tokenizer()
    (prompts,) = build_prompts(ASKED[:1], tokenizer)
    free = Reader(model, prompts).greedy(set(), most=6)[0]
    stop = int(free[2])
    expected = free[: free.tolist().index(stop) + 1]
    assert Reader(model, prompts).greedy({stop}, most=6)[0].tolist() == expected.tolist()


def test_a_model_is_at_parity_with_itself_and_not_with_another(tmp_path: Path) -> None:
    model, tokenizer = make_model(hidden_size=64).eval(), make_tokenizer()
    reference = measure_reference(model, build_prompts(ASKED, tokenizer), {END}, tmp_path)
    same = judge(measure_drift(model, reference, "itself"), "original", PARAMS, "d")
    assert same.mean_kl == pytest.approx(0, abs=1e-9)
    assert (same.top1_agreement, same.first_divergence) == (1.0, None)
    with torch.no_grad():
        model.lm_head.weight.copy_(model.lm_head.weight.roll(1, 0))
    other = judge(measure_drift(model, reference, "another"), "original", PARAMS, "d")
    assert other.mean_kl > same.mean_kl
    assert other.top1_agreement < 1
    assert other.greedy_texts_equal < other.greedy_texts == 3
