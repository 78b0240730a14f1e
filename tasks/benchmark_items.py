"""Stage `benchmark_items`: params.evaluate, tasks/evals, include_path -> data/benchmark_items/items.parquet.

The items that the gate will measure, from lm-eval's own task API: the same documents (test documents, else validation
documents), in the same order. `split` looks for them in the training rows.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks import paths
from tasks.benchmark_tasks import Tasks, broken, load_tasks
from tasks.entry import run_stage
from tasks.errors import FileInvalid
from tasks.item_texts import Rendered, own_texts, strings_of
from tasks.params import load_params
from tasks.records import BenchmarkItem
from tasks.tables import writing


def main() -> None:
    """Write the items of every benchmark."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with writing(paths.BENCHMARK_ITEMS / paths.ITEMS, BenchmarkItem) as items:
        for name, tasks in load_tasks(load_params().evaluate).items():
            texts = list(read_items(name, tasks))
            items.write(texts)
            print(f"benchmark_items: {name}: {len({text.item for text in texts}):,} items, {len(texts):,} texts")


def read_items(name: str, tasks: Tasks) -> Iterator[BenchmarkItem]:
    """The own texts of every item of one benchmark, counted through its tasks as the evaluation counts them.

    Raises:
        FileInvalid: an item cannot be rendered, or there are no texts at all.
    """
    try:
        rendered = [render(task, doc) for task in tasks.values() for doc in task.eval_docs]
    except Exception as error:  # noqa: BLE001  a definition is code and data of somebody else
        raise broken(name, error) from None
    texts = list(own_texts(name, rendered))
    if len({text.item for text in texts}) < len(rendered) or not rendered:
        lost = sorted(set(range(len(rendered))) - {text.item for text in texts})
        what = f"items {', '.join(map(str, lost[:5]))} of {len(rendered)} have no text" if rendered else "has no items"
        raise FileInvalid(
            f"benchmark {name}: {what} that training rows could be compared with; "
            "mend it, or take it out of params.yaml evaluate.benchmarks"
        )
    yield from texts


def render(task: Any, doc: Mapping[str, Any]) -> Rendered:
    """One document as lm-eval shows it to a model.

    Where the choices are whole contexts (Winogrande), lm-eval gives a number as the prompt: then the choices are it.
    """
    has_choices = task.config.doc_to_choice is not None
    choices = tuple(str(choice) for choice in task.doc_to_choice(doc)) if has_choices else ()
    prompt = task.doc_to_text(doc)
    return Rendered(
        fields=dict(strings_of(doc)),
        prompt=prompt if isinstance(prompt, str) else "\n".join(choices),
        target=_target(task.doc_to_target(doc), choices),
        choices=choices,
    )


def _target(target: object, choices: Sequence[str]) -> str:
    if isinstance(target, list):
        return _target(target[0], choices) if target else ""
    if isinstance(target, int) and 0 <= target < len(choices):
        return choices[target]
    return str(target)


if __name__ == "__main__":
    run_stage(main)
