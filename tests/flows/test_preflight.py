"""What is refused before anything starts."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows import preflight, workspace
from flows.git import git
from flows.preflight import check_input, check_machine
from tasks.digests import digest_text
from tasks.errors import BaseInvalid, ParamsInvalid, SourceInvalid
from tasks.yaml_files import read_yaml


@pytest.fixture
def root(short_line: Path) -> Path:
    """A line of this test's own, with the definitions of this project's benchmarks."""
    return short_line


def edit(root: Path, old: str, new: str) -> None:
    text = (root / "params.yaml").read_text(encoding="utf-8")
    assert old in text
    (root / "params.yaml").write_text(text.replace(old, new), encoding="utf-8")


def test_what_is_all_there_passes(root: Path) -> None:
    assert check_input(root, release=True).release.name == "support-router"


def test_a_file_of_a_folder_that_git_does_not_know_is_not_left_out_silently(root: Path) -> None:
    edit(root, "path: data/sources/support_tickets.jsonl", "path: data/sources")
    (root / "data/sources/new.csv").write_text("text\n", encoding="utf-8")
    (root / "data/sources/notes.md").write_text("no rows\n", encoding="utf-8")
    with pytest.raises(SourceInvalid) as refusal:
        check_input(root, release=True)
    assert str(refusal.value).splitlines()[1:] == [
        "  source support_tickets: data/sources/new.csv: git does not know it", "`git add` it and run again",
    ]  # fmt: skip


def test_a_metric_that_the_benchmark_does_not_have_is_named_with_those_it_has(root: Path) -> None:
    edit(root, "metric: exact_match", "metric: exact_mach")
    with pytest.raises(ParamsInvalid, match="rule 1: ticket_routing has no metric 'exact_mach'; it has exact_match, q"):
        check_input(root, release=True)


def test_a_benchmark_of_lm_evals_own_is_left_to_lm_eval(root: Path) -> None:
    edit(root, "general_knowledge", "arc_easy")
    check_input(root, release=True)


@pytest.mark.parametrize(("name", "near"), [("arc_easi", "arc_easy"), ("general_knowlege", "general_knowledge")])
def test_a_benchmark_that_nobody_defines_is_named_with_what_looks_like_it(root: Path, name: str, near: str) -> None:
    text = (root / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(text.replace("general_knowledge", name), encoding="utf-8")
    with pytest.raises(ParamsInvalid, match=rf"evaluate\.benchmarks: nothing was started\n  {name}: .*{near}"):
        check_input(root, release=True)
    check_input(root, release=True, until="ingest")


def include(root: Path, folder: str = "mine") -> None:
    edit(root, "include_path: []", f"include_path: [{folder}]")


def add_own(root: Path, *, known: bool, dependent: bool) -> None:
    """A folder of the user's with one benchmark, known to git, and to DVC, or not."""
    include(root)
    (root / "mine").mkdir()
    (root / "mine/own.yaml").write_text("task: own\nmetric_list:\n  - metric: acc\n", encoding="utf-8")
    if known:
        git(root, "add", "mine")
    declared: dict[str, Any] = read_yaml(root / "dvc.yaml").value
    deps = ["params.yaml", *(["mine"] if dependent else [])]
    declared["stages"]["benchmark_items"] = {"cmd": "python -V", "deps": deps}
    (root / "dvc.yaml").write_text(json.dumps(declared), encoding="utf-8")


def test_a_folder_that_is_not_there_is_named(root: Path) -> None:
    include(root)
    with pytest.raises(ParamsInvalid, match=r"evaluate\.include_path: nothing was started\n  mine: no such folder"):
        check_input(root, release=True)


def test_a_folder_that_git_does_not_know_is_refused(root: Path) -> None:
    add_own(root, known=False, dependent=True)
    with pytest.raises(ParamsInvalid, match=r"mine/own\.yaml: git does not know it"):
        check_input(root, release=True)


def test_a_folder_whose_changes_dvc_would_not_notice_is_refused_with_what_to_write(root: Path) -> None:
    add_own(root, known=True, dependent=False)
    with pytest.raises(ParamsInvalid, match=r"mine: .* write `- mine` under deps of benchmark_items in"):
        check_input(root, release=True)


