"""The benchmarks of the parameters as lm-eval's task objects: the project's own, the user's folders', the harness's.

A benchmark may be a group or a tag: then its items are those of all its tasks, in the harness's order, counted through.
The one place where lm-eval's definitions are read, so that the items that `split` removes from the training rows are
the items that the gate measures.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager

from tasks import paths
from tasks.errors import FileInvalid, ParamsInvalid, Unavailable
from tasks.params import Benchmark, EvaluateParams

Tasks = Mapping[str, Any]
"""lm-eval's tasks of one benchmark, by their names."""


def include_paths(evaluate: EvaluateParams) -> list[Path]:
    """The folders of definitions besides the harness's own; of two definitions of one name the later one counts."""
    return [paths.EVALS, *map(Path, evaluate.include_path)]


def load_tasks(evaluate: EvaluateParams) -> dict[str, Tasks]:
    """The tasks of every benchmark, by the benchmark's name.

    Raises:
        ParamsInvalid: the harness does not know a benchmark, or would ignore the number of examples that is asked for.
        Unavailable: a benchmark's data could not be fetched.
        FileInvalid: a benchmark's definition or data is broken, or a folder of `include_path` is missing.
    """
    folders = include_paths(evaluate)
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise FileInvalid(f"params.yaml evaluate.include_path: {', '.join(missing)}: no such folder; mend the path")
    names = [benchmark.name for benchmark in evaluate.benchmarks]
    manager = TaskManager(include_path=[str(folder) for folder in folders], include_defaults=False)
    if not set(names) <= set(manager.all_tasks):
        manager = TaskManager(include_path=[str(folder) for folder in folders])  # the harness's 13,000 definitions too
    unknown = [name for name in names if name not in manager.all_tasks]
    if unknown:
        where = ", ".join(map(str, folders))
        raise ParamsInvalid(f"params.yaml evaluate.benchmarks: lm-eval knows no {', '.join(unknown)}; see {where}")
    return {
        benchmark.name: _with_examples(benchmark, _load(manager, benchmark.name)) for benchmark in evaluate.benchmarks
    }


def without_definitions() -> TaskManager:
    """A manager for tasks that are loaded; lm-eval makes one itself else, which reads all its definitions."""
    return TaskManager(include_defaults=False)


def _load(manager: TaskManager, name: str) -> Tasks:
    try:
        return dict(manager.load([name])["tasks"])
    except (ConnectionError, TimeoutError) as error:
        raise Unavailable(
            f"benchmark {name}: its data cannot be fetched ({first_line(error)}), so the training rows cannot be "
            "compared with it; mend the network or HF_ENDPOINT, or take it out of params.yaml evaluate.benchmarks"
        ) from None
    except Exception as error:  # noqa: BLE001  a definition is code and data of somebody else
        raise broken(name, error) from None


def _with_examples(benchmark: Benchmark, tasks: Tasks) -> Tasks:
    """`tasks`, whose prompts must hold as many examples as are asked for; lm-eval only logs that they will not.

    Raises:
        ParamsInvalid: a definition says that there are to be none.
    """
    for name, task in tasks.items():
        if benchmark.num_fewshot and task.get_config("num_fewshot") == 0:
            raise ParamsInvalid(
                f"params.yaml evaluate.benchmarks: {benchmark.name}: num_fewshot is {benchmark.num_fewshot}, and the "
                f"definition of {name} fixes it at 0, which lm-eval heeds; write 0"
            )
    return tasks


def broken(name: str, error: Exception) -> FileInvalid:
    """The failure of a benchmark whose definition or data cannot be read."""
    return FileInvalid(
        f"benchmark {name}: its items cannot be read ({type(error).__name__}: {first_line(error)}), so the training "
        f"rows cannot be compared with them; mend {paths.EVALS / name}, or take it out of "
        "params.yaml evaluate.benchmarks"
    )


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    return next(iter(str(error).splitlines()), type(error).__name__)
