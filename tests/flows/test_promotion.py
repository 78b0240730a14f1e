"""`tunegate promote` and `tunegate rollback` on releases that lie in their folders."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import promotion, registry
from flows.git import git
from tasks.errors import WorkspaceBusy
from tests.flows.real_release import NAME, file_of
from tests.flows.tiny_line import ROOT

Tunegate = Callable[..., tuple[int, str]]
TUNEGATE = (sys.executable, "-c", "from flows.cli import main; main()")


def held(root: Path, stage: str = "production") -> str | None:
    holder = registry.stage_holder(root, NAME, stage)
    return holder.tag if holder else None


def message(root: Path, tag: str) -> str:
    return git(root, "tag", "--list", "--format=%(contents)", tag)


def test_a_release_is_promoted_with_who_when_and_why_in_the_tag(released: Path, tunegate: Tunegate) -> None:
    git(released, "config", "user.name", "Ada")
    git(released, "config", "user.email", "ada@example.org")
    code, said = tunegate("promote", "v0.0.2", "--why", "ten tickets\nlooked right")
    assert (code, held(released)) == (0, f"{NAME}@v0.0.2")
    assert f"promoted: production is {NAME}@v0.0.2\n" in said
    assert message(released, f"{NAME}#production#1") == (
        f"Promote {NAME}@v0.0.2 to production\n\nWhy: ten tickets looked right\nBy: Ada <ada@example.org>\n"
        "Before: nothing"
    )
    assert git(released, "tag", "--list", "--format=%(taggeremail)", f"{NAME}#production#1") == "<ada@example.org>"


def test_promoting_what_holds_the_stage_changes_nothing(released: Path, tunegate: Tunegate) -> None:
    tunegate("promote", "v0.0.1")
    assert tunegate("promote", "v0.0.1") == (0, f"production is {NAME}@v0.0.1 already; nothing to do here\n")
    assert git(released, "tag", "--list", f"{NAME}#*") == f"{NAME}#production#1"


def test_staging_is_a_stage_of_its_own_and_no_other_name_is_one(released: Path, tunegate: Tunegate) -> None:
    tunegate("promote", f"{NAME}@v0.0.1", "--stage", "staging")
    assert (held(released, "staging"), held(released)) == (f"{NAME}@v0.0.1", None)
    assert tunegate("promote", "v0.0.1", "--stage", "prod") == (
        2, "error: --stage: found 'prod', expected one of production, staging\n",
    )  # fmt: skip


def test_a_release_is_named_by_its_run_too(released: Path, tunegate: Tunegate) -> None:
    assert tunegate("promote", "20261121")[0] == 0
    assert held(released) == f"{NAME}@v0.0.2"


def test_a_version_that_nobody_released_is_wrong_input_that_names_the_nearest(
    released: Path, tunegate: Tunegate
) -> None:
    code, said = tunegate("promote", "v0.0.7")
    assert (code, held(released)) == (2, None)
    assert said.startswith(f"error: {NAME}@v0.0.7: no such release; the nearest is {NAME}@v0.0.")


def test_rolling_back_goes_to_the_release_before_and_twice_to_the_one_before_that(
    released: Path, tunegate: Tunegate
) -> None:
    for version in ("v0.0.1", "v0.0.2", "v0.0.3"):
        tunegate("promote", version)
    code, said = tunegate("rollback", "--why", "wrong queues")
    assert (code, held(released)) == (0, f"{NAME}@v0.0.2")
    assert f"rolled back: production is {NAME}@v0.0.2, before that {NAME}@v0.0.3\n" in said
    assert message(released, f"{NAME}#production#4").startswith(
        f"Roll back production to {NAME}@v0.0.2\n\nWhy: wrong queues\nBy: "
    )
    assert tunegate("rollback")[0] == 0
    assert held(released) == f"{NAME}@v0.0.1"
    code, said = tunegate("rollback")
    assert (code, held(released)) == (3, f"{NAME}@v0.0.1")
    assert f"refused: no release of {NAME} held production before {NAME}@v0.0.1; name one" in said


def test_a_rollback_goes_to_any_earlier_release_also_one_that_never_held_the_stage(
    released: Path, tunegate: Tunegate
) -> None:
    tunegate("promote", "v0.0.3")
    assert tunegate("rollback", "v0.0.1")[0] == 0
    assert held(released) == f"{NAME}@v0.0.1"
    assert tunegate("rollback", "v0.0.1")[1].startswith(f"production is {NAME}@v0.0.1 already")
    code, said = tunegate("rollback", "v0.0.2")
    assert (code, held(released)) == (3, f"{NAME}@v0.0.1")
    assert "`tunegate promote support-router@v0.0.2 --stage production` goes forward" in said
    code, said = tunegate("rollback")
    assert (code, held(released)) == (3, f"{NAME}@v0.0.1")  # never forward to what was rolled back from
    assert f"no release of {NAME} held production before {NAME}@v0.0.1" in said


def test_what_was_promoted_again_on_purpose_can_be_rolled_back(released: Path, tunegate: Tunegate) -> None:
    for version in ("v0.0.1", "v0.0.2", "v0.0.1"):
        tunegate("promote", version)
    tunegate("rollback")
    assert held(released) == f"{NAME}@v0.0.2"


def test_a_rollback_passes_over_a_withdrawn_release_and_none_is_promoted(released: Path, tunegate: Tunegate) -> None:
    for version in ("v0.0.1", "v0.0.2", "v0.0.3"):
        tunegate("promote", version)
    git(released, "tag", f"{NAME}@v0.0.2!", f"{NAME}@v0.0.2^{{commit}}")
    code, said = tunegate("promote", "v0.0.2")
    assert (code, held(released)) == (3, f"{NAME}@v0.0.3")
    assert f"{NAME}@v0.0.2 was withdrawn" in said
    tunegate("rollback")
    assert held(released) == f"{NAME}@v0.0.1"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "README.md", "provenance.json"])
def test_one_changed_byte_refuses_promotion_and_rollback_and_is_named(
    released: Path, tunegate: Tunegate, name: str
) -> None:
    tunegate("promote", "v0.0.1")
    tunegate("promote", "v0.0.2")
    file = file_of(released, 1, name)
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    for words in (("promote", "v0.0.1"), ("rollback",), ("rollback", "v0.0.1")):
        code, said = tunegate(*words)
        assert (code, held(released)) == (3, f"{NAME}@v0.0.2")
        assert f"\n  {name}: differs: sha256 " in said


def test_a_missing_an_extra_and_a_linked_file_are_named(released: Path, tunegate: Tunegate) -> None:
    file_of(released, 1, "config.json").unlink()
    file_of(released, 1, ".git").mkdir()
    file_of(released, 1, ".git/hook").write_text("planted", encoding="utf-8")
    file_of(released, 1, "more").symlink_to("/usr")
    code, said = tunegate("promote", "v0.0.1")
    assert (code, held(released)) == (3, None)
    for line in ("config.json: missing", ".git/hook: extra: it was not released", "more: a link"):
        assert f"  {line}" in said


def test_a_release_without_an_approval_of_its_bytes_is_refused(released: Path, tunegate: Tunegate) -> None:
    """The tag and the folder are right; the commit that the tag names has another approval than its record."""
    tag = f"{NAME}@v0.0.1"
    git(released, "worktree", "add", "--quiet", "--detach", "elsewhere", tag)
    place = released / "elsewhere"
    approval = next(place.glob("runs/*/merged_approval.json"))
    approval.write_text(approval.read_text("utf-8").replace('"approved"', '"refused"'), encoding="utf-8")
    git(place, *identified(), "commit", "--quiet", "--all", "-m", "x", "-m", f"Run: {approval.parent.name}")
    git(place, "tag", "--force", tag)
    code, said = tunegate("promote", "v0.0.1")
    assert (code, held(released)) == (3, None)
    assert "merged_approval.json: another approval than the record has" in said


def identified() -> tuple[str, ...]:
    return ("-c", "user.name=Eve", "-c", "user.email=eve@example.org")


def test_tags_of_other_people_are_no_releases_and_stand_in_nobodys_way(released: Path, tunegate: Tunegate) -> None:
    for tag in ("v1.0", f"{NAME}@v0.9.0", f"{NAME}@nightly", "other-model@v9.0.0", "other-model#production#1", "a#b#c"):
        git(released, "tag", tag, "HEAD")
    code, said = tunegate("promote", "v0.9.0")
    assert code == 3
    assert f"{NAME}@v0.9.0 names " in said
    assert "no run of Tunegate made this tag" in said
    assert tunegate("promote", "v0.0.1")[0] == 0
    assert tunegate("promote", "v0.0.2")[0] == 0
    assert tunegate("rollback")[0] == 0
    assert held(released) == f"{NAME}@v0.0.1"


def at_once(root: Path, *commands: tuple[str, ...]) -> list[int]:
    """Start the commands together; their exit codes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = [subprocess.Popen([*TUNEGATE, *words], cwd=root, env=environment) for words in commands]
    return [process.wait(timeout=120) for process in started]


