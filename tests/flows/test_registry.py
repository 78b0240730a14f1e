import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows import registry
from flows.commands import status_command
from flows.git import git
from tasks.records import Champion
from tests.flows.fake_run import fake_profile
from tests.flows.test_release import NAME, RUN, held_by, put_on_record, release
from tests.flows.tiny_line import ROOT

LATER = "20261121-081502-77aa"


def promote_in_turn(root: Path) -> None:
    """Two releases, promoted one after the other."""
    for number, run_id in ((1, RUN), (2, LATER)):
        described = release(f"v0.0.{number}")
        registry.register(root, described, put_on_record(root, described, run_id))
        registry.promote(root, described, "production")


def gto(root: Path, *words: str) -> None:
    """GTO's own command, as a person gives it."""
    named = {"GIT_COMMITTER_NAME": "Test", "GIT_COMMITTER_EMAIL": "test@localhost"}
    command = [str(Path(sys.executable).with_name("gto")), *words]
    subprocess.run(command, cwd=root, check=True, capture_output=True, env=os.environ | named)


def test_the_command_that_the_gate_names_takes_the_champion_out_of_its_stage(
    short_line: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promote_in_turn(short_line)
    gto(short_line, "deprecate", NAME, "v0.0.2", "production")
    assert f"{NAME}#production!#3" in git(short_line, "tag", "--list").split()
    assert registry.stage_holder(short_line, NAME, "production") is None
    assert registry.champion(short_line, NAME, "production") == (Champion(), None)
    status_command(short_line)
    assert capsys.readouterr().out.splitlines()[-1] == "production: nothing"


def test_a_stage_that_was_taken_away_can_be_given_again(short_line: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promote_in_turn(short_line)
    gto(short_line, "deprecate", NAME, "v0.0.2", "production")
    registry.promote(short_line, release("v0.0.2"), "production")
    assert registry.champion(short_line, NAME, "production")[0].release == f"{NAME}@v0.0.2"
    status_command(short_line)
    assert capsys.readouterr().out.splitlines()[-1] == f"production: {NAME}@v0.0.2"


def test_taking_the_stage_from_a_version_that_lost_it_leaves_the_champion(short_line: Path) -> None:
    promote_in_turn(short_line)
    gto(short_line, "deprecate", NAME, "v0.0.1", "production")
    assert held_by(short_line) == f"{NAME}@v0.0.2"


def test_the_tenth_tag_of_a_stage_comes_after_the_ninth(short_line: Path) -> None:
    head, older = git(short_line, "rev-parse", "HEAD"), put_on_record(short_line, release("v0.0.1"))
    for number, commit in (("#9", older), ("#10", head), ("!#8", head)):
        git(short_line, "tag", f"{NAME}#production{number}", commit)
    assert registry.stage_holder(short_line, NAME, "production") == registry.Holder(head, None)


def test_tags_of_other_stages_and_models_do_not_count(short_line: Path) -> None:
    for tag in (f"{NAME}#staging#1", "other-model#production#2", f"{NAME}#production-eu#3", f"{NAME}#production#x"):
        git(short_line, "tag", tag)
    assert registry.stage_holder(short_line, NAME, "production") is None


def test_a_stage_of_a_commit_without_a_version_is_shown_by_its_commit(
    short_line: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gto(short_line, "assign", NAME, "HEAD", "--stage", "production", "--skip-registration")
    status_command(short_line)
    head = git(short_line, "rev-parse", "HEAD")
    assert capsys.readouterr().out.splitlines()[-1] == f"production: {head[:12]}"


def test_reading_the_registry_takes_no_gto() -> None:
    code = "import sys, flows.commands; sys.exit('gto' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_champion_brings_the_profile_of_its_data_and_an_old_one_brings_none(short_line: Path) -> None:
    registry.register(short_line, release("v0.0.1"), put_on_record(short_line, release("v0.0.1"), RUN))
    registry.promote(short_line, release("v0.0.1"), "production")
    assert registry.champion(short_line, NAME, "production")[0].data is None
    profile = fake_profile(tokens=0.6)
    made = put_on_record(short_line, release("v0.0.2"), LATER, profile)
    registry.register(short_line, release("v0.0.2"), made)
    registry.promote(short_line, release("v0.0.2"), "production")
    champion, _ = registry.champion(short_line, NAME, "production")
    assert (champion.release, champion.data) == (f"{NAME}@v0.0.2", profile)
