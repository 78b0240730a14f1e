"""What answering costs is measured on the models themselves, and left for the run record where a run asks for it."""

from pathlib import Path

import pytest

from tasks.files import read_json
from tasks.parity import build_prompts
from tasks.paths import SERVING_VARIABLE
from tasks.records import ServedModel, Serving
from tasks.serving import measure_serving, tell_serving
from tests.unit.rows import conversation
from tests.unit.tiny_model import make_model, make_tokenizer

PROMPTS = build_prompts([conversation("one", ("user", "route this"), ("assistant", "billing"))], make_tokenizer())[0]


def test_the_memory_is_that_of_the_weights_and_the_time_is_some() -> None:
    model = make_model(hidden_size=64).eval()
    found = measure_serving("base", model, PROMPTS)
    assert found.memory_gb == pytest.approx(sum(weight.nbytes for weight in model.parameters()) / 1e9, rel=0.01)
    assert 0 < found.ms_per_token < 10_000


def test_it_is_left_where_a_run_asks_for_it_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = (ServedModel(name="base", ms_per_token=2.0, memory_gb=0.5),)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(SERVING_VARIABLE, raising=False)
    tell_serving(models, "cpu")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(SERVING_VARIABLE, str(tmp_path / "serving.json"))
    tell_serving(models, "cpu")
    assert read_json(tmp_path / "serving.json", Serving) == Serving(device="cpu", models=models)
