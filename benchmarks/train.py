"""Claim: twice the examples per second of the plain TRL script, at 0.7 times its peak memory, and no worse a model.

Needs a workspace whose data stages and stage `base` were run. Everybody trains the same examples of the default model
with LoRA of rank 16 on the four attention layers over the 4-bit base, 16 examples a step, each in a process of its own,
in turns. The plain script (benchmarks/peers/plain_trl.py) runs as written, in bfloat16, and once more in float32, which
is faster on a CPU without bfloat16 units; time is claimed against the faster, memory against the script as written. On
such a CPU bfloat16 takes minutes for a step, so it is given one step only.

The script keeps its own settings where ours differ: learning rate 2e-4 and linear (ours: params.yaml), dropout 0.05,
loss on every token and not on the answers alone. Ours works on a batch in portions of 320 tokens, in
the environment of `dvc.yaml`. Attention's own products are left out of the limit.

The validation loss is that of the answers' tokens, on the same rows for all. The share of the limit is the time of the
training's matrix products, each shape timed alone, over the time that the training took (benchmarks/train_once.py).
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Claim, Timing, parse_arguments, show
from flows.reproduce import stage_environment
from tasks import paths
from tasks.files import read_json
from tasks.models import attach_adapter, base_folder, load_for_inference, load_tokenizer
from tasks.params import load_params
from tasks.records import BaseRecord
from tasks.tables import read_examples
from tasks.trainer import build_collator
from tasks.training_rows import IGNORED, build_rows

EXAMPLES, QUICK_EXAMPLES = 48, 16
REPETITIONS = 2
VALIDATION_ROWS = 64
AS_WRITTEN = "plain, bfloat16"
PLAIN = Path(__file__).parent / "peers/plain_trl.py"


@dataclass(frozen=True)
class Measured:
    """One training of one contestant; `seconds` are those of an example."""

    seconds: float
    peak_gib: float
    limit_seconds: float
    loss: float


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments(__doc__ or "")
    count = QUICK_EXAMPLES if arguments.quick else EXAMPLES
    base = base_folder(read_json(paths.BASE_RECORD, BaseRecord))
    runs: dict[str, list[Measured]] = {"tunegate": [], "plain, float32": [], AS_WRITTEN: []}
    with tempfile.TemporaryDirectory() as folder:
        rows = write_rows(Path(folder), count)
        for turn in range(1 if arguments.quick else REPETITIONS):
            for name, found in runs.items():
                if name == AS_WRITTEN and (arguments.quick or turn):
                    continue
                out = Path(folder) / f"{name}-{turn}"
                out.mkdir()
                found.append(run(name, base, rows, QUICK_EXAMPLES if name == AS_WRITTEN else count, out))
                print(f"{name}: {1 / found[-1].seconds:.2f} examples/s, {found[-1].peak_gib:.2f} GiB", flush=True)
    runs = {name: found for name, found in runs.items() if found}
    timings = [Timing(name, tuple(one.seconds for one in found), ()) for name, found in runs.items()]
    show("seconds of an example", timings, claims(runs), is_quick=arguments.quick, path=arguments.json)


def write_rows(folder: Path, count: int) -> Path:
    """The examples as the plain script reads them."""
    rows = folder / "rows.jsonl"
    examples = read_examples(paths.TRAIN_EXAMPLES)[:count]
    lines = (json.dumps({"messages": [turn.for_template() for turn in example.messages]}) for example in examples)
    rows.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return rows


def run(name: str, base: Path, rows: Path, count: int, out: Path) -> Measured:
    """One training in a process of its own; its adapter is measured here."""
    if name == "tunegate":
        arguments = ["-m", "benchmarks.train_once", str(base), str(count), str(out), str(torch.get_num_threads())]
    else:
        arguments = [str(PLAIN), str(base), str(rows), str(out), name.rsplit(maxsplit=1)[-1], str(count // 16)]
    ours = stage_environment(Path.cwd(), "train") if name == "tunegate" else {}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": "."} | ours,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    found = json.loads((out / "measured.json").read_text(encoding="utf-8"))
    assert found["steps"] == count // 16
    return Measured(
        found["seconds"] / count,
        found["peak_gib"],
        found.get("limit_seconds", 0.0) / count,
        validation_loss(base, out / "adapter"),
    )


@torch.no_grad()
def validation_loss(base: Path, adapter: Path) -> float:
    """The mean loss over the answers' tokens of the validation rows, base in 4 bits, in float32."""
    params = load_params()
    model: Any = attach_adapter(load_for_inference(base, params.quantization, torch.float32), adapter).eval()
    tokenizer = load_tokenizer(base)
    examples = read_examples(paths.VALIDATION_EXAMPLES)[:VALIDATION_ROWS]
    rows = build_rows(examples, tokenizer, params.train.max_length)
    collate = build_collator(tokenizer.pad_token_id)
    total, tokens = 0.0, 0
    for start in range(0, len(rows), 8):
        batch = collate([rows[at] for at in range(start, min(start + 8, len(rows)))])
        labels = batch.pop("labels")[:, 1:]
        logits = model(**batch).logits[:, :-1]
        taught = labels != IGNORED
        total += torch.nn.functional.cross_entropy(logits[taught], labels[taught], reduction="sum").item()
        tokens += int(taught.sum())
    return total / tokens


def claims(runs: dict[str, list[Measured]]) -> list[Claim]:
    """What is claimed of the runs."""
    ours = runs["tunegate"]
    plain = [found for name, found in runs.items() if name != "tunegate"]
    fastest = min(one.seconds for found in plain for one in found)
    written = runs.get(AS_WRITTEN, runs["plain, float32"])
    lowest = min(one.loss for one in runs["plain, float32"])
    best = min(ours, key=lambda one: one.seconds)
    return [
        Claim("examples per second over the plain script", fastest / best.seconds, "x", 2.0, "min"),
        Claim("share of the matrix-product limit", best.limit_seconds / best.seconds, "", 0.7, "min"),
        Claim(
            "peak memory over the plain script",
            max(one.peak_gib for one in ours) / min(one.peak_gib for one in written),
            "x",
            0.7,
            "max",
        ),
        Claim("validation loss over the plain script's", max(one.loss for one in ours) / lowest, "x", 1.0, "max"),
    ]


if __name__ == "__main__":
    main()
