"""The loss of single rows: that of transformers itself, for each validation row, by its own id."""

from pathlib import Path

import pytest
import torch

from tasks import row_losses
from tasks.params import load_params
from tasks.row_losses import measure_rows
from tasks.train import prepare
from tests.unit.test_tiny_training import SHORT, examples
from tests.unit.tiny_model import make_model, make_tokenizer

PARAMS = load_params()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    make_model(hidden_size=64).save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_each_row_has_the_loss_that_transformers_gives_it(base: Path) -> None:
    params = PARAMS.model_copy(update={"train": PARAMS.train.model_copy(update=SHORT)})
    validation = examples()[1:]
    trainer = prepare(params, base, examples(), validation, base / "scratch").trainer
    found = measure_rows(trainer, validation)
    assert [row.example_id for row in found] == ["t-2", "t-3", "t-4"]
    assert [row.answer for row in found] == ["billing", "repair", "repair"]
    for row, measured in zip(trainer.eval_dataset, found, strict=True):
        given = {name: torch.tensor([row[name]]) for name in ("input_ids", "labels")}
        with torch.no_grad():
            assert measured.loss == pytest.approx(trainer.model(**given).loss.item(), abs=1e-5)
        assert measured.tokens == sum(label != -100 for label in row["labels"])


def test_of_many_rows_an_even_choice_is_measured_and_without_validation_none(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_losses, "MOST_ROWS", 2)
    params = PARAMS.model_copy(update={"train": PARAMS.train.model_copy(update=SHORT)})
    trainer = prepare(params, base, examples(), examples(), base / "scratch").trainer
    assert [row.example_id for row in measure_rows(trainer, examples())] == ["t-1", "t-3"]
    assert measure_rows(prepare(params, base, examples(), [], base / "other").trainer, []) == []


def test_a_row_whose_answer_lies_behind_the_greatest_length_is_left_out(base: Path) -> None:
    short = PARAMS.train.model_copy(update=SHORT | {"max_length": 4})
    params = PARAMS.model_copy(update={"train": short})
    trainer = prepare(params, base, examples(), examples(), base / "scratch").trainer
    assert all(all(label == -100 for label in row["labels"]) for row in trainer.eval_dataset)
    assert measure_rows(trainer, examples()) == []
