"""The shared ground: files, digests, approvals, how a stage ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from tasks import files
from tasks.approvals import Approval, require_approval, write_approval
from tasks.digests import combine_digests, digest_path, digest_text
from tasks.errors import DiskFull, FileInvalid, NotApproved
from tests.contract.imports import ROOT


class Note(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str


def approve(path: Path, subject: Path, decision: str = "approved") -> None:
    approval = {
        "subject": "adapter",
        "digest": digest_path(subject),
        "evidence": {},
        "approved_by": "gate",
        "decision": decision,
    }
    write_approval(path, Approval.model_validate(approval))


def write_half(path: Path) -> None:
    with files.whole(path) as partial:
        partial.write_text("half", encoding="utf-8")
        raise RuntimeError("killed")


def test_a_failed_write_leaves_the_old_file_and_no_partial_one(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError, match="killed"):
        write_half(path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with files.whole(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / f"{text}.txt").write_text(text, encoding="utf-8")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.txt")] == ["folder/new.txt"]


@pytest.mark.parametrize("name", ["notes.jsonl", "notes.jsonl.gz"])
def test_records_come_back_as_they_went_also_with_line_separators_in_them(tmp_path: Path, name: str) -> None:
    notes = [Note(text="a\u2028b"), Note(text="c\u0085\n")]
    files.write_jsonl(tmp_path / name, notes)
    assert list(files.read_jsonl(tmp_path / name, Note)) == notes


def test_compressed_records_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("one.gz", "two.gz"):
        files.write_jsonl(tmp_path / name, [Note(text="x")])
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()


def test_a_torn_record_names_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text('{"text": "a"}\n{"tex', encoding="utf-8")
    with pytest.raises(FileInvalid, match=r"notes.jsonl: line 2: not a Note"):
        list(files.read_jsonl(tmp_path / "notes.jsonl", Note))


def test_a_record_of_another_schema_names_the_field(tmp_path: Path) -> None:
    (tmp_path / "note.json").write_text('{"text": "a", "more": 1}', encoding="utf-8")
    with pytest.raises(FileInvalid, match="more: Extra inputs are not permitted"):
        files.read_json(tmp_path / "note.json", Note)


def test_too_little_disk_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=r"MB free, 1,000,000,000 MB needed"):
        files.need_disk(tmp_path / "not" / "there", 10**15)


def test_a_folders_digest_is_that_of_its_sorted_paths_and_contents(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two").write_text("2", encoding="utf-8")
    (tmp_path / "one").write_text("1", encoding="utf-8")
    assert digest_path(tmp_path) == combine_digests({"one": digest_text("1"), "b/two": digest_text("2")})
    assert digest_path(tmp_path) == digest_text(f"b/two\0{digest_text('2')}\none\0{digest_text('1')}\n")


def test_an_approval_is_good_for_its_bytes_only(tmp_path: Path) -> None:
    subject = tmp_path / "adapter"
    subject.write_text("weights", encoding="utf-8")
    approve(tmp_path / "approval.json", subject)
    assert require_approval(tmp_path / "approval.json", subject, "next").digest == digest_text("weights")
    subject.write_text("Weights", encoding="utf-8")
    with pytest.raises(NotApproved, match=r"has digest \w{12}, gate approved \w{12}; run the gate"):
        require_approval(tmp_path / "approval.json", subject, "run the gate")


def test_a_refusal_is_no_approval(tmp_path: Path) -> None:
    subject = tmp_path / "adapter"
    subject.write_text("weights", encoding="utf-8")
    approve(tmp_path / "approval.json", subject, "refused")
    with pytest.raises(NotApproved, match="was refused by gate; see the verdict"):
        require_approval(tmp_path / "approval.json", subject, "see the verdict")


@pytest.mark.parametrize(
    ("body", "exit_code", "said"),
    [
        ("pass", 0, ""),
        ("raise KeyError('a bug')", 1, "Traceback"),
        ("raise errors.SourceInvalid('row 7')", 2, "error: row 7\n"),
        ("raise errors.NotApproved('other bytes')", 3, "refused: other bytes\n"),
        ("raise OSError(28, 'No space left on device', 'x.bin')", 2, "error: x.bin: No space left on device; free"),
        ("raise Exception('I/O error: No space left on device (os error 28)')", 2, "No space left on device (os error"),
    ],
)
def test_a_stage_ends_in_the_agreed_code_with_one_message(tmp_path: Path, body: str, exit_code: int, said: str) -> None:
    code = f"from tasks import errors\nfrom tasks.entry import run_stage\ndef main():\n    {body}\nrun_stage(main)"
    outcome = tmp_path / "outcome.json"
    environment = os.environ | {"TUNEGATE_OUTCOME": str(outcome)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == exit_code
    assert said in done.stderr
    assert ("Traceback" in done.stderr) == (exit_code == 1)
    assert (json.loads(outcome.read_text(encoding="utf-8"))["exit_code"] if exit_code else 0) == exit_code


def test_importing_the_stages_switches_telemetry_off_before_the_libraries_are_there() -> None:
    code = "import os, tasks; print(os.environ['HF_HUB_DISABLE_TELEMETRY'], os.environ['GX_ANALYTICS_ENABLED'])"
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in {"HF_HUB_DISABLE_TELEMETRY", "GX_ANALYTICS_ENABLED"}
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "false"]


def test_what_a_killed_process_left_half_written_goes_with_the_next_write(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".notes.txt.{gone.pid}.partial").mkdir()
    (tmp_path / f".notes.txt.{os.getppid()}.partial").write_text("still being written", encoding="utf-8")
    files.write_text(tmp_path / "notes.txt", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".notes.txt.{os.getppid()}.partial", "notes.txt"]
