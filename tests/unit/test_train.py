"""Training's own parts on a model of a few thousand weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from tasks.errors import TrainingInvalid
from tasks.train import AnswerTrainer, Progress, check_untrained
from tests.unit.tiny_model import make_model, make_tokenizer

ROWS = [
    {
        "prompt": [{"role": "user", "content": "route this ticket please"}],
        "completion": [{"role": "assistant", "content": answer}],
    }
    for answer in ("billing", "repair please")
]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


def trainer(kind: type[SFTTrainer], tokenizer: PreTrainedTokenizerFast, folder: Path) -> SFTTrainer:
    arguments = SFTConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, max_length=32, report_to=[], dataloader_pin_memory=False
    )
    return kind(
        model=make_model(),
        args=arguments,
        train_dataset=Dataset.from_list(ROWS),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
    )


def loss_and_gradients(made: SFTTrainer) -> tuple[float, list[Any]]:
    batch = made.data_collator(list(made.train_dataset))
    loss = made.compute_loss(made.model, dict(batch))
    loss.backward()
    return loss.item(), [weight.grad for weight in made.model.parameters() if weight.grad is not None]


def test_the_loss_and_its_gradients_are_those_of_trl(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    ours, our_gradients = loss_and_gradients(trainer(AnswerTrainer, tokenizer, tmp_path / "ours"))
    theirs, their_gradients = loss_and_gradients(trainer(SFTTrainer, tokenizer, tmp_path / "theirs"))
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert len(our_gradients) == len(their_gradients) > 0
    for mine, other in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


def test_before_step_one_the_adapted_model_equals_the_base(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    made = trainer(AnswerTrainer, tokenizer, tmp_path)
    check_untrained(made)
    for name, weight in made.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(weight)
    with pytest.raises(TrainingInvalid, match="before step one the adapted model differs from the base"):
        check_untrained(made)


class State:
    global_step = 4
    max_steps = 8


class Arguments:
    learning_rate = 0.1


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_learning_rate(loss: float) -> None:
    progress: Any = Progress(examples_per_step=2)
    with pytest.raises(TrainingInvalid, match=r"step 4: the loss is (nan|inf); lower train.learning_rate \(now 0.1\)"):
        progress.on_log(Arguments(), State(), None, logs={"loss": loss})


def test_progress_shows_the_rate_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    progress: Any = Progress(examples_per_step=2)
    progress.started -= 4
    progress.on_log(Arguments(), State(), None, logs={"loss": 0.5})
    assert capsys.readouterr().out == "train: step 4/8  loss 0.500  2.0 examples/s  4 s left\n"
