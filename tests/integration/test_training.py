"""Training for real, in a workspace beside this one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.digests import digest_path
from tasks.files import read_json
from tasks.verdict_records import Verdict
from tests.integration.conftest import dvc

pytestmark = pytest.mark.slow

Maker = Callable[[dict[str, str]], Path]


def test_the_same_inputs_give_the_same_adapter_byte_for_byte(workspace_with: Maker) -> None:
    root = workspace_with({"max_steps: -1": "max_steps: 3", "eval_steps: 40": "eval_steps: 2"})
    digests: list[str] = []
    for _ in range(2):
        done = dvc(
            root, "repro", "--force" if digests else "--quiet", *(("--single-item",) if digests else ()), "train"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        digests.append(digest_path(root / "data/train/adapter"))
    assert digests[0] == digests[1]


def test_an_adapter_trained_on_wrong_labels_is_refused_and_the_labels_are_suspected(workspace_with: Maker) -> None:
    root = workspace_with({"data/sources/support_tickets.jsonl": "data/sources/mislabelled_tickets.jsonl"})
    done = dvc(root, "repro", "gate")
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = read_json(root / "data/gate/verdict.json", Verdict)
    assert verdict.verdict == "refused"
    assert any("look for wrong labels" in finding.text for finding in verdict.diagnosis)
    assert dvc(root, "repro", "merge").returncode != 0
