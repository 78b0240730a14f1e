"""`tunegate approve`: a person signs off exactly what a run made, and a release waits for it where it has to."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import registry, sign_off, workspace
from flows.branches import add_files
from flows.git import git
from flows.record import commit_record, read_run
from tasks.digests import digest_text
from tasks.errors import NotApproved, WorkspaceBusy, WorkspaceInvalid
from tests.flows.fake_run import refused_record
from tests.flows.real_release import NAME, RUNS, pass_only
from tests.flows.test_retrain import user_state

Tunegate = Callable[..., tuple[int, str]]
NOBODY = ("Tunegate", "tunegate@localhost")
ADA, BEN = ("Ada", "ada@example.org"), ("Ben", "ben@example.org")


def act_as(root: Path, person: tuple[str, str]) -> None:
    for key, value in zip(("user.name", "user.email"), person, strict=True):
        git(root, "config", key, value)


def ask_for_approval(root: Path) -> None:
    params = root / "params.yaml"
    text = params.read_text(encoding="utf-8").replace("require_approval: false", "require_approval: true")
    params.write_text(text, encoding="utf-8")


@pytest.fixture
def by_ada(short_line: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that passed under `require_approval`, started by Ada; Ben is there now."""
    monkeypatch.chdir(short_line)
    ask_for_approval(short_line)
    act_as(short_line, ADA)
    pass_only(short_line)
    act_as(short_line, BEN)
    return short_line


def entries(root: Path) -> tuple[sign_off.SignOff, ...]:
    return sign_off.read_sign_offs(root, f"run/{RUNS[0]}", RUNS[0])


def test_the_bytes_are_signed_off_on_the_runs_branch_with_who_and_why(by_ada: Path, tunegate: Tunegate) -> None:
    before, record = user_state(by_ada), read_run(by_ada, RUNS[0])
    code, said = tunegate("approve", RUNS[0][:8], "--why", "read the report")
    made = entries(by_ada)[0]
    assert code == 0
    assert f"approved: {made.approval.digest} of run {RUNS[0]}\n" in said
    assert made.approval.digest == record.approvals["merged_model"].digest
    assert (made.approval.approved_by, made.recorded_by) == ("Ben <ben@example.org>", "Ben <ben@example.org>")
    assert (made.why, made.approval.decision) == ("read the report", "approved")
    assert set(made.approval.evidence) == {"record.json", "verdict", "merged_model"}
    text = git(by_ada, "show", f"run/{RUNS[0]}:runs/{RUNS[0]}/record.json")
    assert made.approval.evidence["record.json"] == digest_text(text + "\n")
    assert git(by_ada, "log", "-1", "--format=%an|%(trailers:key=Run,valueonly)", f"run/{RUNS[0]}") == f"Ben|{RUNS[0]}"
    assert (user_state(by_ada), read_run(by_ada, RUNS[0])) == (before, record)


def test_approving_twice_is_approving_once_and_a_second_person_is_a_second_entry(
    by_ada: Path, tunegate: Tunegate
) -> None:
    tunegate("approve", RUNS[0])
    tip = git(by_ada, "rev-parse", f"run/{RUNS[0]}")
    assert tunegate("approve", RUNS[0])[0] == 0
    assert git(by_ada, "rev-parse", f"run/{RUNS[0]}") == tip
    tunegate("approve", RUNS[0], "--by", "the model board")
    assert [entry.approval.approved_by for entry in entries(by_ada)] == ["Ben <ben@example.org>", "the model board"]
    assert {entry.recorded_by for entry in entries(by_ada)} == {"Ben <ben@example.org>"}


@pytest.mark.parametrize(
    ("person", "by"),
    [(ADA, None), (("A. Lovelace", "ADA@example.org"), None), (ADA, "somebody else"), (BEN, "Ada"),
     (BEN, "A <ada@example.org>")],
    ids=["herself", "her address", "in another name", "her name by Ben", "her address by Ben"],
)  # fmt: skip
def test_who_started_the_run_cannot_approve_it(
    by_ada: Path, tunegate: Tunegate, person: tuple[str, str], by: str | None
) -> None:
    act_as(by_ada, person)
    code, said = tunegate("approve", RUNS[0], *([] if by is None else ["--by", by]))
    assert (code, entries(by_ada)) == (3, ())
    assert f"Ada <ada@example.org> started run {RUNS[0]}" in said
    assert f"have somebody else give `tunegate approve {RUNS[0]}`" in said


