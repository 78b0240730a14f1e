"""Training and merging for real, on a model of a few thousand weights: what the parameters say is what happens."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tasks.adapters import save_trained
from tasks.digests import digest_path
from tasks.merge_model import Merge, write_merged
from tasks.models import attach_adapter, load_base, load_plain
from tasks.params import load_params
from tasks.records import Example, Message
from tasks.train import prepare
from tasks.training_watch import history
from tests.unit.tiny_model import make_model, make_tokenizer

IDS = torch.tensor([[2, 3, 4, 8, 6]])
SHORT = {
    "max_steps": 40, "per_device_train_batch_size": 2, "learning_rate": 0.02, "warmup_steps": 2, "max_length": 32,
    "logging_steps": 1, "eval_steps": 20,
}  # fmt: skip
PARAMS = load_params()
ASKED = [
    ("route this ticket", "billing"),
    ("please route this ticket", "billing"),
    ("please repair this", "repair"),
    ("repair this please", "repair"),
]


def examples() -> list[Example]:
    return [
        Example(
            id=f"t-{line}",
            source="t",
            role="train",
            file="t.jsonl",
            line=line,
            messages=(Message(role="user", content=asked), Message(role="assistant", content=answered)),
        )
        for line, (asked, answered) in enumerate(ASKED, 1)
    ]


def train(folder: Path, name: str, **changed: object) -> SimpleNamespace:
    """Forty steps in `folder`, which holds the base; the points of its history and the adapter."""
    params = PARAMS.model_copy(update={"train": PARAMS.train.model_copy(update=SHORT | changed)})
    session = prepare(params, folder / "base", examples(), examples()[:2], folder / "scratch")
    session.run()
    save_trained(session.trainer.model, "tiny", torch.float32, session.start, folder / name)
    points = history(session.trainer.state.log_history)
    return SimpleNamespace(points=points, adapter=folder / name, digest=digest_path(folder / name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tiny")
    make_model(hidden_size=64).save_pretrained(made / "base")
    make_tokenizer().save_pretrained(made / "base")
    return made


@pytest.fixture(scope="module")
def trained(folder: Path) -> SimpleNamespace:
    return train(folder, "adapter")


def losses(run: SimpleNamespace) -> list[float]:
    return [point.loss for point in run.points if point.loss is not None]


def test_the_loss_falls_and_the_history_says_how(trained: SimpleNamespace) -> None:
    assert len(losses(trained)) == 40
    assert max(losses(trained)[-5:]) < 0.75 * losses(trained)[0]
    assert [point.step for point in trained.points if point.eval_loss is not None] == [20, 40]


def test_the_losses_are_those_that_are_written_here(trained: SimpleNamespace) -> None:
    """What moves them moves every adapter: a library, the order of rows, the labels, how the loss is computed."""
    measured = [point.eval_loss for point in trained.points if point.eval_loss is not None]
    assert losses(trained)[:4] == pytest.approx([2.1397, 2.156, 1.7057, 1.6218], abs=0.005)
    assert measured == pytest.approx([1.281, 1.144], abs=0.02)  # kernels of other processors add in other orders


def test_the_learning_rate_warms_up_and_falls_as_a_cosine(trained: SimpleNamespace) -> None:
    rates = [point.learning_rate for point in trained.points if point.learning_rate is not None]
    peak = max(rates)
    assert peak == pytest.approx(0.02)
    assert rates.index(peak) in {1, 2}
    assert rates[-1] < 0.05 * peak


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(folder: Path, trained: SimpleNamespace) -> None:
    again, other = train(folder, "again"), train(folder, "other", seed=2)
    assert (losses(again), again.digest) == (losses(trained), trained.digest)
    assert other.digest != trained.digest


def test_the_adapter_has_the_rank_of_the_parameters_in_float32_on_every_linear_layer(trained: SimpleNamespace) -> None:
    config = json.loads((trained.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    layers = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert (config["r"], config["lora_alpha"]) == (16, 32)
    assert sorted({name.rsplit(".", 1)[-1] for name in config["target_modules"]}) == layers
    assert {weight.dtype for weight in load_file(trained.adapter / "adapter_model.safetensors").values()} == {
        torch.float32
    }
    assert sorted(path.name for path in trained.adapter.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip


def test_the_merged_folder_answers_as_base_plus_adapter(folder: Path, trained: SimpleNamespace) -> None:
    adapted = attach_adapter(load_base(folder / "base", PARAMS.quantization, torch.float32), trained.adapter).eval()
    merge = Merge(
        folder / "base", trained.adapter, PARAMS.quantization,
        PARAMS.merge.model_copy(update={"dtype": "float32"}), make_tokenizer(),
    )  # fmt: skip
    write_merged(merge, folder / "merged", folder / "receipts", "test")
    loaded = load_plain(folder / "merged", torch.float32).eval()
    plain = load_base(folder / "base", PARAMS.quantization, torch.float32).eval()
    with torch.no_grad():
        wanted, found, untrained = (model(IDS).logits for model in (adapted, loaded, plain))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert (untrained - wanted).abs().max() > 0.1
    assert "quantization_config" not in (folder / "merged/config.json").read_text(encoding="utf-8")
