"""A run that waits for another person's approval, and what follows when that person has given it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import registry, workspace
from flows.branches import add_files
from flows.commands import print_end
from flows.git import git
from flows.late_release import release_run
from flows.record import read_run
from flows.release import release_flow
from flows.release_section import asks_for_approval
from flows.releases import released_by
from flows.retrain import retrain
from tasks.digests import combine_digests, file_digests
from tasks.errors import NotApproved
from tasks.files import dump_json
from tasks.publish_bundle import BESIDE_THE_MODEL
from tests.flows.real_release import NAME, RUNS, make_release, pass_only
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
            release_run(waiting, RUN)
    assert git(waiting, "tag", "--list") == ""
    assert tunegate("promote", RUN)[0] == 0
    assert (held(waiting), tunegate("audit", "verify")[0]) == (f"{NAME}@v0.0.1", 0)


def test_a_version_that_another_run_took_is_not_that_of_a_release_that_died(
    waiting: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunegate("approve", RUN)
    with monkeypatch.context() as patched:
        patched.setattr("flows.registry.register", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            release_run(waiting, RUN)
    shutil.rmtree(waiting / "registry")
    make_release(waiting, 1)
    assert released_by(waiting, RUN) is None
    assert tunegate("promote", RUN)[0] == 0
    record = read_run(waiting, RUN)
    assert record.release is not None
    assert record.release.version != "v0.0.1"
    assert held(waiting) == record.release.tag
    assert record.release.digest == record.approvals["merged_model"].digest


def test_parameters_of_a_file_do_not_do_without_the_approval_that_those_of_today_ask_for(
    short_line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.yaml"
    other.write_bytes((short_line / "params.yaml").read_bytes())
    ask_for_approval(short_line)
    act_as(short_line, ADA)
    retrain(str(short_line), RUN, params_file=str(other), return_state=True).result()
    record = read_run(short_line, RUN)
    assert (record.status, record.release, git(short_line, "tag", "--list")) == ("passed", None, "")
    print_end(record, short_line)
    assert f"tunegate approve {RUN}, then tunegate promote {RUN}\n" in capsys.readouterr().out
    with workspace.at_commit(short_line, f"run/{RUN}") as place, pytest.raises(NotApproved, match="tunegate approve"):
        release_flow(str(short_line), str(place), RUN, "0" * 40)


def test_where_todays_parameters_cannot_be_read_somebody_has_to_agree(short_line: Path) -> None:
    assert not asks_for_approval(short_line)
    (short_line / "params.yaml").write_text("release: {require_approval: maybe}\n", encoding="utf-8")
    assert asks_for_approval(short_line)
    (short_line / "params.yaml").unlink()
    assert asks_for_approval(short_line)


def test_the_record_of_a_late_release_says_so_and_leaves_the_stage_to_the_tags(
    waiting: Path, tunegate: Tunegate
) -> None:
    tunegate("approve", RUN)
    tunegate("promote", RUN)
    record = read_run(waiting, RUN)
    assert record.reason.endswith(f"; released later: {NAME}@v0.0.1")
    assert record.release is not None
    assert record.release.promoted_stage is None


def test_provenance_names_the_packages_that_the_run_had_not_those_of_its_release(
    waiting: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read_run(waiting, RUN)
    text = dump_json(record.model_copy(update={"packages": {"torch": "1.2.3"}}))
    add_files(waiting, f"run/{RUN}", {f"runs/{RUN}/record.json": text}, f"of long ago\n\nRun: {RUN}\n")
    tunegate("approve", RUN)
    assert tunegate("promote", RUN)[0] == 0
    said = (waiting / "registry" / NAME / "v0.0.1" / "slsa_provenance.json").read_text(encoding="utf-8")
    assert "1.2.3" in said
    assert record.packages["torch"] not in said


def test_a_run_of_another_versions_parameters_is_told_to_run_again(
    short_line: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(short_line)
    monkeypatch.setattr("flows.temporary_server.start_temporary_server", lambda: None)
    pass_only(short_line)
    text = (short_line / "params.yaml").read_text(encoding="utf-8").replace("  max_memory_gib:", "  max_memory:")
    add_files(short_line, f"run/{RUNS[0]}", {"params.yaml": text}, f"older\n\nRun: {RUNS[0]}\n")
    code, said = tunegate("promote", RUNS[0])
    assert code == 2
    assert f"run {RUNS[0]} was made by another version of Tunegate" in said
    assert "merge.max_memory" in said
    assert said.endswith("start a new run, `tunegate run`\n")


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
