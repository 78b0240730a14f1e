"""One training at the largest batch that its parameters allow, in a process of its own; prints its peak as JSON.

`python -m benchmarks.plan_once CASE FOLDER`: a case of `benchmarks.plan` on the model in FOLDER. The peak is this
process's largest resident set (ru_maxrss) less what was resident after the imports, so it holds loading, the check
before step one and three steps with validation left out.
"""

import json
import resource
import sys
import tempfile
from pathlib import Path

from benchmarks.plan import CASES
from tasks.models import load_tokenizer, set_threads
from tasks.params import Params
from tasks.records import Example, Message
from tasks.train import prepare
from tasks.training_rows import labelled, render

WORD = " the"
STEPS = 3


def resident_bytes() -> int:
    """The resident set of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize()


def example(number: int, words: int) -> Example:
    """A conversation whose answer is `words` long, and which is little else, so that nearly every token has loss."""
    messages = (Message(role="user", content="Go"), Message(role="assistant", content=WORD * words))
    return Example(id=f"plan-{number}", source="plan", role="train", file="plan.jsonl", line=number, messages=messages)


def full_length_examples(folder: Path, params: Params) -> list[Example]:
    """Three batches of rows of `max_length` and a token or a few less, so that each batch is padded."""
    tokenizer = load_tokenizer(folder)
    around = len(labelled(render(example(0, 10), tokenizer), tokenizer)[0]) - 10
    count = STEPS * params.train.per_device_train_batch_size
    return [example(number, params.train.max_length - around - number) for number in range(count)]


def main() -> None:
    """Train and print."""
    case, folder = CASES[sys.argv[1]], Path(sys.argv[2])
    params = case.params()
    set_threads(params.compute)
    before = resident_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        prepare(params, folder, full_length_examples(folder, params), [], Path(scratch)).trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"baseline": before, "peak": peak - before}))


if __name__ == "__main__":
    main()
