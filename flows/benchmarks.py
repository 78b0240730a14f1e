"""What can be known of the benchmarks before anything is started, without lm-eval, whose import takes seconds.

Definitions are read as text: their tags (`!function`) are for lm-eval alone to resolve. What is in no text is refused
here; what is wrong in other ways the stage `benchmark_items` finds, which runs before the training.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from flows.git import git
from flows.reproduce import read_stages
from tasks.params import Params
from tasks.paths import EVALS

METRIC = re.compile(r"^ *-? *metric: *([\w@.-]+)", re.MULTILINE)
NAMED = re.compile(r"""^ *["']?(?:(?:task|group|tag)["']?:|-)(.*)""", re.MULTILINE)
"""A line that may give a name: that of a task, a group or a tag, or an entry of a list of them."""
NAME = re.compile(r"[\w.:/+()-]+")
DEFINITIONS = {"", ".yaml", ".yml"}
"""Templates that the harness's definitions include have no suffix, and may name tags."""
READ_BY = ("benchmark_items", "evaluate_base", "evaluate_candidate")


def misplaced_folders(root: Path, params: Params) -> Iterator[str]:
    """Folders of the user's that a run would not see, or whose changes would not be noticed."""
    stages = {stage.name: stage for stage in read_stages(root)}
    for folder in params.evaluate.include_path:
        if not (root / folder).is_dir():
            yield f"{folder}: no such folder; mend the path"
            continue
        unknown = git(root, "ls-files", "--others", "-z", "--", f":(literal){folder}").split("\0")
        for name in filter(None, unknown):
            if "__pycache__" not in name:
                yield f"{name}: git does not know it, and a run takes what git tracks; `git add` it"
        blind = [name for name in READ_BY if name in stages and not _depends_on(stages[name].deps, Path(folder))]
        if blind:
            where = f"under deps of {', '.join(blind)} in dvc.yaml"
            yield f"{folder}: a change of it would go unnoticed; write `- {folder}` {where}"


def _depends_on(deps: tuple[str, ...], folder: Path) -> bool:
    return any(folder.is_relative_to(dep) for dep in deps)


def unknown_benchmarks(root: Path, params: Params) -> Iterator[str]:
    """Benchmarks that no definition names, with the names that look like theirs."""
    own = set().union(*(_names(folder) for folder in _folders(root, params)))
    wanted = [benchmark.name for benchmark in params.evaluate.benchmarks if benchmark.name not in own]
    known = own | _names(_harness_tasks()) if wanted else own
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            places = ", ".join(map(str, _shown(params)))
            yield f"{name}: neither {places} nor lm-eval has such a task, group or tag{hint}"


def unknown_metrics(root: Path, params: Params) -> Iterator[str]:
    """Rules on metrics that their benchmark's own definition does not list; one that lists none is left to lm-eval."""
    definitions = _definitions(root, params)
    for index, rule in enumerate(params.gate.rules):
        known = METRIC.findall(definitions.get(rule.benchmark, ""))
        if known and rule.metric not in known:
            yield f"rule {index + 1}: {rule.benchmark} has no metric {rule.metric!r}; it has {', '.join(known)}"


def _definitions(root: Path, params: Params) -> Mapping[str, str]:
    """The text of each file of the project's and the user's folders, by the task that it defines."""
    found = {}
    for folder in _folders(root, params):
        for path in sorted(folder.rglob("*.yaml")):
            text = path.read_text(encoding="utf-8", errors="replace")
            if task := re.search(r"""^task: *["']?([\w.:+()-]+)""", text, re.MULTILINE):
                found[task[1]] = text
    return found


def _shown(params: Params) -> list[Path]:
    return [EVALS, *map(Path, params.evaluate.include_path)]


def _folders(root: Path, params: Params) -> list[Path]:
    return [root / folder for folder in _shown(params)]


def _harness_tasks() -> Path:
    found = find_spec("lm_eval")  # finds the package without importing it
    return Path(str(found and found.origin)).parent / "tasks"


def _names(folder: Path) -> set[str]:
    """Every word in `folder` that may be a task's, a group's or a tag's name, and some that are none."""
    files = (path for path in folder.rglob("*") if path.suffix in DEFINITIONS and path.is_file())
    lines = (line for path in files for line in NAMED.findall(path.read_text(encoding="utf-8", errors="replace")))
    return {name for line in lines for name in NAME.findall(line)}