def test_two_promotions_at_once_end_in_one_order_without_losing_either(released: Path) -> None:
    codes = at_once(released, ("promote", "v0.0.1"), ("promote", "v0.0.2"))
    tags = git(released, "tag", "--list", f"{NAME}#*").split()
    assert (codes, tags) == ([0, 0], [f"{NAME}#production#1", f"{NAME}#production#2"])
    last = git(released, "rev-parse", f"{NAME}#production#2^{{commit}}")
    assert git(released, "rev-parse", f"{held(released)}^{{commit}}") == last


def test_two_promotions_of_one_release_at_once_make_one_tag(released: Path) -> None:
    assert at_once(released, ("promote", "v0.0.1"), ("promote", "v0.0.1")) == [0, 0]
    assert git(released, "tag", "--list", f"{NAME}#*") == f"{NAME}#production#1"


def test_a_registry_that_stays_busy_is_told(released: Path) -> None:
    with promotion.registry_lock(released):  # noqa: SIM117  the second must come after the first
        with pytest.raises(WorkspaceBusy, match="another promotion holds the registry"):
            promotion.registry_lock(released, seconds=0.1).__enter__()


def spent_by_children() -> float:
    """Processor seconds of all processes that were waited for: how busy the machine is moves them little."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def test_a_rollback_takes_less_than_five_seconds(released: Path, tunegate: Tunegate) -> None:
    tunegate("promote", "v0.0.1")
    tunegate("promote", "v0.0.2")
    began = spent_by_children()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*TUNEGATE, "rollback"], cwd=released, env=environment, check=True)
    assert spent_by_children() - began < 5
    assert held(released) == f"{NAME}@v0.0.1"
