"""One merge, in a process of its own, for `benchmarks.merge`: `python -m benchmarks.merge_once KIND BASE ADAPTER OUT`.

Prints the seconds of the merge, without starting Python and importing libraries, and the peak memory of all, as JSON.
PEFT merges as its documentation shows: the base in bfloat16 in memory, `merge_and_unload`, `save_pretrained`.
"""

import json
import sys
import time
from pathlib import Path

import torch
from peft import PeftModel

from benchmarks.harness import peak_gib
from tasks.merge_model import Merge, write_merged
from tasks.models import load_plain, load_tokenizer
from tasks.params import load_params


def main() -> None:
    """Merge and print."""
    contestant, base, adapter, out = sys.argv[1], *map(Path, sys.argv[2:])
    imports = peak_gib()
    started = time.perf_counter()
    if contestant == "ours":
        merge = Merge(base, adapter, None, load_params().merge, load_tokenizer(base))
        write_merged(merge, out / "model", out / "receipts", "benchmark")
    else:
        attached = PeftModel.from_pretrained(load_plain(base, torch.bfloat16), adapter)
        attached.merge_and_unload().save_pretrained(out / "model", max_shard_size="1GB")
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_gib": peak_gib(), "imports_gib": imports}))


if __name__ == "__main__":
    main()
