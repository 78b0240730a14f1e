"""A workspace in which the stage `train` runs in seconds: a base of a few thousand weights, and approved partitions."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tasks import paths
from tasks.approvals import Approval, write_approval
from tasks.digests import combine_digests, digest_path, digest_text, file_digests
from tasks.files import write_json
from tasks.records import BaseRecord, Example
from tasks.tables import write_examples
from tests.contract.imports import ROOT
from tests.unit.rows import conversation
from tests.unit.tiny_model import TEMPLATE, make_model, make_tokenizer

ASKED = (
    ("route this ticket", "billing"),
    ("please route this ticket", "billing"),
    ("please repair this", "repair"),
    ("repair this please", "repair"),
)
TRAIN = {
    "max_steps": 12, "learning_rate": 0.02, "warmup_steps": 2, "logging_steps": 2, "save_steps": 4, "eval_steps": 4,
    "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "max_length": 256,
}  # fmt: skip


def examples(count: int) -> list[Example]:
    """Conversations whose answers can be learned."""
    turns = (ASKED[number % len(ASKED)] for number in range(count))
    return [
        conversation(f"e{number}", ("user", asked), ("assistant", said)) for number, (asked, said) in enumerate(turns)
    ]


def make_workspace(
    root: Path,
    *,
    train: dict[str, Any] | None = None,
    compute: dict[str, Any] | None = None,
    quantization: dict[str, Any] | None = None,
) -> Path:
    """Write the workspace; `train`, `compute` and `quantization` change the sections of the parameters."""
    write_params(root, train=train, compute=compute, quantization=quantization)
    model = root / "base"
    make_model(hidden_size=64).save_pretrained(model)
    make_tokenizer().save_pretrained(model)
    (model / "generation_config.json").write_text('{"eos_token_id": 1}', encoding="utf-8")
    files = file_digests(model)
    record = BaseRecord(
        name="tiny", license="mit", origin={}, digest=combine_digests(files), files=files,
        chat_template_digest=digest_text(TEMPLATE), weights=f"path:{model}",
    )  # fmt: skip
    write_json(root / paths.BASE_RECORD, record)
    for path, count in ((paths.TRAIN_EXAMPLES, 16), (paths.VALIDATION_EXAMPLES, 4), (paths.TEST_EXAMPLES, 4)):
        write_examples(root / path, examples(count))
    approval = Approval(
        subject="data", digest=digest_path(root / paths.SPLIT), evidence={}, approved_by="test", decision="approved"
    )
    write_approval(root / paths.DATA_APPROVAL, approval)
    return root


def write_params(
    root: Path,
    *,
    train: dict[str, Any] | None = None,
    compute: dict[str, Any] | None = None,
    quantization: dict[str, Any] | None = None,
) -> None:
    """Write params.yaml, again if it is there."""
    yaml = YAML()
    params = yaml.load((ROOT / paths.PARAMS).read_text(encoding="utf-8"))
    params["train"].update(TRAIN | (train or {}))
    params["compute"].update({"threads": 1} | (compute or {}))
    params["quantization"].update(quantization or {})
    root.mkdir(parents=True, exist_ok=True)
    with (root / paths.PARAMS).open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def start_training(root: Path) -> "subprocess.Popen[str]":
    """The stage `train` in a process, and a group, of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tasks.train"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def train(root: Path) -> str:
    """Run the stage `train` to its end; what it printed."""
    child = start_training(root)
    output, _ = child.communicate(timeout=300)
    assert child.returncode == 0, output
    return output
