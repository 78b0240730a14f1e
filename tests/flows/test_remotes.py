"""What was promoted is pushed to the git remote; what cannot be pushed is told and not lost."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import registry
from flows.branches import add_files
from flows.git import git
from flows.remotes import remote_of, without_credentials
from tasks.errors import WorkspaceInvalid
from tests.flows.real_release import NAME, RUNS

Tunegate = Callable[..., tuple[int, str]]


@pytest.fixture
def remote(released: Path, tmp_path: Path) -> Path:
    """A bare repository that `released` knows as origin."""
    bare = tmp_path / "origin.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    git(released, "remote", "add", "origin", str(bare))
    return bare


def refs(bare: Path) -> list[str]:
    return git(bare, "for-each-ref", "--format=%(refname:strip=2)").split()


def test_a_promotion_is_pushed_with_its_versions_and_the_record_of_its_run(
    released: Path, remote: Path, tunegate: Tunegate
) -> None:
    code, said = tunegate("promote", "v0.0.2")
    assert code == 0
    assert said.endswith("pushed to: origin\n")
    assert refs(remote) == [
        f"run/{RUNS[1]}", f"{NAME}#production#1", *(f"{NAME}@v0.0.{number}" for number in (1, 2, 3)),
    ]  # fmt: skip
    git(released, "tag", "mine")
    git(released, "tag", "other-model@v1.0.0")
    tunegate("rollback", "v0.0.1")
    assert not {"mine", "other-model@v1.0.0"} & set(refs(remote))
    assert f"{NAME}#production#2" in refs(remote)


def test_an_unreachable_remote_is_told_and_the_same_command_pushes_later(
    released: Path, remote: Path, tunegate: Tunegate
) -> None:
    remote.rename(remote.with_name("away"))
    code, said = tunegate("promote", "v0.0.1")
    assert code == 2
    assert said.startswith("error: done here, but origin does not know of it: ")
    assert "give the same command again once origin answers" in said
    holder = registry.stage_holder(released, NAME, "production")
    assert holder is not None
    assert holder.tag == f"{NAME}@v0.0.1"
    remote.with_name("away").rename(remote)
    code, said = tunegate("promote", "v0.0.1")
    assert (code, said) == (0, f"production is {NAME}@v0.0.1 already; nothing to do here\npushed to: origin\n")
    assert f"{NAME}#production#1" in refs(remote)


def test_of_two_clones_the_first_push_decides_and_the_second_is_taken_back(
    released: Path, remote: Path, tunegate: Tunegate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Path(shutil.copytree(released, tmp_path / "clone", symlinks=True))
    assert tunegate("promote", "v0.0.1", "--why", "first")[0] == 0
    monkeypatch.chdir(clone)
    code, said = tunegate("promote", "v0.0.2")
    assert code == 3
    assert f"refused: origin has {NAME}#production#1 already, from another clone" in said
    assert git(clone, "tag", "--list", f"{NAME}#*") == ""
    git(clone, "fetch", "--quiet", "origin", "--tags", "--force")
    assert tunegate("promote", "v0.0.2")[0] == 0
    assert git(remote, "rev-parse", f"{NAME}#production#2^{{commit}}") == git(
        clone, "rev-parse", f"{NAME}@v0.0.2^{{commit}}"
    )


def test_a_version_that_another_clone_registered_otherwise_is_told(
    released: Path, remote: Path, tunegate: Tunegate
) -> None:
    git(released, "push", "--quiet", "origin", f"HEAD:refs/tags/{NAME}@v0.0.3")
    code, said = tunegate("promote", "v0.0.1")
    assert code == 3
    assert f"origin has {NAME}@v0.0.3 of another clone at other commits" in said
    assert git(released, "tag", "--list", f"{NAME}#*") == f"{NAME}#production#1"


def test_a_run_that_another_clone_added_to_is_told_with_what_to_fetch(
    released: Path, remote: Path, tunegate: Tunegate, tmp_path: Path
) -> None:
    branch = f"run/{RUNS[0]}"
    git(released, "push", "--quiet", "origin", f"{branch}:{branch}")
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "--quiet", "--branch", branch, str(remote), str(other)], check=True)
    add_files(other, branch, {"theirs": "an approval"}, "theirs")
    git(other, "push", "--quiet", "origin", branch)
    add_files(released, branch, {"ours": "another"}, "ours")
    code, said = tunegate("promote", "v0.0.1")
    assert code == 3
    assert f"`git fetch origin +{branch}:{branch}` takes theirs" in said
    git(released, "fetch", "--quiet", "origin", f"+{branch}:{branch}")
    assert tunegate("promote", "v0.0.1")[0] == 0


def test_a_remote_that_does_not_answer_is_not_waited_for(released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_arguments: object, timeout: float, **_options: object) -> None:
        raise subprocess.TimeoutExpired("git", timeout)

    monkeypatch.setattr("flows.git.subprocess.run", silent)
    with pytest.raises(WorkspaceInvalid, match=r"git ls-remote origin in .*: no answer in 60 seconds"):
        git(released, "ls-remote", "origin", seconds=60)


def test_without_a_remote_nothing_is_pushed(released: Path, tunegate: Tunegate) -> None:
    code, said = tunegate("promote", "v0.0.1")
    assert code == 0
    assert "pushed" not in said


def test_of_several_remotes_none_is_guessed_and_that_is_told(released: Path, tunegate: Tunegate) -> None:
    git(released, "remote", "add", "one", "somewhere")
    git(released, "remote", "add", "two", "elsewhere")
    code, said = tunegate("promote", "v0.0.1")
    assert code == 0
    assert said.endswith("not pushed: several remotes and none is origin; name one by git config remote.pushDefault\n")


def test_the_remote_is_the_chosen_one_else_origin_else_the_only_one(short_line: Path) -> None:
    assert remote_of(short_line) is None
    git(short_line, "remote", "add", "upstream", "somewhere")
    assert remote_of(short_line) == "upstream"
    git(short_line, "remote", "add", "backup", "elsewhere")
    assert remote_of(short_line) is None
    git(short_line, "remote", "add", "origin", "anywhere")
    assert remote_of(short_line) == "origin"
    git(short_line, "config", "remote.pushDefault", "backup")
    assert remote_of(short_line) == "backup"


def test_no_password_of_an_address_is_told() -> None:
    said = "fatal: unable to access 'https://ada:s3cret@git.example.org/x.git/': no route"
    assert without_credentials(said) == "fatal: unable to access 'https://git.example.org/x.git/': no route"
