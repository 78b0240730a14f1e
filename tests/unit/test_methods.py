"""The method matrix on a model of a few thousand weights: every method keeps its promises from start to merge."""

from pathlib import Path

import pytest
import torch

from tasks.adapters import check_start
from tasks.errors import TrainingInvalid
from tasks.params_checks import impossible_without_cuda
from tests.method_matrix import CASES, Case, check_method, config_of
from tests.unit.rows import conversation
from tests.unit.tiny_model import make_model, make_tokenizer

ASKED = [
    conversation("one", ("user", "route this ticket"), ("assistant", "billing")),
    conversation("two", ("user", "please route this ticket"), ("assistant", "billing")),
    conversation("three", ("user", "please repair this"), ("assistant", "repair")),
    conversation("four", ("user", "repair this please"), ("assistant", "repair")),
]
STEPS = {"max_steps": 24, "learning_rate": 0.02, "warmup_steps": 0, "logging_steps": 1, "max_length": 256}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods") / "base"
    make_model(hidden_size=64).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_method_keeps_its_promises(case: Case, base: Path, tmp_path: Path) -> None:
    if case.needs_cuda and not torch.cuda.is_available():
        assert list(impossible_without_cuda(case.params()))
        return
    check_method(case, base, ASKED, tmp_path, **STEPS)
    if case.lora is not None:
        config = config_of(base.parent / case.name)
        changes_the_base = case.lora["init_lora_weights"] in {"pissa", "olora", "loftq"}
        assert config["r"] == case.lora["r"] * (2 if changes_the_base else 1)
        assert (config["use_dora"], config["use_rslora"]) == (case.lora["use_dora"], case.lora["use_rslora"])
        assert config["init_lora_weights"] is True


@pytest.mark.parametrize(("promised", "gap"), [("equal", 1e-6), ("close", 0.5), ("none", float("nan"))])
def test_a_start_that_breaks_its_promise_is_refused(promised: str, gap: float) -> None:
    base = torch.tensor([0.0, 1.0])
    with pytest.raises(TrainingInvalid, match="before step one the adapted model differs from the base by"):
        check_start(base, base + gap, promised)  # type: ignore[arg-type]


@pytest.mark.parametrize(("promised", "gap"), [("equal", 0.0), ("close", 0.01), ("none", 9.0)])
def test_a_start_that_keeps_its_promise_passes(promised: str, gap: float) -> None:
    base = torch.tensor([0.0, 1.0])
    check_start(base, base + gap, promised)  # type: ignore[arg-type]
