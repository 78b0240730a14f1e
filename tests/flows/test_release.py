import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gto import api

from flows import registry, workspace
from flows.git import git
from flows.record import commit_record
from flows.release import identical_release
from flows.run_record import ReleaseRecord, RunRecord
from tasks import paths
from tasks.digests import combine_digests, digest_text
from tasks.errors import PublishRefused
from tasks.files import read_json, write_json, write_text
from tasks.params import Params, load_params
from tasks.records import Champion, DataProfile
from tests.flows.fake_run import passed_record
from tests.flows.tiny_line import ROOT, evaluation

NAME, RUN = "support-router", "20261120-081502-3f9c"


def release(version: str, digest: str = "a" * 64) -> ReleaseRecord:
    return ReleaseRecord(
        name=NAME, version=version, tag=f"{NAME}@{version}", target="folder", location=f"registry/{NAME}/{version}",
        digest=digest, promoted_stage="production",
    )  # fmt: skip


def put_on_record(root: Path, described: ReleaseRecord, run_id: str = RUN, profile: DataProfile | None = None) -> str:
    """A run with that release, on its branch, with the candidate's scores and its data's profile beside its record."""
    record: RunRecord = passed_record().model_copy(update={"run_id": run_id, "release": described})
    place = workspace.open_place(root, run_id)
    write_json(place.worktree / paths.EVALUATE_CANDIDATE / paths.EVALUATION, evaluation("candidate", 0.75))
    if profile is not None:
        write_json(place.worktree / paths.DATA_PROFILE, profile)
    made = commit_record(place, record)
    workspace.close_place(place)
    return made


def held_by(root: Path) -> str | None:
    """The tag of the version that holds production."""
    holder = registry.stage_holder(root, NAME, "production")
    return holder.tag if holder else None


@pytest.mark.parametrize(
    ("tags", "following"),
    [([], "v0.0.1"), (["v0.0.9", "v0.0.10"], "v0.0.11"), (["v0.1.0", "v0.0.7"], "v0.1.1")],
    ids=["none", "numbers", "minor"],
)
def test_the_next_version_follows_the_highest_number(short_line: Path, tags: list[str], following: str) -> None:
    for tag in tags:
        git(short_line, "tag", f"{NAME}@{tag}")
    git(short_line, "tag", "other-model@v9.0.0")
    assert registry.next_version(short_line, NAME) == following


def test_registering_the_same_commit_again_changes_nothing(short_line: Path) -> None:
    head = git(short_line, "rev-parse", "HEAD")
    registry.register(short_line, release("v0.0.1"), head)
    registry.register(short_line, release("v0.0.1"), head)
    assert git(short_line, "tag", "--list") == f"{NAME}@v0.0.1"


def test_a_machine_without_a_git_identity_can_release(short_line: Path, tmp_path: Path) -> None:
    """In a process of its own: libgit2 reads the home folder once."""
    code = (
        "import sys; from pathlib import Path\n"
        "from flows import registry; from tests.flows.test_release import release\n"
        "root, made = Path(sys.argv[1]), release('v0.0.1')\n"
        "registry.register(root, made, sys.argv[2]); registry.promote(root, made, 'production')\n"
    )
    environment = os.environ | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    head = git(short_line, "rev-parse", "HEAD")
    subprocess.run([sys.executable, "-c", code, str(short_line), head], cwd=ROOT, env=environment, check=True)
    makers = git(short_line, "for-each-ref", "--format=%(taggername)%(taggeremail)", "refs/tags").splitlines()
    assert makers == ["Tunegate<tunegate@localhost>"] * 2


def test_a_version_never_moves_to_another_commit(short_line: Path) -> None:
    registry.register(short_line, release("v0.0.1"), git(short_line, "rev-parse", "HEAD"))
    other = put_on_record(short_line, release("v0.0.1"))
    with pytest.raises(PublishRefused, match=rf"{NAME}@v0.0.1 names .*, not .*; run again for a new version"):
        registry.register(short_line, release("v0.0.1"), other)


