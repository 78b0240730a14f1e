"""`tunegate audit export`: a zip that plain `sha256sum` checks."""

import hashlib
import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.git import git
from tests.flows.real_release import NAME, RUNS, file_of, pass_only

Tunegate = Callable[..., tuple[int, str]]


def unpacked(zipped: Path, folder: Path) -> Path:
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(folder)
    (inside,) = folder.iterdir()
    return inside


def check(folder: Path, sums: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sha256sum", "--check", sums], cwd=folder, capture_output=True, text=True, check=False)


def test_a_released_run_is_checked_by_sha256sum_alone(released: Path, tunegate: Tunegate, tmp_path: Path) -> None:
    code, said = tunegate("audit", "export", RUNS[0], "-o", str(tmp_path / "run.zip"))
    assert code == 0
    inside = unpacked(tmp_path / "run.zip", tmp_path / "out")
    assert inside.name == f"run-{RUNS[0]}"
    assert check(inside, "SHA256SUMS").returncode == 0
    listed = {line.split("  ")[1] for line in (inside / "SHA256SUMS").read_text(encoding="utf-8").splitlines()}
    assert listed == {
        path.relative_to(inside).as_posix()
        for path in inside.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert hashlib.sha256((inside / "SHA256SUMS").read_bytes()).hexdigest() in said
    assert check(inside, "EVIDENCE.sha256").returncode == 0
    assert check(file_of(released, 1, "README.md").parent, str(inside / "MODEL.sha256")).returncode == 0


def test_what_an_auditor_asks_for_is_inside(released: Path, tunegate: Tunegate, tmp_path: Path) -> None:
    git(released, "config", "user.name", "Grace")
    git(released, "config", "user.email", "grace@example.org")
    assert tunegate("approve", RUNS[0], "--why", "read it")[0] == 0
    assert tunegate("audit", "export", RUNS[0], "-o", str(tmp_path / "run.zip"))[0] == 0
    inside = unpacked(tmp_path / "run.zip", tmp_path / "out")
    names = {path.relative_to(inside).as_posix() for path in inside.rglob("*") if path.is_file()}
    assert names >= {
        "README.txt", "record.json", "params.yaml", "dvc.yaml", "verdict.json", "candidate_samples.jsonl.gz",
        "adapter_approval.json", "merged_approval.json", "sign_offs.json", "git.json", "release/README.md",
        "release/provenance.json", "MODEL.sha256",
    }  # fmt: skip
    facts = json.loads((inside / "git.json").read_text(encoding="utf-8"))
    assert [commit["subject"] for commit in facts["commits"]] == [f"Approve run {RUNS[0]}", f"Run {RUNS[0]}: passed"]
    assert facts["commits"][0]["author"] == "Grace <grace@example.org>"
    assert [tag["name"] for tag in facts["tags"]] == [f"{NAME}@v0.0.1"]
    assert f"Register {NAME}@v0.0.1" in facts["tags"][0]["object"]
    assert [earlier["run_id"] for earlier in facts["vouched_for_by"]] == [RUNS[1]]
    assert "sha256sum --check SHA256SUMS" in (inside / "README.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "sums"), [("verdict.json", "SHA256SUMS"), ("parity.json", "EVIDENCE.sha256")])
def test_a_changed_file_is_found(released: Path, tunegate: Tunegate, tmp_path: Path, name: str, sums: str) -> None:
    tunegate("audit", "export", RUNS[1], "-o", str(tmp_path / "run.zip"))
    inside = unpacked(tmp_path / "run.zip", tmp_path / "out")
    (inside / name).write_text("{}", encoding="utf-8")
    done = check(inside, sums)
    assert (done.returncode, f"{name}: FAILED" in done.stdout) == (1, True)


def test_the_same_run_gives_the_same_bytes_beside_where_the_command_was_given(
    short_line: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(short_line)
    pass_only(short_line, 1)
    zipped = short_line / f"run-{RUNS[0]}.zip"
    assert tunegate("audit", "export", RUNS[0])[1].startswith(f"{zipped}\n")
    before = zipped.read_bytes()
    assert tunegate("audit", "export", "20261120")[0] == 0
    assert zipped.read_bytes() == before
    with zipfile.ZipFile(zipped) as archive:
        assert not any("release/" in name for name in archive.namelist())
