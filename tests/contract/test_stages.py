"""dvc.yaml, the code and params.yaml hold together."""

import ast
from pathlib import Path
from typing import Any

import pytest

from flows.reproduce import read_stages
from flows.retrain import LAST_BEFORE_RELEASE
from tasks.params import Params
from tasks.yaml_files import read_yaml
from tests.contract.imports import ROOT, reached

STAGES: dict[str, Any] = dict(read_yaml(ROOT / "dvc.yaml").value["stages"])  # type: ignore[call-overload]


def module_of(stage: str) -> Path:
    words = STAGES[stage]["cmd"].split()
    return ROOT / f"{words[words.index('-m') + 1].replace('.', '/')}.py"


def sections_read(module: Path) -> set[str]:
    """The sections of the parameters that a module, or one that it reaches, reads as `params.<section>`."""
    files = [name for name in reached(module) if not name.startswith("tasks/params")]
    trees = [ast.parse((ROOT / name).read_text(encoding="utf-8")) for name in files]
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Attribute):
            owner = node.value
            is_params = isinstance(owner, ast.Name) and owner.id == "params"
            is_loaded = (
                isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "load_params"
            )
            if is_params or is_loaded:
                names.add(node.attr.rstrip("_"))
    return names & {field.alias or name for name, field in Params.model_fields.items()}


@pytest.mark.parametrize("stage", STAGES)
def test_the_deps_of_a_stage_are_the_first_party_files_that_it_reaches(stage: str) -> None:
    code = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert code == reached(module_of(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_the_params_of_a_stage_are_the_sections_that_its_module_reads(stage: str) -> None:
    assert set(STAGES[stage]["params"]) == sections_read(module_of(stage))


def test_the_stages_are_those_of_the_line_in_its_order() -> None:
    assert [stage.name for stage in read_stages(ROOT)] == [
        "base",
        "ingest",
        "clean",
        "dedup",
        "benchmark_items",
        "split",
        "validate",
        "evaluate_base",
        "train",
        "evaluate_candidate",
        "gate",
        "merge",
    ]


def test_the_flow_stops_at_a_stage_that_exists() -> None:
    assert LAST_BEFORE_RELEASE in STAGES


def test_no_output_belongs_to_two_stages() -> None:
    outs = [out for stage in STAGES.values() for out in stage["outs"]]
    assert len(outs) == len(set(outs))


def test_every_dep_that_no_stage_makes_is_in_the_repository() -> None:
    made = tuple(out for stage in STAGES.values() for out in stage["outs"])
    given = {dep for stage in STAGES.values() for dep in stage["deps"] if not dep.startswith(made)}
    assert [dep for dep in sorted(given) if not (ROOT / dep).exists()] == []