def test_a_stage_is_held_by_the_newest_assignment(short_line: Path) -> None:
    for number, run_id in ((1, RUN), (2, "20261121-081502-77aa")):
        described = release(f"v0.0.{number}")
        registry.register(short_line, described, put_on_record(short_line, described, run_id))
        registry.promote(short_line, described, "production")
        registry.promote(short_line, described, "production")
    assert held_by(short_line) == f"{NAME}@v0.0.2"
    assert git(short_line, "tag", "--list", f"{NAME}#*").split() == [f"{NAME}#production#1", f"{NAME}#production#2"]


def test_promoting_an_older_version_is_a_rollback(short_line: Path) -> None:
    for number, run_id in ((1, RUN), (2, "20261121-081502-77aa")):
        described = release(f"v0.0.{number}")
        registry.register(short_line, described, put_on_record(short_line, described, run_id))
        registry.promote(short_line, described, "production")
    registry.promote(short_line, release("v0.0.1"), "production")
    assert held_by(short_line) == f"{NAME}@v0.0.1"
    assert registry.champion(short_line, NAME, "production")[0].run == RUN


def test_nobody_is_champion_before_the_first_promotion(short_line: Path) -> None:
    assert registry.champion(short_line, NAME, "production") == (Champion(), None)
    assert registry.stage_holder(short_line, NAME, "production") is None


def test_the_champion_is_read_from_the_commit_that_the_stage_names(short_line: Path) -> None:
    made = put_on_record(short_line, release("v0.0.1"))
    registry.register(short_line, release("v0.0.1"), made)
    registry.promote(short_line, release("v0.0.1"), "production")
    git(short_line, "branch", "-D", f"run/{RUN}")
    champion, record = registry.champion(short_line, NAME, "production")
    assert (champion.release, champion.run, champion.commit) == (f"{NAME}@v0.0.1", RUN, made)
    assert champion.evaluation == evaluation("champion", 0.75)
    assert record is not None
    assert record.release == release("v0.0.1")


def test_a_stage_that_names_a_commit_without_a_record_is_refused(short_line: Path) -> None:
    registry.register(short_line, release("v0.0.1"), git(short_line, "rev-parse", "HEAD"))
    registry.promote(short_line, release("v0.0.1"), "production")
    with pytest.raises(PublishRefused, match=f"holds {NAME} in production, but it has no run record"):
        registry.champion(short_line, NAME, "production")


def test_the_champion_file_is_the_same_for_the_same_champion(tmp_path: Path) -> None:
    champion = Champion(release=f"{NAME}@v0.0.1", run=RUN, commit="c" * 40, evaluation=evaluation("champion", 0.75))
    registry.write_champion(tmp_path, champion)
    text = (tmp_path / paths.CHAMPION).read_bytes()
    registry.write_champion(tmp_path, champion)
    assert (tmp_path / paths.CHAMPION).read_bytes() == text
    assert read_json(tmp_path / paths.CHAMPION, Champion) == champion


def hold_production(root: Path) -> tuple[ReleaseRecord, Path]:
    """A release of one file that is registered, promoted and in its folder."""
    folder = root / "registry" / NAME / "v0.0.1"
    write_text(folder / "config.json", "{}")
    write_text(folder / "README.md", "a card is no part of the model")
    held = release("v0.0.1", combine_digests({"config.json": digest_text("{}")}))
    registry.register(root, held, put_on_record(root, held))
    registry.promote(root, held, "production")
    return held, folder


def test_the_bytes_that_hold_the_stage_need_no_release(short_line: Path) -> None:
    held, _ = hold_production(short_line)
    params = load_params(short_line / "params.yaml")
    assert identical_release(short_line, params, held.digest) == held
    assert identical_release(short_line, params, "b" * 64) is None


def test_bytes_whose_folder_is_gone_or_changed_are_released_again(short_line: Path) -> None:
    held, folder = hold_production(short_line)
    params = load_params(short_line / "params.yaml")
    write_text(folder / "config.json", "{ }")
    assert identical_release(short_line, params, held.digest) is None
    shutil.rmtree(folder)
    assert identical_release(short_line, params, held.digest) is None


