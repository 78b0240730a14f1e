"""A run that waits for another person's approval, and what follows when that person has given it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flows import registry, workspace
from flows.commands import print_end
from flows.git import git
from flows.late_release import release_run
from flows.record import read_run
from flows.release import release_flow
from flows.retrain import retrain
from tasks.digests import combine_digests, file_digests
from tasks.errors import NotApproved
from tasks.publish_bundle import BESIDE_THE_MODEL
from tests.flows.real_release import NAME
from tests.flows.test_sign_off import ADA, BEN, act_as, ask_for_approval

Tunegate = Callable[..., tuple[int, str]]
RUN, LATER = "20260102-030405-aaaa", "20260102-040506-bbbb"

pytestmark = pytest.mark.usefixtures("prefect_server", "plain_git")


@pytest.fixture
def waiting(short_line: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that Ada started and that passed; Ben is there now."""
    monkeypatch.chdir(short_line)
    monkeypatch.setattr("flows.temporary_server.start_temporary_server", lambda: None)
    ask_for_approval(short_line)
    act_as(short_line, ADA)
    retrain(str(short_line), RUN, return_state=True).result()
    act_as(short_line, BEN)
    return short_line


def held(root: Path) -> str | None:
    holder = registry.stage_holder(root, NAME, "production")
    return holder.tag if holder else None


def test_a_run_waits_for_the_approval_and_is_released_by_a_promotion_after_it(
    waiting: Path, tunegate: Tunegate, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_run(waiting, RUN)
    assert (record.status, record.release, git(waiting, "tag", "--list")) == ("passed", None, "")
    assert record.reason.endswith(f"; not released yet: another person has to give `tunegate approve {RUN}`")
    print_end(record, waiting)
    assert f"tunegate approve {RUN}, then tunegate promote {RUN}\n" in capsys.readouterr().out
    assert tunegate("promote", RUN)[0] == 3
    before = git(waiting, "status", "--porcelain")
    assert tunegate("approve", RUN, "--why", "fine")[0] == 0
    code, said = tunegate("promote", RUN, "--why", "go")
    assert (code, held(waiting)) == (0, f"{NAME}@v0.0.1")
    assert f"promoted: production is {NAME}@v0.0.1\n" in said
    assert git(waiting, "status", "--porcelain") == before
    released = read_run(waiting, RUN).release
    assert released is not None
    folder = file_digests(waiting / released.location)
    assert folder == released.files
    model = {name: digest for name, digest in folder.items() if name not in BESIDE_THE_MODEL}
    assert combine_digests(model) == record.approvals["merged_model"].digest
    assert git(waiting, "rev-parse", f"{NAME}@v0.0.1^{{commit}}") == git(waiting, "rev-parse", f"run/{RUN}")
    assert tunegate("audit", "verify")[0] == 0
    assert tunegate("promote", RUN)[1].startswith(f"production is {NAME}@v0.0.1 already")
    assert not workspace.leftovers(waiting)


def test_the_release_itself_refuses_without_the_approval(waiting: Path) -> None:
    with workspace.at_commit(waiting, f"run/{RUN}") as place, pytest.raises(NotApproved, match="tunegate approve"):
        release_flow(str(waiting), str(place), RUN, "0" * 40)
    assert not (waiting / "registry").exists()


def test_a_release_that_died_before_its_tag_is_finished_by_the_same_command(
    waiting: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunegate("approve", RUN)

    def power_cut(*_arguments: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr("flows.registry.register", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            release_run(waiting, RUN, "production")
    assert git(waiting, "tag", "--list") == ""
    assert tunegate("promote", RUN)[0] == 0
    assert (held(waiting), tunegate("audit", "verify")[0]) == (f"{NAME}@v0.0.1", 0)


def test_a_run_that_was_asked_not_to_release_is_released_later(
    short_line: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(short_line)
    monkeypatch.setattr("flows.temporary_server.start_temporary_server", lambda: None)
    retrain(str(short_line), RUN, release=False, return_state=True).result()
    assert tunegate("promote", RUN, "--stage", "staging")[0] == 0
    holder = registry.stage_holder(short_line, NAME, "staging")
    assert holder is not None
    assert holder.tag == f"{NAME}@v0.0.1"
