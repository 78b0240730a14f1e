"""The supervision audit over the batches of a real trainer, on a model of a few thousand weights."""

import io
import json
from pathlib import Path

import pytest
from peft import LoraConfig
from rich.console import Console
from trl import SFTConfig, SFTTrainer, pack_dataset

from tasks.digests import digest_text
from tasks.errors import TrainingInvalid
from tasks.records import Example, SupervisionAudit
from tasks.supervision import audit, generation_stop_tokens, print_audit, require_sound
from tasks.training_rows import build_rows
from tests.unit.rows import example
from tests.unit.tiny_model import TEMPLATE, make_model, make_tokenizer

ASKED = [example("one", "route this ticket please", "billing"), example("two", "repair", "repair please")]
SILENT = "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} {% endfor %}"


def audited(
    folder: Path,
    examples: list[Example],
    *,
    max_length: int = 32,
    template: str = TEMPLATE,
    stop: object = 1,
    packs: bool = False,
) -> SupervisionAudit:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stop}), encoding="utf-8")
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    rows = build_rows(examples, tokenizer, max_length)
    trainer = SFTTrainer(
        model=make_model(),
        args=SFTConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            max_length=max_length,
            report_to=[],
            dataloader_pin_memory=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            packing=packs,
        ),
        train_dataset=pack_dataset(rows, max_length, "bfd") if packs else rows,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    return audit(examples, trainer, digest_text(TEMPLATE), folder)


def failed(found: SupervisionAudit) -> list[str]:
    return [check.name for check in found.checks if not check.passed]


def test_only_the_answer_and_its_stop_token_carry_loss(tmp_path: Path) -> None:
    found = audited(tmp_path, ASKED)
    assert [shown.supervised_text for shown in found.examples] == ["billing <end>", "repair please <end>"]
    assert found.examples[0].masked_text == "user route this ticket please <end> assistant"
    assert (found.rows, found.trained_tokens, found.fewest_trained_tokens, found.most_trained_tokens) == (2, 5, 2, 3)
    assert failed(found) == []
    require_sound(found)


def test_packed_rows_are_counted_and_shown_one_by_one(tmp_path: Path) -> None:
    plain, packed = audited(tmp_path, ASKED), audited(tmp_path, ASKED, packs=True)
    assert packed.model_dump(exclude={"examples"}) == plain.model_dump(exclude={"examples"})
    assert sorted(packed.examples, key=lambda shown: shown.id) == sorted(plain.examples, key=lambda shown: shown.id)


def test_a_row_that_is_seen_twice_is_counted_twice(tmp_path: Path) -> None:
    found = audited(tmp_path, [ASKED[0].model_copy(update={"repeat": 2}), ASKED[1]])
    assert (found.rows, [shown.id for shown in found.examples]) == (3, ["one", "one", "two"])


def test_a_row_that_is_cut_before_its_stop_token_is_named(tmp_path: Path) -> None:
    found = audited(tmp_path, ASKED, max_length=7)  # user route this ticket please <end> assistant | billing <end>
    assert (found.rows_without_trained_tokens, found.rows_without_stop_token) == (1, 1)
    with pytest.raises(TrainingInvalid, match=r"(?s)carry loss; found 1 of 2 rows without: one.*train\.max_length \(7"):
        require_sound(found)


def test_a_cut_answer_has_tokens_but_no_stop_token(tmp_path: Path) -> None:
    found = audited(tmp_path, ASKED, max_length=8)
    assert (found.rows_without_trained_tokens, found.rows_without_stop_token) == (0, 1)
    assert failed(found) == ["every row ends in its stop token, which carries loss"]


def test_a_template_that_writes_no_stop_token_is_refused(tmp_path: Path) -> None:
    found = audited(tmp_path, ASKED, template=SILENT)
    assert failed(found) == [
        "every row ends in its stop token, which carries loss",
        "the chat template is the base model's, with which it is evaluated and released",
    ]


def test_a_stop_token_that_generation_does_not_know_is_refused(tmp_path: Path) -> None:
    found = audited(tmp_path, ASKED, stop=[7, 8])
    assert failed(found) == ["generation stops at the stop token"]
    with pytest.raises(TrainingInvalid, match=r"token 1 '<end>', generation config stops at \(7, 8\)"):
        require_sound(found)


def test_the_generation_configuration_goes_before_the_model_s(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"eos_token_id": 5}', encoding="utf-8")
    assert generation_stop_tokens(tmp_path) == (5,)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 2]}', encoding="utf-8")
    assert generation_stop_tokens(tmp_path) == (1, 2)


def test_a_folder_without_configurations_stops_at_nothing(tmp_path: Path) -> None:
    assert generation_stop_tokens(tmp_path) == ()


def test_three_rows_are_printed_and_what_carries_loss_is_marked_without_colours(tmp_path: Path) -> None:
    rows = [*ASKED, example("three", "ticket", "repair"), example("four", "ticket", "repair")]
    out = io.StringIO()
    print_audit(audited(tmp_path, rows), Console(file=out, soft_wrap=True))
    first, *shown = out.getvalue().splitlines()
    assert first == (
        "train: audit: 4 rows, 9 tokens carry loss (a row 2 to 3, median 2); 0 rows have none, 4 end in <end>"
    )
    assert shown[0] == "  user route this ticket please <end> assistant»billing <end>«  [one]"
    assert len(shown) == 3


def test_in_a_terminal_what_carries_loss_is_green(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, soft_wrap=True, force_terminal=True, color_system="standard")
    print_audit(audited(tmp_path, ASKED), console)
    assert "\x1b[1;32mbilling <end>\x1b[0m" in out.getvalue()
