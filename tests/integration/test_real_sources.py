"""`tunegate run --until validate` on real data sets, each with parameters of its own: the ledger sums up.

The data sets are not part of the project; they are found through `TUNEGATE_REALDATA` or in `../shared/data`.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tasks.digests import digest_file
from tests.integration.conftest import ROOT, dvc
from tests.realdata import REALDATA

pytestmark = [pytest.mark.slow, pytest.mark.realdata]
TUNEGATE = str(Path(sys.executable).parent / "tunegate")
LONGER: dict[str, dict[str, Any]] = {
    "clean": {
        "min_prompt_chars": 2, "max_prompt_chars": 20_000, "max_completion_chars": 20_000, "max_tokens": 2048,
    },
    "validate": {"min_train_examples": 100, "min_validation_examples": 5, "max_dropped_share": 0.6},
    "train": {"max_length": 2048},
}  # fmt: skip
AUTO = {"kind": "auto", "system": "", "tools": "native"}
BANKING = {
    "kind": "template",
    "system": "Name the intent of the message.",
    "prompt": "{text}",
    "completion": "{category}",
    "required": ["text"],
    "allowed": {"category": json.loads((REALDATA / "banking77/categories.json").read_text(encoding="utf-8"))}
    if (REALDATA / "banking77").is_dir()
    else {},
}
SOURCES: dict[str, list[tuple[str, str, dict[str, Any]]]] = {  # role, file, layout
    "alpaca": [("train", "alpaca/alpaca_data.json", AUTO)],
    "banking77": [("train", "banking77/train.csv", BANKING), ("test", "banking77/test.csv", BANKING)],
    "gsm8k": [("train", "gsm8k/train.jsonl", AUTO), ("test", "gsm8k/test.jsonl", AUTO)],
    "dolly": [("train", "dolly_small/dolly_hhrlhf_train_small.jsonl", AUTO)],
    "alpaca_demo": [("train", "llamafactory_demo/alpaca_en_demo.json", AUTO)],
    "glaive": [("train", "llamafactory_demo/glaive_toolcall_en_demo.json", AUTO | {"tools": "text"})],
}
ROWS = {"alpaca": 52_002, "banking77": 13_083, "gsm8k": 8_792, "dolly": 1_000, "alpaca_demo": 999, "glaive": 300}
PREFERENCES = {"dpo_en_demo": "DPO", "kto_en_demo": "KTO"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with the base model in it, so that no run has to fetch it."""
    assert (REALDATA / "alpaca").is_dir(), "set TUNEGATE_REALDATA"
    folder = tmp_path_factory.mktemp("real") / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    dvc(folder, "cache", "dir", "--local", str(ROOT / ".dvc/cache"))
    return folder


def params_file(folder: Path, name: str, sources: list[tuple[str, str, dict[str, Any]]]) -> Path:
    """The project's parameters with the sources of one data set, and bounds for longer texts."""
    entries = [
        {
            "name": f"{name}_{place}", "role": role, "path": str(REALDATA / file),
            "sha256": digest_file(REALDATA / file), "repo_id": None, "revision": None,
            "weight": 1.0, "layout": layout,
        }
        for place, (role, file, layout) in enumerate(sources)
    ]  # fmt: skip
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, longer in LONGER.items():
        assert longer.keys() <= params[section].keys()
        params[section].update(longer)
    params["clean"]["pii"]["in_completion"] = "mask"
    params["sources"] = json.loads(json.dumps(entries))  # copies: a layout that two share would be written as an alias
    path = folder / f"{name}.yaml"
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    return path


def tunegate(clone: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([TUNEGATE, *arguments], cwd=clone, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", SOURCES)
def test_a_run_until_validate_ends_with_a_ledger_that_sums_up(clone: Path, tmp_path: Path, name: str) -> None:
    done = tunegate(clone, "run", "--until", "validate", "--params", str(params_file(tmp_path, name, SOURCES[name])))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    found = re.search(r"run (\d{8}-\d{6}-[0-9a-f]{4})", done.stdout)
    assert found
    fates = tunegate(clone, "data", "diff", found[1], found[1], "--json")
    final = [count["a"] for count in json.loads(fates.stdout)["counts"] if count["fate"] in {"dropped", "kept"}]
    assert sum(final) == ROWS[name]


@pytest.mark.parametrize("name", PREFERENCES)
def test_a_preference_file_is_refused_and_its_layout_named(clone: Path, tmp_path: Path, name: str) -> None:
    sources = [("train", f"llamafactory_demo/{name}.json", AUTO)]
    done = tunegate(clone, "run", "--until", "validate", "--params", str(params_file(tmp_path, name, sources)))
    assert done.returncode == 2
    assert f"a {PREFERENCES[name]} preference layout" in done.stdout + done.stderr
