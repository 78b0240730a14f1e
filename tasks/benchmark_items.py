"""Stage `benchmark_items`: params.evaluate, tasks/evals -> data/benchmark_items/items.parquet.

The items that the gate will measure, from lm-eval's own task API: the same documents (test documents, else validation
documents), in the same order. `split` looks for them in the training rows.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.tasks import TaskManager

from tasks import paths
from tasks.entry import run_stage
from tasks.errors import FileInvalid, ParamsInvalid, Unavailable
from tasks.item_texts import Rendered, own_texts, strings_of
from tasks.params import load_params
from tasks.records import BenchmarkItem
from tasks.tables import writing


def main() -> None:
    """Write the items of every benchmark."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    names = [benchmark.name for benchmark in load_params().evaluate.benchmarks]
    with writing(paths.BENCHMARK_ITEMS / paths.ITEMS, BenchmarkItem) as items:
        for name, task in load_tasks(names).items():
            texts = list(read_items(name, task))
            items.write(texts)
            print(f"benchmark_items: {name}: {len({text.item for text in texts}):,} items, {len(texts):,} texts")


def load_tasks(names: Sequence[str]) -> dict[str, Any]:
    """lm-eval's tasks by name; a group or a tag gives its tasks.

    Raises:
        ParamsInvalid: the harness does not know a benchmark.
        Unavailable: a benchmark's data could not be fetched.
        FileInvalid: a benchmark's definition or data is broken.
    """
    manager = TaskManager(include_path=str(paths.EVALS), include_defaults=False)
    if not set(names) <= set(manager.all_tasks):
        manager = TaskManager(include_path=str(paths.EVALS))  # reads the harness's own 13,000 definitions
    unknown = [name for name in names if name not in manager.all_tasks]
    if unknown:
        raise ParamsInvalid(
            f"params.yaml evaluate.benchmarks: lm-eval knows no {', '.join(unknown)}; see {paths.EVALS}"
        )
    tasks: dict[str, Any] = {}
    for name in names:
        tasks |= _load(manager, name)
    return tasks


def _load(manager: TaskManager, name: str) -> dict[str, Any]:
    try:
        return dict(manager.load([name])["tasks"])
    except (ConnectionError, TimeoutError) as error:
        raise Unavailable(
            f"benchmark {name}: its data cannot be fetched ({_first_line(error)}), so the training rows cannot be "
            "compared with it; mend the network or HF_ENDPOINT, or take it out of params.yaml evaluate.benchmarks"
        ) from None
    except Exception as error:  # noqa: BLE001  a definition is code and data of somebody else
        raise _broken(name, error) from None


def read_items(name: str, task: Any) -> Iterator[BenchmarkItem]:
    """The own texts of every item of one task, counted as lm-eval counts.

    Raises:
        FileInvalid: an item cannot be rendered, or there are no texts at all.
    """
    try:
        rendered = [render(task, doc) for doc in task.eval_docs]
    except Exception as error:  # noqa: BLE001  as in _load
        raise _broken(name, error) from None
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


def _broken(name: str, error: Exception) -> FileInvalid:
    return FileInvalid(
        f"benchmark {name}: its items cannot be read ({type(error).__name__}: {_first_line(error)}), so the training "
        f"rows cannot be compared with them; mend {paths.EVALS / name}, or take it out of "
        "params.yaml evaluate.benchmarks"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


if __name__ == "__main__":
    run_stage(main)
