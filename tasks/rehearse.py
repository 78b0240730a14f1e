"""Every late step of the line once, on the longest examples, before the hours are spent: `tunegate plan --rehearse`.

Two steps of training with a checkpoint between them, a resume from it, saving, loading, merging, two items of every
benchmark. Nothing is written but below a temporary folder; what fails here would have failed after the training.
"""

import logging
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tasks import paths
from tasks.adapters import logits_of, save_trained
from tasks.benchmark_tasks import load_tasks
from tasks.digests import digest_path
from tasks.entry import run_stage
from tasks.errors import FileInvalid, MergeRefused, TrainingInvalid
from tasks.evaluate import run_benchmark
from tasks.evaluate_model import HarnessModel
from tasks.files import read_json
from tasks.merge_model import Merge, is_mergeable, write_merged
from tasks.models import (
    base_folder,
    give_back_memory,
    load_candidate,
    load_plain,
    load_tokenizer,
    resolve_dtype,
    set_threads,
)
from tasks.params import Params, load_params
from tasks.records import BaseRecord, Example
from tasks.supervision import audit, require_sound
from tasks.tables import read_examples
from tasks.train import prepare, set_determinism, stored_dtype
from tasks.trainer_checkpoints import Checkpoints, build_key

STEPS = 2
ITEMS = 2
PROBE = {"input_ids": torch.tensor([[1, 2, 3, 4]])}


@contextmanager
def rehearsed(what: str) -> Iterator[None]:
    """Time one step, and say that it worked, with the peak memory of the process so far."""
    started = time.monotonic()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"rehearse: {what}: works, {time.monotonic() - started:.1f} s, peak {peak:.2f} GiB", flush=True)


def longest(examples: list[Example], count: int) -> list[Example]:
    """The `count` examples with the most tokens, by their ids where they are equal."""
    return sorted(examples, key=lambda example: (-(example.tokens or 0), example.id))[:count]


def short(params: Params) -> Params:
    """The parameters with `STEPS` steps, a checkpoint and a measurement after each."""
    changed = {"max_steps": STEPS, "save_steps": 1, "logging_steps": 1, "eval_steps": 1, "warmup_steps": 0}
    return params.model_copy(update={"train": params.train.model_copy(update=changed)})


def rehearse_training(params: Params, base: BaseRecord, folder: Path, scratch: Path) -> Path:
    """Train, resume from the first checkpoint, and compare; what was saved.

    Raises:
        TrainingInvalid: the resumed training ends in other bytes.
    """
    train = params.train
    examples = read_examples(paths.TRAIN_EXAMPLES)
    per_step = train.per_device_train_batch_size * train.gradient_accumulation_steps
    chosen = longest(examples, STEPS * per_step)
    held_out = longest(read_examples(paths.VALIDATION_EXAMPLES), train.per_device_eval_batch_size)
    checkpoints = Checkpoints(scratch / "state", build_key(params, {}, base.digest, "rehearsal"))
    digests = []
    for turn in ("train on the longest examples", "resume from a checkpoint"):
        with rehearsed(turn):
            session = prepare(params, folder, chosen, held_out, scratch / turn, checkpoints)
            require_sound(audit(chosen, session.trainer, base.chat_template_digest, folder))
            session.run()
            saved = scratch / turn / "saved"
            save_trained(session.trainer.model, base.name, stored_dtype(folder), session.start, saved)
        digests.append(digest_path(saved))
        checkpoints.drop_after(1)
        del session
        give_back_memory()
    if digests[0] != digests[1]:
        raise TrainingInvalid(
            f"a training that is resumed ends in other weights ({digests[1][:12]}) than one that is not "
            f"({digests[0][:12]}): its checkpoints cannot be trusted on this machine; set train.save_steps 0"
        )
    return saved


def rehearse_answering(params: Params, folder: Path, saved: Path, scratch: Path) -> None:
    """Load what was trained, measure it on two items of every benchmark, merge it, and load the merged model."""
    dtype, tokenizer = resolve_dtype(params.compute.dtype), load_tokenizer(folder)
    with rehearsed(f"evaluate {ITEMS} items of each benchmark"):
        candidate: Any = load_candidate(folder, saved, params.quantization, dtype)
        expected = logits_of(candidate, PROBE)
        model = HarnessModel(
            pretrained=candidate, tokenizer=tokenizer, batch_size=ITEMS, max_length=params.evaluate.max_length,
            trust_remote_code=False,
        )  # fmt: skip
        limited, tasks = params.evaluate.model_copy(update={"limit": ITEMS}), load_tasks(params.evaluate)
        for benchmark in limited.benchmarks:
            run_benchmark(model, benchmark, tasks[benchmark.name], limited)
    del candidate, model
    give_back_memory()
    if not is_mergeable(saved):
        print("rehearse: merge: not possible with this method; `tunegate run --until gate` is as far as it goes")
        return
    with rehearsed("merge and load the merged model"):
        merge = Merge(folder, saved, params.quantization, params.merge, tokenizer)
        write_merged(merge, scratch / "merged", scratch / "receipts", "rehearsal")
        found = logits_of(load_plain(scratch / "merged", dtype).eval(), PROBE)
    gap, spread = (found - expected).abs().max().item(), (expected.max() - expected.min()).item()
    print(f"rehearse: the merged model's logits differ by {gap / spread:.2%} of their spread", flush=True)
    if not torch.isfinite(found).all():
        raise MergeRefused("the merged model's logits are not finite; try merge.dtype float32")


def main() -> None:
    """Rehearse the steps of the workspace."""
    params = short(load_params())
    for needed in (paths.BASE_RECORD, paths.TRAIN_EXAMPLES, paths.VALIDATION_EXAMPLES):
        if not needed.is_file():
            raise FileInvalid(f"{needed}: not there yet; run `tunegate run --until validate`, then rehearse")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    set_determinism()
    set_threads(params.compute)
    base = read_json(paths.BASE_RECORD, BaseRecord)
    folder = base_folder(base)
    with tempfile.TemporaryDirectory(prefix="rehearse-") as scratch:
        saved = rehearse_training(params, base, folder, Path(scratch))
        rehearse_answering(params, folder, saved, Path(scratch))


if __name__ == "__main__":
    run_stage(main)