def test_nobody_in_particular_cannot_approve(by_ada: Path, tunegate: Tunegate) -> None:
    git(by_ada, "config", "--remove-section", "user")
    code, said = tunegate("approve", RUNS[0])
    assert (code, entries(by_ada)) == (3, ())
    assert "set `git config user.name` and `git config user.email`" in said


def test_what_nobody_in_particular_signed_while_nobody_asked_does_not_count(by_ada: Path) -> None:
    act_as(by_ada, NOBODY)
    run = read_run(by_ada, RUNS[0])
    sign_off.approve(by_ada, run, None, "fine", is_required=False)
    with pytest.raises(NotApproved, match="and nobody has"):
        sign_off.check_sign_off(by_ada, run, f"run/{RUNS[0]}")


def test_of_a_run_that_nobody_in_particular_started_no_approval_counts(short_line: Path) -> None:
    act_as(short_line, NOBODY)
    run = pass_only(short_line)
    act_as(short_line, BEN)
    sign_off.approve(short_line, run, None, "fine", is_required=True)
    with pytest.raises(NotApproved, match="git did not know who started it"):
        sign_off.check_sign_off(short_line, run, f"run/{RUNS[0]}")


def test_where_nobody_asks_for_it_who_started_the_run_may_sign_it_too(
    short_line: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(short_line)
    pass_only(short_line)
    assert tunegate("approve", RUNS[0])[0] == 0
    assert len(entries(short_line)) == 1


def test_a_run_that_did_not_pass_cannot_be_approved(by_ada: Path, tunegate: Tunegate) -> None:
    place = workspace.open_place(by_ada, RUNS[1])
    commit_record(place, refused_record().model_copy(update={"run_id": RUNS[1]}))
    workspace.close_place(place)
    code, said = tunegate("approve", RUNS[1])
    assert code == 3
    assert said.startswith(f"refused: run {RUNS[1]} is refused: ")
    assert f"see `tunegate audit show {RUNS[1]}`" in said


def test_a_run_without_the_approval_is_not_promoted_and_the_command_is_named(by_ada: Path, tunegate: Tunegate) -> None:
    code, said = tunegate("promote", RUNS[0])
    assert (code, git(by_ada, "tag", "--list")) == (3, "")
    assert "and nobody has; that person gives `tunegate approve " + RUNS[0] + "`" in said


def test_the_parameters_of_the_run_ask_for_it_also_when_todays_do_not(by_ada: Path, tunegate: Tunegate) -> None:
    git(by_ada, "checkout", "--quiet", "params.yaml")
    assert tunegate("promote", RUNS[0])[0] == 3


def test_an_approval_of_other_bytes_or_by_who_started_it_is_none(by_ada: Path) -> None:
    record, branch = read_run(by_ada, RUNS[0]), f"run/{RUNS[0]}"
    made = sign_off.approve(by_ada, record, None, "fine", is_required=True)
    path = f"runs/{RUNS[0]}/sign_offs.json"
    for changed in (
        made.model_copy(update={"approval": made.approval.model_copy(update={"digest": "0" * 64})}),
        made.model_copy(update={"recorded_by": "Ada <ada@example.org>"}),
        made.model_copy(update={"approval": made.approval.model_copy(update={"decision": "refused"})}),
    ):
        text = sign_off.SignOffs(entries=(changed,)).model_dump_json()
        add_files(by_ada, branch, {path: text}, "changed")
        with pytest.raises(NotApproved, match=f"tunegate approve {RUNS[0]}"):
            sign_off.check_sign_off(by_ada, record, branch)


def test_a_released_version_needs_it_too_and_gets_it_afterwards(released: Path, tunegate: Tunegate) -> None:
    ask_for_approval(released)
    act_as(released, BEN)
    code, said = tunegate("promote", "v0.0.1")
    assert code == 3
    assert f"tunegate approve {RUNS[0]}" in said
    assert tunegate("approve", RUNS[0])[0] == 0
    assert tunegate("promote", "v0.0.1")[0] == 0
    holder = registry.stage_holder(released, NAME, "production")
    assert holder is not None
    assert holder.tag == f"{NAME}@v0.0.1"


def test_a_branch_that_moved_meanwhile_is_not_written_over(short_line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pass_only(short_line)
    branch = f"run/{RUNS[0]}"
    real = git

    def moved(root: Path, *words: str, **options: object) -> str:
        if words[0] == "update-ref":
            real(root, "update-ref", f"refs/heads/{branch}", "HEAD")
        return real(root, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("flows.branches.git", moved)
    with pytest.raises(WorkspaceBusy, match="moved while it was written to"):
        add_files(short_line, branch, {"a/b.txt": "text"}, "add")
    monkeypatch.undo()
    assert git(short_line, "rev-parse", branch) == git(short_line, "rev-parse", "HEAD")
    with pytest.raises(WorkspaceInvalid):
        add_files(short_line, "run/none", {"a.txt": "text"}, "add")


def test_a_file_is_added_without_touching_the_others(short_line: Path) -> None:
    pass_only(short_line)
    branch = f"run/{RUNS[0]}"
    before = git(short_line, "ls-tree", "-r", branch).splitlines()
    add_files(short_line, branch, {"runs/new/a.json": json.dumps({"ä": 1})}, "add")
    added = set(git(short_line, "ls-tree", "-r", branch).splitlines()) - set(before)
    assert [line.split("\t")[1] for line in added] == ["runs/new/a.json"]
    assert git(short_line, "show", f"{branch}:runs/new/a.json") == '{"\\u00e4": 1}'


def test_a_rejected_run_is_not_released_and_the_rejection_says_who_and_why(by_ada: Path, tunegate: Tunegate) -> None:
    tunegate("approve", RUNS[0])
    code, said = tunegate("reject", RUNS[0][:8], "--why", "wrong queue for refunds")
    made = entries(by_ada)[-1]
    assert (code, made.approval.decision, made.why) == (0, "refused", "wrong queue for refunds")
    assert f"rejected: {made.approval.digest} of run {RUNS[0]}\n" in said
    code, said = tunegate("promote", RUNS[0])
    assert code == 3
    assert f"run {RUNS[0]} was rejected by Ben <ben@example.org>" in said
    assert "wrong queue for refunds" in said
    assert git(by_ada, "tag", "--list") == ""


def test_an_approval_from_before_a_rejection_counts_no_longer(by_ada: Path) -> None:
    record, revision = read_run(by_ada, RUNS[0]), f"run/{RUNS[0]}"
    sign_off.approve(by_ada, record, None, "fine", is_required=True)
    act_as(by_ada, ADA)
    sign_off.reject(by_ada, record, None, "I was wrong")
    with pytest.raises(NotApproved, match="nobody has"):
        sign_off.check_sign_off(by_ada, record, revision)
    act_as(by_ada, BEN)
    sign_off.approve(by_ada, record, None, "looked again", is_required=True)
    sign_off.check_not_rejected(by_ada, record, revision)
    assert sign_off.check_sign_off(by_ada, record, revision).why == "looked again"
    assert [entry.approval.decision for entry in entries(by_ada)] == ["approved", "refused", "approved"]


@pytest.mark.parametrize(("person", "is_lifted"), [(ADA, False), (BEN, True), (("Cid", "cid@example.org"), True)])
def test_who_started_the_run_cannot_take_back_the_rejection_of_another(
    by_ada: Path, person: tuple[str, str], *, is_lifted: bool
) -> None:
    record, revision = read_run(by_ada, RUNS[0]), f"run/{RUNS[0]}"
    sign_off.reject(by_ada, record, None, "no")
    act_as(by_ada, person)
    sign_off.approve(by_ada, record, None, "yes", is_required=False)
    if is_lifted:
        sign_off.check_not_rejected(by_ada, record, revision)
    else:
        with pytest.raises(NotApproved, match="only that person, or another one than Ada"):
            sign_off.check_not_rejected(by_ada, record, revision)


def test_a_rejection_of_ones_own_washes_away_no_other(by_ada: Path) -> None:
    record, revision = read_run(by_ada, RUNS[0]), f"run/{RUNS[0]}"
    sign_off.reject(by_ada, record, None, "no")
    act_as(by_ada, ADA)
    sign_off.reject(by_ada, record, None, "mine")
    sign_off.approve(by_ada, record, None, "yes", is_required=False)
    with pytest.raises(NotApproved, match=r"was rejected by Ben .*: no\n"):
        sign_off.check_not_rejected(by_ada, record, revision)
    act_as(by_ada, BEN)
    sign_off.approve(by_ada, record, None, "seen", is_required=True)
    sign_off.check_not_rejected(by_ada, record, revision)


def test_where_nobody_knows_who_started_the_run_only_who_rejected_it_takes_that_back(short_line: Path) -> None:
    act_as(short_line, NOBODY)
    record, revision = pass_only(short_line), f"run/{RUNS[0]}"
    act_as(short_line, BEN)
    sign_off.reject(short_line, record, None, "no")
    act_as(short_line, ADA)
    sign_off.approve(short_line, record, None, "yes", is_required=False)
    with pytest.raises(NotApproved, match="was rejected by Ben"):
        sign_off.check_not_rejected(short_line, record, revision)


def test_the_bytes_of_a_rejected_run_are_released_by_no_other_run(by_ada: Path) -> None:
    record = read_run(by_ada, RUNS[0])
    digest = sign_off.released_digest(record)
    sign_off.check_bytes_not_rejected(by_ada, digest)
    sign_off.reject(by_ada, record, None, "complaints")
    with pytest.raises(NotApproved, match=f"run {RUNS[0]} was rejected by Ben"):
        sign_off.check_bytes_not_rejected(by_ada, digest)
    sign_off.check_bytes_not_rejected(by_ada, "0" * 64)


def test_a_rejection_that_was_fetched_and_not_merged_holds(by_ada: Path, tmp_path: Path) -> None:
    record, branch = read_run(by_ada, RUNS[0]), f"run/{RUNS[0]}"
    before = git(by_ada, "rev-parse", branch)
    sign_off.reject(by_ada, record, None, "no")
    git(by_ada, "update-ref", f"refs/remotes/origin/{branch}", branch)
    git(by_ada, "update-ref", f"refs/heads/{branch}", before)
    sign_off.check_not_rejected(by_ada, record, branch)  # what is here says nothing
    with pytest.raises(NotApproved, match="was rejected by Ben"):
        sign_off.check_rejected_nowhere(by_ada, record, before)
    git(by_ada, "update-ref", "-d", f"refs/heads/{branch}")
    with pytest.raises(NotApproved, match="was rejected by Ben"):
        sign_off.check_rejected_nowhere(by_ada, record, before)


def test_who_started_a_run_can_reject_it_and_take_that_back(by_ada: Path) -> None:
    record = read_run(by_ada, RUNS[0])
    act_as(by_ada, ADA)
    sign_off.reject(by_ada, record, None, "not yet")
    sign_off.approve(by_ada, record, None, "now", is_required=False)
    sign_off.check_not_rejected(by_ada, record, f"run/{RUNS[0]}")


def test_a_release_that_was_rejected_is_not_promoted_and_the_stage_it_holds_is_named(
    released: Path, tunegate: Tunegate
) -> None:
    act_as(released, BEN)
    tunegate("promote", "v0.0.2")
    code, said = tunegate("reject", RUNS[1], "--why", "complaints")
    assert (code, "support-router@v0.0.2 holds production: tunegate rollback --stage production" in said) == (0, True)
    tunegate("rollback", "v0.0.1")
    code, said = tunegate("promote", "v0.0.2")
    assert (code, "was rejected by Ben" in said) == (3, True)


def test_nobody_in_particular_cannot_reject_and_a_refused_run_needs_no_rejection(
    by_ada: Path, tunegate: Tunegate
) -> None:
    act_as(by_ada, NOBODY)
    code, said = tunegate("reject", RUNS[0], "--why", "no")
    assert (code, "git does not know who you are" in said) == (3, True)
    assert entries(by_ada) == ()
