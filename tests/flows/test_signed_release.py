"""A release that is signed: checked offline by `audit verify` and before every promotion."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.git import git
from flows.preflight import check_input
from flows.retrain import retrain
from tasks.errors import KeyInvalid
from tests.flows.real_release import NAME, RUNS, file_of, make_release, pass_only, sign_from_now_on
from tests.unit.test_signing import PRIVATE, PUBLIC, make_keys

Tunegate = Callable[..., tuple[int, str]]


@pytest.fixture
def signed(short_line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that signs; release v0.0.1 is unsigned, v0.0.2 is signed, and the private key is gone."""
    monkeypatch.chdir(short_line)
    make_release(short_line, 1)
    sign_from_now_on(short_line, tmp_path / "keys")
    monkeypatch.setenv("RELEASE_KEY", str(tmp_path / "keys" / PRIVATE))
    make_release(short_line, 2)
    (tmp_path / "keys" / PRIVATE).unlink()
    return short_line


def test_a_signed_release_is_verified_offline_and_one_of_before_stays_fine(signed: Path, tunegate: Tunegate) -> None:
    code, said = tunegate("audit", "verify")
    first, second = said.splitlines()
    assert code == 0
    assert first.startswith(f"ok       {NAME}@v0.0.1: 6 files, 0.0 MB, record and approvals agree, ")
    assert second.startswith(f"ok       {NAME}@v0.0.2: 7 files, 0.0 MB, record, approvals and signature agree, ")


def test_a_trusted_key_has_to_have_signed_every_release(signed: Path, tunegate: Tunegate, tmp_path: Path) -> None:
    code, said = tunegate("audit", "verify", "--key", PUBLIC)
    assert code == 3
    assert f"DIFFERS  {NAME}@v0.0.1\n  model.sig: missing: the release is not signed\nok       {NAME}@v0.0.2" in said
    _, other = make_keys(tmp_path / "other")
    code, said = tunegate("audit", "verify", "v0.0.2", "--key", str(other))
    assert code == 3
    assert "  model.sig: Key mismatch" in said
    assert tunegate("audit", "verify", "--key", "none.pub")[0] == 2


def test_a_changed_byte_of_a_signed_release_is_found_by_the_signature_too(signed: Path, tunegate: Tunegate) -> None:
    file_of(signed, 2, "config.json").write_text("{}", encoding="utf-8")
    for words in (("audit", "verify", "v0.0.2"), ("promote", "v0.0.2")):
        code, said = tunegate(*words)
        assert code == 3
        assert "  config.json: differs: sha256 " in said
        assert "  model.sig: Signature mismatch: [" in said
        assert "Hash mismatch for 'config.json'" in said


def test_a_signature_that_was_taken_away_is_missed(signed: Path, tunegate: Tunegate) -> None:
    file_of(signed, 2, "model.sig").unlink()
    code, said = tunegate("promote", "v0.0.2")
    assert code == 3
    assert "  model.sig: missing: the release is not signed" in said


def test_promotion_and_rollback_of_signed_releases_need_no_private_key(signed: Path, tunegate: Tunegate) -> None:
    assert tunegate("promote", "v0.0.2")[0] == 0
    assert tunegate("rollback", "v0.0.1")[0] == 0


def test_the_run_itself_signs_what_it_releases(
    short_line: Path, tmp_path: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch, prefect_server: str
) -> None:
    monkeypatch.chdir(short_line)
    sign_from_now_on(short_line, tmp_path / "keys")
    monkeypatch.setenv("RELEASE_KEY", str(tmp_path / "keys" / PRIVATE))
    retrain(str(short_line), "20260102-030405-aaaa", return_state=True).result()
    assert file_of(short_line, 1, "model.sig").is_file()
    code, said = tunegate("audit", "verify", "--key", PUBLIC)
    assert code == 0, said
    secret = (tmp_path / "keys" / PRIVATE).read_text(encoding="utf-8").splitlines()[1]
    for folder, _, names in os.walk(short_line):
        for name in names:
            assert secret.encode() not in (Path(folder) / name).read_bytes()


def test_a_run_is_not_signed_later_with_another_key_than_its_commit_names(
    short_line: Path, tmp_path: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(short_line)
    monkeypatch.setattr("flows.temporary_server.start_temporary_server", lambda: None)
    sign_from_now_on(short_line, tmp_path / "keys")
    pass_only(short_line)
    make_keys(tmp_path / "keys")
    monkeypatch.setenv("RELEASE_KEY", str(tmp_path / "keys" / PRIVATE))
    code, said = tunegate("promote", RUNS[0])
    assert code == 2
    assert f"error: {PUBLIC} is not the public key of " in said
    assert f"run {RUNS[0]} was started with the public key that its commit has" in said
    assert not (short_line / "registry").exists()


def test_keys_are_looked_at_before_a_run_starts(
    short_line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_from_now_on(short_line, tmp_path / "keys")
    monkeypatch.delenv("RELEASE_KEY", raising=False)
    with pytest.raises(KeyInvalid, match="RELEASE_KEY is not set"):
        check_input(short_line, release=True)
    check_input(short_line, release=False)
    monkeypatch.setenv("RELEASE_KEY", str(tmp_path / "keys" / PRIVATE))
    check_input(short_line, release=True)
    (short_line / "mine.pem").write_bytes((tmp_path / "keys" / PRIVATE).read_bytes())
    monkeypatch.setenv("RELEASE_KEY", str(short_line / "mine.pem"))
    check_input(short_line, release=True)
    git(short_line, "add", "mine.pem")
    with pytest.raises(KeyInvalid, match="git has this private key"):
        check_input(short_line, release=True)
    git(short_line, "rm", "--quiet", "--cached", "mine.pem", PUBLIC)
    with pytest.raises(KeyInvalid, match=f"git does not know {PUBLIC}"):
        check_input(short_line, release=True)
