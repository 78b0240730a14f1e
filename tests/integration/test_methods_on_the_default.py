"""The method matrix on the default base: every method keeps its promises from start to merge, at full size."""

from pathlib import Path

import pytest
import torch

from tasks import paths
from tasks.files import read_json
from tasks.models import base_folder
from tasks.params_checks import impossible_without_cuda
from tasks.records import BaseRecord
from tasks.tables import read_examples
from tests.method_matrix import CASES, Case, check_method

pytestmark = pytest.mark.slow
STEPS = {"max_steps": 6, "warmup_steps": 0, "logging_steps": 1, "per_device_train_batch_size": 2}
LEARNING_RATES = {"full": 1e-4, "prefix_tuning": 1e-2, "adaption_prompt": 1e-2, "shadow": 1e-3, "ia3": 1e-2}
"""For the methods whose weights are fewer, or more, than an adapter's; the others take the default's."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights that `make run` left in this workspace, by another name, since the matrix writes beside them."""
    if not paths.BASE_RECORD.exists() or not paths.TRAIN_EXAMPLES.exists():
        pytest.skip("needs the data and the base of a run: `make run`, then `dvc checkout` on its branch")
    linked = tmp_path_factory.mktemp("methods") / "base"
    linked.symlink_to(base_folder(read_json(paths.BASE_RECORD, BaseRecord)).absolute())
    return linked


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_method_keeps_its_promises_on_the_default_base(case: Case, base: Path, tmp_path: Path) -> None:
    if case.needs_cuda and not torch.cuda.is_available():
        assert list(impossible_without_cuda(case.params()))
        return
    shortest = sorted(read_examples(paths.TRAIN_EXAMPLES), key=lambda example: example.tokens or 0)[:2]
    rate = {"learning_rate": LEARNING_RATES[case.name]} if case.name in LEARNING_RATES else {}
    check_method(case, base, shortest, tmp_path, **STEPS, **rate)
