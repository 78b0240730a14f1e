"""What answering costs: the time of a token and the memory of the weights, of base, base plus adapter and merged model.

Clocks differ from run to run, so this is in the run record and in no output.
"""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.files import write_json
from tasks.parity import Prompts, Reader
from tasks.paths import SERVING_VARIABLE
from tasks.records import ServedModel, Serving

TOKENS = 8
REPETITIONS = 3


def measure_serving(name: str, model: Any, prompts: Prompts) -> ServedModel:
    """One model by itself, one prompt at a time: the median time of a token after the prompt was read."""
    first = Prompts(prompts.ids[:1], prompts.mask[:1], prompts.answers[:1])
    reader = Reader(model, first)
    seconds = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        written = reader.greedy(set(), TOKENS)
        seconds.append((time.perf_counter() - started) / len(written[0]))
    memory_gb = model.get_memory_footprint() / 1e9
    return ServedModel(name=name, ms_per_token=1000 * statistics.median(seconds), memory_gb=memory_gb)


def tell_serving(models: Sequence[ServedModel], device: str) -> None:
    """Say what answering costs, and leave it for the run record where a run asks for it."""
    said = "; ".join(f"{one.name} {one.ms_per_token:.1f} ms, {one.memory_gb:.2f} GB" for one in models)
    print(f"merge: a token and the weights on {device}: {said}", flush=True)
    if path := os.environ.get(SERVING_VARIABLE):
        write_json(Path(path), Serving(device=device, models=tuple(models)))
