"""The model card; its whole text lies beside this file in `test_model_card.md`."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData

from tasks.errors import FileInvalid, NotApproved
from tasks.intervals import score_interval
from tasks.model_card import CardEvidence, model_card, shown, write_model_card
from tasks.model_card_text import ChatFormat, fenced, merge_card, read_chat_format, rendered_prompt
from tasks.records import (
    BaseRecord,
    CandidateParity,
    DataSummary,
    Evaluation,
    Fingerprint,
    MergedFrom,
    Message,
    Parity,
    Score,
    TrainMetrics,
)
from tasks.verdict_records import Comparison, RuleResult, Verdict

SNAPSHOT = Path(__file__).with_suffix(".md")

TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + eos_token + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHAT = ChatFormat(
    template=TEMPLATE,
    special_tokens={"eos_token": "<|im_end|>"},
    prompt=(
        Message(role="system", content="Route the ticket as JSON."),
        Message(role="user", content="My parcel hasn't moved since Monday."),
    ),
    answer='{"queue": "shipping", "priority": "normal"}',
)


def score(benchmark: str, metric: str, hits: int, samples: int) -> Score:
    per_sample = tuple([1.0] * hits + [0.0] * (samples - hits))
    return Score(
        benchmark=benchmark,
        metric=metric,
        filter_name="none",
        value=hits / samples,
        stderr=0.01,
        samples=samples,
        higher_is_better=True,
        per_sample=per_sample,
    )


def evaluation(model: str, routed: int, known: int) -> Evaluation:
    fingerprint = Fingerprint(
        benchmark="ticket_routing",
        harness_version="0.4.13",
        definition_digest="d" * 64,
        num_fewshot=0,
        limit=None,
        chat_template_digest="e" * 64,
        dtype="bfloat16",
        batch_size=32,
        max_length=256,
        seed=1,
    )
    scores = (score("ticket_routing", "exact_match", routed, 200), score("general_knowledge", "acc", known, 150))
    return Evaluation(
        model=model, weights_digest="f" * 64, adapter_digest=None, fingerprints=(fingerprint,), scores=scores
    )


def candidate(merged_from: MergedFrom, first_divergence: int | None) -> CandidateParity:
    is_far = first_divergence is not None
    return CandidateParity(
        merged_from=merged_from, positions=640, mean_kl=0.017 if is_far else 0.0017, max_kl=0.5 if is_far else 0.02,
        top1_agreement=0.96 if is_far else 0.99, mean_abs_logit_difference=0.02, max_abs_logit_difference=0.3,
        greedy_texts=32, greedy_texts_equal=17 if is_far else 32, first_divergence=first_divergence,
        passed=not is_far, merged_digest="1" * 64,
    )  # fmt: skip


@pytest.fixture
def evidence() -> CardEvidence:
    return CardEvidence(
        name="support-router",
        version="v0.1.0",
        run="20260101-abcdef",
        commit="c" * 40,
        load_from="owner/support-router",
        revision="v0.1.0",
        approval_digest="9" * 64,
        base=BaseRecord(
            name="HuggingFaceTB/SmolLM2-135M-Instruct",
            license="apache-2.0",
            origin={"source": "package"},
            digest="b" * 64,
            files={},
            chat_template_digest="e" * 64,
            weights="path:data/base/model",
        ),
        data=(
            DataSummary(stage="ingest", rows_in=1300, rows_out=1290, dropped={"broken": 10}, changed={}, kept={}),
            DataSummary(
                stage="clean",
                rows_in=1290,
                rows_out=1200,
                dropped={"too_short": 60, "truncated": 30},
                changed={"pii_masked": 12},
                kept={},
            ),
        ),
        training=TrainMetrics(
            method="qlora",
            compute_dtype="bfloat16",
            device="cpu",
            threads=2,
            trainable_weights=4_884_480,
            all_weights=139_399_488,
            train_examples=800,
            validation_examples=64,
            train_tokens=64_000,
            supervised_tokens=12_000,
            steps=100,
            final_loss=0.125,
            eval_loss=0.25,
            adapter_digest="a" * 64,
        ),
        base_scores=evaluation("base", 0, 60),
        candidate_scores=evaluation("candidate", 160, 59),
        verdict=Verdict(
            verdict="passed",
            adapter_digest="a" * 64,
            confidence=0.95,
            results=(
                RuleResult(
                    benchmark="ticket_routing",
                    metric="exact_match",
                    condition="min_value",
                    threshold=0.4,
                    found=0.8,
                    outcome="passed",
                    reason="80.0 % reaches the floor of 40.0 %",
                ),
            ),
            comparisons={
                "ticket_routing exact_match": (
                    Comparison(other="base", difference=0.8, low=0.745, high=0.855, wins=160, losses=0),
                )
            },
            failures=(),
            diagnosis=(),
        ),
        parity=Parity(
            prompts=32,
            positions=640,
            mean_kl=0.0017,
            max_kl=0.02,
            top1_agreement=0.99,
            mean_abs_logit_difference=0.02,
            max_abs_logit_difference=0.3,
            passed=True,
            merged_digest="1" * 64,
            merged_from="dequantized",
            candidates=(candidate("dequantized", None), candidate("original", 5)),
        ),
        chat=CHAT,
    )


def test_the_card_reads_as_it_did(evidence: CardEvidence) -> None:
    assert model_card(evidence) == SNAPSHOT.read_text(encoding="utf-8")


def test_the_hub_reads_the_metadata_back(evidence: CardEvidence) -> None:
    data = ModelCard(model_card(evidence)).data
    assert isinstance(data, ModelCardData)
    assert data.eval_results is not None
    assert (data.base_model, data.license, data.library_name, data.pipeline_tag) == (
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "apache-2.0",
        "transformers",
        "text-generation",
    )
    assert [(result.dataset_name, result.metric_type, result.metric_value) for result in data.eval_results] == [
        ("ticket_routing", "exact_match", 0.8),
        ("general_knowledge", "acc", 0.393333),
    ]


def test_a_folder_is_loaded_without_a_revision(evidence: CardEvidence) -> None:
    card = model_card(evidence.model_copy(update={"load_from": "registry/support-router/v0.1.0", "revision": None}))
    assert 'from_pretrained("registry/support-router/v0.1.0")' in card
    assert "revision=" not in card


def test_a_refused_model_has_no_card(evidence: CardEvidence) -> None:
    refused = evidence.verdict.model_copy(update={"verdict": "refused"})
    with pytest.raises(NotApproved, match="nothing to release"):
        model_card(evidence.model_copy(update={"verdict": refused}))


def test_a_verdict_about_another_adapter_makes_no_card(evidence: CardEvidence) -> None:
    other = evidence.verdict.model_copy(update={"adapter_digest": "0" * 64})
    with pytest.raises(NotApproved, match="verdict is about adapter 000000000000, training made aaaaaaaaaaaa"):
        model_card(evidence.model_copy(update={"verdict": other}))


def test_a_limited_benchmark_is_called_limited(evidence: CardEvidence) -> None:
    (fingerprint,) = evidence.candidate_scores.fingerprints
    limited = evidence.candidate_scores.model_copy(
        update={"fingerprints": (fingerprint.model_copy(update={"limit": 50}),)}
    )
    card = model_card(evidence.model_copy(update={"candidate_scores": limited}))
    assert "| 200 (limited) |" in card
    assert "was not run in full" in card


def test_a_score_that_the_base_does_not_have_shows_as_a_dash(evidence: CardEvidence) -> None:
    bare = evidence.base_scores.model_copy(update={"scores": ()})
    assert "| higher | – | 0.800 [0.739, 0.850] | 200 |" in model_card(
        evidence.model_copy(update={"base_scores": bare})
    )


def test_the_interval_of_a_share_is_wilsons() -> None:
    # Wilson, 8 of 10 at 95 %: 0.4902 to 0.9433
    assert score_interval(score("b", "acc", 8, 10), 0.95) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_a_score_of_zero_is_not_certain() -> None:
    assert shown(score("b", "acc", 0, 200), 0.95) == "0.000 [0.000, 0.019]"


def test_a_mean_that_is_no_share_has_the_normal_interval() -> None:
    mean = score("b", "f1", 1, 2).model_copy(update={"per_sample": (0.3, 0.7), "value": 0.5, "stderr": 0.1})
    assert score_interval(mean, 0.95) == pytest.approx((0.3040, 0.6960), abs=1e-4)


def test_a_score_without_a_standard_error_has_no_interval() -> None:
    bare = score("b", "f1", 1, 2).model_copy(update={"per_sample": (0.3, 0.7), "value": 0.5, "stderr": None})
    assert shown(bare, 0.95) == "0.500"


def test_what_people_wrote_around_the_block_stays(tmp_path: Path, evidence: CardEvidence) -> None:
    path = tmp_path / "README.md"
    write_model_card(path, evidence)
    first = path.read_text()
    path.write_text(first.replace("license: apache-2.0", "license: mit\nlanguage:\n- en") + "\nAsk Ada.\n")
    write_model_card(path, evidence)
    again = path.read_text()
    assert "language:\n- en\n" in again
    assert "license: apache-2.0\n" in again
    assert "license: mit" not in again
    assert again.endswith("<!-- tunegate:end -->\n\nAsk Ada.\n")


def test_what_people_wrote_inside_the_block_goes() -> None:
    generated = "---\nlicense: mit\n---\n\n<!-- tunegate:begin -->\nnew\n<!-- tunegate:end -->\n"
    assert merge_card(generated.replace("new", "old and mine"), generated) == generated


def test_a_card_without_a_block_is_kept_below_it() -> None:
    generated = "---\nlicense: mit\n---\n\n<!-- tunegate:begin -->\nnew\n<!-- tunegate:end -->\n"
    assert merge_card("# My own\n", generated) == generated + "\n# My own\n"


@pytest.mark.parametrize(
    "existing",
    [
        "",
        "# mine\n",
        "---\n\n---\n",
        "---\nlicense: [broken\nother: 'x\n---\ntext",
        "---\r\nlanguage: en\r\n---\r\n\r\ntext\r\n",
        "before\n<!-- tunegate:begin -->\nx\n<!-- tunegate:end -->\nafter",
        "<!-- tunegate:end --> mixed up <!-- tunegate:begin -->",
    ],
)
def test_merging_twice_is_merging_once(existing: str) -> None:
    generated = "---\nlicense: mit\n---\n\n<!-- tunegate:begin -->\nnew\n<!-- tunegate:end -->\n"
    once = merge_card(existing, generated)
    assert merge_card(once, generated) == once


def test_the_prompt_is_shown_as_the_model_reads_it() -> None:
    assert rendered_prompt(CHAT) == (
        "<|im_start|>system\nRoute the ticket as JSON.<|im_end|>\n"
        "<|im_start|>user\nMy parcel hasn't moved since Monday.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("template", ["{% generation %}", "{{ messages[0].__class__.__mro__ }}", "{{ unknown() }}"])
def test_a_template_that_needs_more_than_jinja_is_left_out(template: str, evidence: CardEvidence) -> None:
    chat = CHAT.model_copy(update={"template": template})
    assert "The model reads exactly this" not in model_card(evidence.model_copy(update={"chat": chat}))


def test_the_chat_format_comes_from_the_model_that_ships(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}")
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>", "model_max_length": 8, "pad_token": null}')
    chat = read_chat_format(tmp_path, CHAT.prompt, CHAT.answer)
    assert (chat.special_tokens, rendered_prompt(chat)) == ({"bos_token": "<s>"}, "<s>")


def test_a_model_without_a_chat_template_is_an_error_with_the_next_move(tmp_path: Path) -> None:
    with pytest.raises(FileInvalid, match=r"no chat format: .*chat_template\.jinja.*run `dvc repro merge`"):
        read_chat_format(tmp_path, CHAT.prompt, CHAT.answer)


def test_a_ticket_with_a_fence_in_it_stays_inside_its_fence() -> None:
    assert fenced("a\n```\nb") == "````text\na\n```\nb\n````"
