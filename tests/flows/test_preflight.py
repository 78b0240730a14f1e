"""What is refused before anything starts."""

from pathlib import Path

import pytest

from flows import workspace
from flows.git import git
from flows.preflight import check_input
from tasks.digests import digest_text
from tasks.errors import BaseInvalid, ParamsInvalid, SourceInvalid
from tests.flows.tiny_line import ROOT


@pytest.fixture
def root(short_line: Path) -> Path:
    """A line with the definitions of this project's benchmarks."""
    for name in ("ticket_routing", "general_knowledge"):
        definition = Path("tasks/evals", name, f"{name}.yaml")
        (short_line / definition).parent.mkdir(parents=True)
        (short_line / definition).write_bytes((ROOT / definition).read_bytes())
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