def test_a_benchmark_of_a_folder_of_the_users_is_known_with_its_metrics(root: Path) -> None:
    add_own(root, known=True, dependent=True)
    text = (root / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(text.replace("general_knowledge", "own"), encoding="utf-8")
    check_input(root, release=True)
    edit(root, "metric: acc\n", "metric: acc_norm\n")
    with pytest.raises(ParamsInvalid, match="rule 2: own has no metric 'acc_norm'; it has acc"):
        check_input(root, release=True)


def test_a_folder_outside_the_workspace_is_refused(root: Path) -> None:
    include(root, "../mine")
    with pytest.raises(ParamsInvalid, match=r"evaluate\.include_path: must be a path inside the workspace"):
        check_input(root, release=True)


def test_vllm_is_not_taken_silently_for_what_it_cannot_load(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = check_input(root, release=True)
    assert params.lora is not None
    dora = params.lora.model_copy(update={"use_dora": True})
    params = params.model_copy(update={"lora": dora, "quantization": None})
    monkeypatch.setattr(preflight, "has_cuda", lambda: True)
    check_machine(root, params)
    monkeypatch.setattr(preflight, "find_spec", lambda _: object())
    with pytest.raises(ParamsInvalid, match="vLLM cannot take this model: it does not load DoRA; write hf"):
        check_machine(root, params)


def test_a_base_folder_that_is_not_there_is_named(root: Path, tmp_path: Path) -> None:
    text = (root / "params.yaml").read_text(encoding="utf-8")
    start, end = text.index("  origin:\n"), text.index("sources:\n")
    origin = f"  origin:\n    source: path\n    path: {tmp_path}/gone\n"
    (root / "params.yaml").write_text(text[:start] + origin + text[end:], encoding="utf-8")
    with pytest.raises(BaseInvalid, match="gone: no such folder; nothing was started"):
        check_input(root, release=True)


def test_a_token_is_asked_for_only_when_the_run_may_publish(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(root))
    edit(root, "target: folder", "target: hub")
    edit(root, "repo_id: null\n  private", "repo_id: team/router\n  private")
    check_input(root, release=False)
    with pytest.raises(Exception, match="HF_TOKEN"):
        check_input(root, release=True)


def test_a_preview_leaves_no_trace(root: Path) -> None:
    before = git(root, "worktree", "list"), git(root, "branch", "--list"), git(root, "status", "--porcelain")
    with workspace.preview(root) as worktree:
        assert (worktree / "params.yaml").is_file()
    after = git(root, "worktree", "list"), git(root, "branch", "--list"), git(root, "status", "--porcelain")
    assert before == after
    assert list((root / ".tunegate").iterdir()) == []


def test_the_users_hooks_do_not_run_in_a_worktree(root: Path) -> None:
    hook = root / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    hook.chmod(0o755)
    with workspace.preview(root) as worktree:
        assert worktree.is_dir()


def test_a_pinned_file_is_looked_at_before_anything_starts(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "rows.jsonl"
    pinned = f"path: {place}\n    sha256: {digest_text('right')}"
    edit(root, "path: data/sources/support_tickets.jsonl\n    sha256: null", pinned)
    with pytest.raises(SourceInvalid, match=r"support_tickets: .*rows\.jsonl: no such file"):
        check_input(root, release=False)
    place.write_text("wrong", encoding="utf-8")
    with pytest.raises(
        SourceInvalid, match=rf"rows\.jsonl: has sha256 {digest_text('wrong')}, expected {digest_text('right')}"
    ):
        check_input(root, release=False)
    place.write_text("right", encoding="utf-8")
    check_input(root, release=False)


def test_a_pattern_must_match_files_that_git_knows(root: Path) -> None:
    edit(root, "path: data/sources/support_tickets.jsonl", 'path: "data/sources/**/*.csv"')
    with pytest.raises(
        SourceInvalid, match=r"support_tickets: data/sources/\*\*/\*\.csv: no file matches this pattern"
    ):
        check_input(root, release=False)
    (root / "data/sources/deep").mkdir()
    (root / "data/sources/deep/new.csv").write_text("text\n", encoding="utf-8")
    with pytest.raises(SourceInvalid, match=r"support_tickets: data/sources/deep/new\.csv: git does not know it"):
        check_input(root, release=False)


def test_what_only_later_stages_use_is_not_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(root))
    edit(root, "target: folder", "target: hub")
    edit(root, "repo_id: null\n  private", "repo_id: team/router\n  private")
    edit(root, "metric: exact_match", "metric: exact_mach")
    with pytest.raises(ParamsInvalid, match="exact_mach"):
        check_input(root, release=True, until="gate")
    check_input(root, release=True, until="ingest")


def test_messages_name_the_file_that_was_given(root: Path, tmp_path: Path) -> None:
    text = (root / "params.yaml").read_text(encoding="utf-8")
    other = tmp_path / "other.yaml"
    other.write_text(text.replace("metric: exact_match", "metric: exact_mach"), encoding="utf-8")
    with pytest.raises(ParamsInvalid, match=r"other\.yaml gate\.rules: nothing was started"):
        check_input(root, release=True, params_file=other)
