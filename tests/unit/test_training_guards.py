from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset

from tasks.errors import TrainingInvalid
from tasks.train import prepare
from tasks.training_guards import Guards, check_step
from tasks.training_rows import IGNORED
from tests.method_matrix import CASES
from tests.unit.test_methods import ASKED
from tests.unit.tiny_model import make_model, make_tokenizer

STEPS = {"max_steps": 2, "learning_rate": 0.02, "warmup_steps": 0, "logging_steps": 2, "max_length": 256}
ARGUMENTS: Any = SimpleNamespace(learning_rate=0.1)
LORA = next(case for case in CASES if case.name == "lora")


def logged(**numbers: float) -> None:
    state: Any = SimpleNamespace(global_step=4)
    control: Any = None
    Guards().on_log(ARGUMENTS, state, control, logs=numbers)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("key", "name"),
    [("loss", "the loss"), ("grad_norm", "the gradient norm"), ("eval_loss", "the validation loss")],
)
def test_a_number_that_is_not_finite_stops_the_run_and_names_the_learning_rate(
    key: str, name: str, value: float
) -> None:
    message = rf"step 4: {name} is {value}, most likely from too large a step; lower train.learning_rate \(now 0.1\)"
    with pytest.raises(TrainingInvalid, match=message):
        logged(**{key: value})


def test_a_loss_of_exactly_zero_stops_the_run() -> None:
    with pytest.raises(TrainingInvalid, match=r"step 4: the loss is exactly 0: .*look at data/train/supervision.json"):
        logged(loss=0.0)


def test_small_numbers_and_lines_without_any_pass() -> None:
    logged(loss=1e-9, grad_norm=0.0, eval_loss=0.0)
    logged(epoch=1.0)


@pytest.mark.parametrize("items", [0, torch.tensor(0)])
def test_a_step_without_a_token_that_carries_loss_stops_the_run(items: torch.Tensor | int) -> None:
    with pytest.raises(TrainingInvalid, match=r"step 3: none of its tokens carries loss.*raise train.max_length"):
        check_step(3, torch.tensor(float("nan")), items, 0.1)


def test_a_first_step_that_is_not_finite_suspects_the_weights_and_not_the_learning_rate() -> None:
    with pytest.raises(TrainingInvalid, match=r"step 1: the loss is nan, .*damaged base weights.*dvc repro --force"):
        check_step(1, torch.tensor(float("nan")), 5, 0.1)


@pytest.mark.parametrize("items", [None, 1])
def test_a_step_with_a_finite_loss_passes(items: int | None) -> None:
    check_step(1, torch.tensor(0.5), items, 0.1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guards") / "base"
    make_model(hidden_size=64).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def test_a_training_whose_weights_break_stops_at_that_step_although_no_line_was_logged(
    base: Path, tmp_path: Path
) -> None:
    session = prepare(LORA.params(**(STEPS | {"max_steps": 8, "logging_steps": 8})), base, ASKED, [], tmp_path)

    class Breaks(Guards):
        def on_step_end(self, _args: Any, state: Any, _control: Any, **_: object) -> None:
            if state.global_step == 3:
                trained = [weight for weight in session.trainer.model.parameters() if weight.requires_grad]
                trained[-1].data.fill_(float("nan"))  # the last one: some kernels of attention lose a NaN on the way

    session.trainer.add_callback(Breaks())
    with pytest.raises(TrainingInvalid, match=r"step 4: the loss is nan"):
        session.run()


def test_a_training_on_rows_without_answers_stops_at_step_one(base: Path, tmp_path: Path) -> None:
    session = prepare(LORA.params(**STEPS), base, ASKED, [], tmp_path)
    rows = session.trainer.train_dataset
    masked = [[IGNORED] * len(labels) for labels in rows["labels"]]
    session.trainer.train_dataset = Dataset.from_dict({"input_ids": list(rows["input_ids"]), "labels": masked})
    with pytest.raises(TrainingInvalid, match=r"step 1: none of its tokens carries loss"):
        session.run()