def test_the_same_bytes_for_another_target_are_a_release_of_their_own(short_line: Path) -> None:
    registry.register(short_line, release("v0.0.1"), put_on_record(short_line, release("v0.0.1")))
    registry.promote(short_line, release("v0.0.1"), "production")
    text = (short_line / "params.yaml").read_text(encoding="utf-8").replace("target: folder", "target: hub")
    (short_line / "params.yaml").write_text(text.replace("repo_id: null\n  private", "repo_id: team/a\n  private"))
    assert identical_release(short_line, load_params(short_line / "params.yaml"), "a" * 64) is None


@pytest.mark.parametrize(
    ("location", "is_same"),
    [("team/router", True), ("team/router-v2", False), ("my-team/router", False)],
    ids=["itself", "a longer name", "another team"],
)
def test_a_repository_whose_name_only_contains_the_wanted_one_is_another(
    short_line: Path, location: str, is_same: bool
) -> None:
    held = release("v0.0.1").model_copy(update={"target": "hub", "location": location})
    registry.register(short_line, held, put_on_record(short_line, held))
    registry.promote(short_line, held, "production")
    params = load_params(short_line / "params.yaml")
    asked = params.release.model_copy(update={"target": "hub", "repo_id": "team/router"})
    known = identical_release(short_line, params.model_copy(update={"release": asked}), held.digest)
    assert known == (held if is_same else None)


def register_only(root: Path) -> ReleaseRecord:
    """A release of one file that is registered and in its folder, and holds no stage."""
    write_text(root / "registry" / NAME / "v0.0.1" / "config.json", "{}")
    made = release("v0.0.1", combine_digests({"config.json": digest_text("{}")}))
    registered = made.model_copy(update={"promoted_stage": None})
    registry.register(root, registered, put_on_record(root, registered))
    return registered


def asking(root: Path, *, promote: bool) -> Params:
    params = load_params(root / "params.yaml")
    return params.model_copy(update={"release": params.release.model_copy(update={"promote": promote})})


def test_bytes_that_are_registered_already_need_no_second_version(short_line: Path) -> None:
    registered = register_only(short_line)
    params = asking(short_line, promote=False)
    assert identical_release(short_line, params, registered.digest) == registered
    assert identical_release(short_line, params, "b" * 64) is None


def test_bytes_that_are_registered_only_are_released_again_to_be_promoted(short_line: Path) -> None:
    """Else nobody would hold the stage, or a release whose scores are older than the settings of this run."""
    registered = register_only(short_line)
    assert identical_release(short_line, asking(short_line, promote=True), registered.digest) is None


def test_registered_bytes_that_are_no_longer_in_their_folder_are_released_again(short_line: Path) -> None:
    registered = register_only(short_line)
    shutil.rmtree(short_line / "registry")
    assert identical_release(short_line, asking(short_line, promote=False), registered.digest) is None


def test_a_withdrawn_version_is_no_release_to_reuse(short_line: Path) -> None:
    registered = register_only(short_line)
    api.deregister(str(short_line), NAME, version="v0.0.1", author="Test", author_email="test@localhost")
    assert git(short_line, "tag", "--list").split() == [f"{NAME}@v0.0.1", f"{NAME}@v0.0.1!"]
    assert identical_release(short_line, asking(short_line, promote=False), registered.digest) is None
    assert registry.next_version(short_line, NAME) == "v0.0.2"


def test_a_version_that_was_tagged_by_hand_has_no_release_to_reuse(short_line: Path) -> None:
    git(short_line, "tag", f"{NAME}@v0.0.1")
    assert identical_release(short_line, asking(short_line, promote=False), "a" * 64) is None


def test_a_reused_release_says_what_it_holds_now_not_what_it_once_held(short_line: Path) -> None:
    held, _ = hold_production(short_line)
    api.unassign(
        str(short_line), NAME, version="v0.0.1", stage="production", author="Test", author_email="test@localhost"
    )
    known = identical_release(short_line, asking(short_line, promote=False), held.digest)
    assert known == held.model_copy(update={"promoted_stage": None})
