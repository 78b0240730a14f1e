"""What `tunegate chat` finds to talk to, from records, DVC's cache and the registry."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flows import chat
from flows.chat import chat_command, make_plan
from flows.git import git
from flows.reproduce import checkout
from flows.retrain import retrain
from tasks.digests import digest_path
from tasks.errors import NotApproved, ParamsInvalid, PublishRefused, RunNotFound
from tasks.paths import STATE
from tests.flows.real_release import NAME
from tests.flows.test_variants import BASE_RUN, CUSTOMER, CUSTOMER_RUN, SMALL, put
from tests.flows.tiny_line import write_model
from tests.flows.tiny_repo import commit


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, lines: Callable[[str], Path], prefect_server: str) -> Path:
    """A release of the model of params.yaml, and a run of a variant that passed and was not released."""
    root = Path(shutil.copytree(lines("short"), tmp_path_factory.mktemp("chat") / "repo", symlinks=True))
    put(root, "customer", SMALL)
    commit(root, "a variant")
    retrain(str(root), BASE_RUN, return_state=True).result()
    retrain(str(root), CUSTOMER_RUN, variant="customer", release=False, return_state=True).result()
    return root


@pytest.fixture
def two_models(made: Path, tmp_path: Path, plain_git: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That repository, of this test's own, as the current folder."""
    root = Path(shutil.copytree(made, tmp_path / "repo", symlinks=True))
    monkeypatch.chdir(root)
    return root


def test_releases_and_runs_give_their_merged_models_their_adapters_and_one_base(two_models: Path) -> None:
    with ExitStack() as places:
        plan = make_plan(two_models, ["v0.0.1", CUSTOMER_RUN], 9, places)
        assert [(model.name, model.kind) for model in plan.models] == [
            (f"{NAME}@v0.0.1:merged", "merged"),
            (f"{CUSTOMER_RUN}:merged", "merged"),
            (f"{NAME}@v0.0.1", "adapter"),
            (CUSTOMER_RUN, "adapter"),
            ("base", "base"),
        ]
        folders = [Path(str(model.folder)) for model in plan.models if model.folder is not None]
        assert folders[0] == two_models / "registry" / NAME / "v0.0.1"
        assert all(folder.is_dir() for folder in folders)
        assert digest_path(folders[2]) == digest_path(two_models / "made/gate/files/data/train/adapter")
        assert plan.base is not None
        assert Path(plan.base.tokenizer, "tokenizer.json").is_file()
        assert (plan.system, plan.max_new_tokens) == ("Route the ticket as JSON.", 9)
    assert not any(folder.exists() for folder in folders[1:])
    assert len(git(two_models, "worktree", "list").splitlines()) == 1


def test_without_a_name_all_that_hold_their_stage_are_meant(two_models: Path) -> None:
    with ExitStack() as places:
        names = [model.name for model in make_plan(two_models, [], 9, places).models]
    assert names == [f"{NAME}@v0.0.1:merged", f"{NAME}@v0.0.1", "base"]
    git(two_models, "tag", f"{CUSTOMER}@v0.0.1", f"{NAME}@v0.0.1^{{commit}}")
    git(two_models, "tag", "--delete", f"{NAME}#production#1")
    with ExitStack() as places, pytest.raises(RunNotFound, match="no release holds its stage yet"):
        make_plan(two_models, [], 9, places)


def test_a_folder_is_a_model_by_itself(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    with ExitStack() as places:
        plan = make_plan(tmp_path, [str(tmp_path / "model")], 9, places)
    assert [(model.kind, model.folder) for model in plan.models] == [("merged", str(tmp_path / "model"))]
    assert (plan.base, plan.system) == (None, None)


def test_a_released_folder_that_was_changed_is_not_talked_to(two_models: Path) -> None:
    (two_models / "registry" / NAME / "v0.0.1" / "config.json").write_text("{}", encoding="utf-8")
    with ExitStack() as places, pytest.raises(PublishRefused, match=r"config\.json: differs"):
        make_plan(two_models, ["v0.0.1"], 9, places)


def test_an_adapter_that_is_not_the_one_on_record_is_refused(two_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bent(place: Path, *wanted: Path) -> None:
        checkout(place, *wanted)
        for config in place.glob("data/train/adapter/adapter_config.json"):
            config.unlink()
            config.write_text("{}", encoding="utf-8")

    monkeypatch.setattr(chat, "checkout", bent)
    with ExitStack() as places, pytest.raises(NotApproved, match="data/train/adapter has digest"):
        make_plan(two_models, [CUSTOMER_RUN], 9, places)


def test_adapters_of_bases_that_are_quantised_otherwise_are_not_mixed(two_models: Path) -> None:
    overlay = SMALL + "quantization:\n  bnb_4bit_quant_type: fp4\ncompute:\n  dtype: float32\n"
    put(two_models, "customer", overlay)
    again = "20260102-050607-cccc"
    retrain(str(two_models), again, variant="customer", release=False, return_state=True).result()
    with ExitStack() as places, pytest.raises(ParamsInvalid, match="another quantization and compute dtype: talk to"):
        make_plan(two_models, ["v0.0.1", again], 9, places)


def test_the_command_ends_as_the_conversation_does_and_leaves_nothing(
    two_models: Path, monkeypatch: pytest.MonkeyPatch, tunegate: Callable[..., tuple[int, str]]
) -> None:
    begun: list[list[str]] = []
    start = subprocess.Popen

    def popen(command: list[str], **options: Any) -> object:
        if command[1:3] != ["-m", "tasks.chat"]:
            return start(command, **options)
        begun.append(command)
        assert Path(command[-1]).is_file()
        return start([sys.executable, "-c", "raise SystemExit(7)"])

    monkeypatch.setattr(subprocess, "Popen", popen)
    assert chat_command(two_models, [CUSTOMER_RUN], 9) == 7
    assert len(begun) == 1
    assert len(git(two_models, "worktree", "list").splitlines()) == 1
    assert not list((two_models / STATE).glob("look-*"))
    assert tunegate("chat", "v9.9.9")[0] == 2
