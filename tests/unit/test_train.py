"""Training's own parts on a model of a few thousand weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import SFTConfig, SFTTrainer, pack_dataset

from tasks.records import Example
from tasks.trainer import AnswerTrainer, micro_batches
from tasks.training_rows import build_rows
from tests.unit.rows import conversation
from tests.unit.tiny_model import make_model, make_tokenizer

ASKED = [
    conversation("one", ("user", "route this ticket please"), ("assistant", "billing")),
    conversation("two", ("user", "route this"), ("assistant", "repair please")),
]


def trainer(kind: type[SFTTrainer], rows: Dataset, folder: Path, *, packs: bool = False) -> SFTTrainer:
    """A trainer that takes the rows as they are."""
    arguments = SFTConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, max_length=32, report_to=[], dataloader_pin_memory=False,
        dataset_kwargs={"skip_prepare_dataset": True}, packing=packs,
    )  # fmt: skip
    model = get_peft_model(make_model(), LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(weight, 0.1)
    return kind(model=model, args=arguments, train_dataset=rows, processing_class=make_tokenizer())


def loss_and_gradients(made: SFTTrainer) -> tuple[float, list[Any]]:
    batch = made.data_collator(list(made.train_dataset))
    loss = made.compute_loss(made.model, dict(batch))
    loss.backward()
    return loss.item(), [weight.grad for weight in made.model.parameters() if weight.grad is not None]


def assert_same(ours: tuple[float, list[Any]], theirs: tuple[float, list[Any]]) -> None:
    assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
    assert len(ours[1]) == len(theirs[1]) > 0
    for mine, other in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


def rows_of(examples: list[Example]) -> Dataset:
    return build_rows(examples, make_tokenizer(), 32)


def test_the_loss_and_its_gradients_are_those_of_trl(tmp_path: Path) -> None:
    ours = loss_and_gradients(trainer(AnswerTrainer, rows_of(ASKED), tmp_path / "ours"))
    assert_same(ours, loss_and_gradients(trainer(SFTTrainer, rows_of(ASKED), tmp_path / "theirs")))


def test_a_row_has_the_labels_that_trl_gives_a_prompt_with_its_completion(tmp_path: Path) -> None:
    turns = [[message.for_template() for message in example.messages] for example in ASKED]
    given = Dataset.from_list([{"prompt": said[:-1], "completion": said[-1:]} for said in turns])
    config = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, max_length=32, report_to=[])
    theirs = SFTTrainer(model=make_model(), args=config, train_dataset=given, processing_class=make_tokenizer())
    ours = rows_of(ASKED)
    for name in ("input_ids", "labels"):
        assert list(ours[name]) == list(theirs.train_dataset[name])


@pytest.mark.parametrize("kind", [AnswerTrainer, SFTTrainer])
def test_rows_in_one_pack_see_nothing_of_each_other(kind: type[SFTTrainer], tmp_path: Path) -> None:
    padded = loss_and_gradients(trainer(kind, rows_of(ASKED), tmp_path / "padded"))
    packed = trainer(kind, pack_dataset(rows_of(ASKED), 32, "bfd"), tmp_path / "packed", packs=True)
    assert len(packed.train_dataset) == 1
    assert_same(loss_and_gradients(packed), padded)


def test_a_batch_in_portions_has_the_loss_and_the_gradients_of_the_whole(tmp_path: Path) -> None:
    found = []
    for most_tokens in (None, 9):
        made = trainer(AnswerTrainer, rows_of(ASKED), tmp_path / str(most_tokens))
        made.micro_batch_tokens = most_tokens
        batch = made.data_collator(list(made.train_dataset))
        loss = made.training_step(made.model, batch, torch.tensor(5))
        found.append((loss.item(), [weight.grad for weight in made.model.parameters() if weight.grad is not None]))
    assert_same(*found)


def test_portions_hold_every_row_once_within_the_bound_and_without_needless_padding() -> None:
    lengths = [5, 2, 3, 9, 2]
    ids = torch.tensor([[row + 1] * length + [0] * (9 - length) for row, length in enumerate(lengths)])
    batch = {"input_ids": ids, "labels": -ids, "attention_mask": (ids > 0).long()}
    portions = micro_batches(batch, 8)
    assert [part["input_ids"].tolist() for part in portions] == [
        [[2, 2], [5, 5]],
        [[3, 3, 3]],
        [[1, 1, 1, 1, 1]],
        [[4] * 9],
    ]
    assert all(torch.equal(part["labels"], -part["input_ids"]) for part in portions)
