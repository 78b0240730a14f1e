"""Claim: the harness as Tunegate runs it gives the default base the scores of its model card, within the interval.

Needs a workspace in which stage `base` was run, and the test items of ARC, PIQA and OpenBookQA, which are no part of
the project: they are found through `TUNEGATE_REALDATA` or in `../shared/data`. Scored are the base's own weights, not
quantised, without a chat template: each choice as a continuation of its question (the cloze form), the likeliest per
character wins (acc_norm).

The card's figures were taken with lighteval, in bfloat16, zero-shot and cloze too. It names no figure for OpenBookQA,
which is shown only. Of every benchmark `--items` are drawn by a seed; 0 takes all.
"""

import argparse
import json
import logging
import math
import random
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Claim, show
from benchmarks.scaled_alpaca import REALDATA
from tasks import paths
from tasks.benchmark_tasks import load_tasks
from tasks.evaluate import Subject, build_model, run_benchmark
from tasks.evaluate_parsing import parse_scores
from tasks.files import read_json
from tasks.models import resolve_dtype
from tasks.params import Benchmark, Params, load_params
from tasks.records import BaseRecord, Score

PUBLISHED = {"ARC (average)": 0.373, "PIQA": 0.663}
"""Of the model card of SmolLM2-135M-Instruct."""
SEED, CONFIDENCE_FACTOR = 1, 1.96
ITEMS, QUICK_ITEMS = 600, 12
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {items}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: query
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""


@dataclass(frozen=True)
class Estimate:
    """A score and its standard error."""

    value: float
    stderr: float


def main() -> None:
    """Score, print, write."""
    arguments = parse_arguments()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    wanted = QUICK_ITEMS if arguments.quick else arguments.items
    found = {name: Estimate(score.value, score.stderr or 0.0) for name, score in score_all(wanted).items()}
    for name, one in found.items():
        print(f"{name}: acc_norm {one.value:.3f} ± {one.stderr:.3f}", flush=True)
    easy, challenge = found["arc_easy_cloze"], found["arc_challenge_cloze"]
    average = Estimate((easy.value + challenge.value) / 2, math.hypot(easy.stderr, challenge.stderr) / 2)
    claims = [claim("ARC (average)", average), claim("PIQA", found["piqa_cloze"])]
    show("published scores", [], claims, is_quick=arguments.quick, path=arguments.json)


def parse_arguments() -> argparse.Namespace:
    """`--quick`, `--json FILE`, `--items N`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute; shows that it runs, is not the claim")
    parser.add_argument("--json", type=Path, help="write the claims here")
    parser.add_argument("--items", type=int, default=ITEMS, help="how many of each benchmark; 0 takes all")
    return parser.parse_args()


def claim(name: str, found: Estimate) -> Claim:
    """Our figure lies as many interval halves from the published one; at most one is asked."""
    half = CONFIDENCE_FACTOR * found.stderr
    what = f"{name}: {found.value:.3f} ± {half:.3f}, published {PUBLISHED[name]:.3f}"
    return Claim(what, abs(found.value - PUBLISHED[name]) / half, "of the interval's half", 1.0, "max")


def score_all(wanted: int) -> dict[str, Score]:
    """acc_norm of the default base on each benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        for name, items in read_all().items():
            write_task(Path(folder), name, drawn(list(items), wanted))
        params = settings(load_params(), folder)
        base = read_json(paths.BASE_RECORD, BaseRecord)
        model = build_model(Subject("base", base, None, None), params.evaluate, resolve_dtype("auto"), "hf")
        tasks = load_tasks(params.evaluate)
        found = {}
        for benchmark in params.evaluate.benchmarks:
            results = run_benchmark(model, benchmark, tasks[benchmark.name], params.evaluate)
            (found[benchmark.name],) = parse_scores(benchmark.name, results)
        return found


def settings(params: Params, folder: str) -> Params:
    """The parameters, with these benchmarks, and without a chat template."""
    benchmarks = [Benchmark(name=name, role="report", num_fewshot=0) for name in read_all()]
    changed = {"benchmarks": benchmarks, "include_path": [folder], "apply_chat_template": False, "max_length": 1024}
    return params.model_copy(update={"evaluate": params.evaluate.model_copy(update=changed | {"limit": None})})


def write_task(folder: Path, name: str, items: list[Mapping[str, Any]]) -> None:
    """One benchmark as lm-eval reads it."""
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    (folder / f"{name}.yaml").write_text(TASK.format(name=name, items=path), encoding="utf-8")


def drawn(items: list[Mapping[str, Any]], wanted: int) -> list[Mapping[str, Any]]:
    """So many of the items, by the seed, in their order; all of them for 0."""
    if not wanted or wanted >= len(items):
        return items
    chosen = sorted(random.Random(SEED).sample(range(len(items)), wanted))  # noqa: S311  no secret
    return [items[place] for place in chosen]


def read_all() -> dict[str, Iterator[Mapping[str, Any]]]:
    """The items of every benchmark, as question, choices and the place of the right one."""
    folder = REALDATA / "benchmarks"
    if not folder.is_dir():
        raise SystemExit(f"{REALDATA}: no folder benchmarks; set TUNEGATE_REALDATA")
    return {
        "arc_easy_cloze": read_arc(folder / "ARC-Easy_test.json"),
        "arc_challenge_cloze": read_arc(folder / "ARC-Challenge_test.json"),
        "piqa_cloze": read_lines(folder / "piqa.jsonl", "{query}Answer:"),
        "openbookqa_cloze": read_lines(folder / "openbook_qa.jsonl", "{query}"),
    }


def read_arc(path: Path) -> Iterator[Mapping[str, Any]]:
    """ARC out of a file in which each question is one text with its numbered answers."""
    for row in json.loads(path.read_text(encoding="utf-8")):
        asked, _, rest = row["instruction"].partition("\n\nAnswer1: ")
        question = asked.removeprefix("Please choose the correct answer to the question: ")
        choices = re.split(r"\s+Answer\d: ", rest.partition("\n\nAnswer format:")[0])
        gold = int(row["answer"].removeprefix("answer")) - 1
        yield {"query": f"Question: {question}\nAnswer:", "choices": [one.strip() for one in choices], "gold": gold}


def read_lines(path: Path, prompt: str) -> Iterator[Mapping[str, Any]]:
    """A file of one item a line, its question put into `prompt`."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield {"query": prompt.format(query=row["query"]), "choices": row["choices"], "gold": row["gold"]}


if __name__ == "__main__":
    main()
