"""`tunegate audit verify`: whatever is not as it is on record is named."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.git import git
from flows.record import commit_record, run_folder
from flows.workspace import close_place
from tests.flows.real_release import NAME, RUNS, file_of, pass_only, run_that_passed
from tests.flows.tiny_line import safetensors

Tunegate = Callable[..., tuple[int, str]]


def recommit(root: Path, number: int, name: str, change: Callable[[dict[str, object]], object]) -> None:
    """Change a JSON file beside a release's record and move the release's tag to the commit that has it."""
    run_id, tag = RUNS[number - 1], f"{NAME}@v0.0.{number}"
    path = f"runs/{run_id}/{name}"
    value = json.loads(git(root, "show", f"{tag}:{path}"))
    change(value)
    place = root / "elsewhere"
    git(root, "worktree", "add", "--quiet", "--detach", str(place), tag)
    (place / path).write_text(json.dumps(value), encoding="utf-8")
    words = ("-c", "user.name=Eve", "-c", "user.email=eve@example.org", "commit", "--quiet", "--all", "--message")
    git(place, *words, f"x\n\nRun: {run_id}")
    git(place, "tag", "--force", tag)
    git(root, "worktree", "remove", "--force", str(place))


def test_all_releases_are_verified_when_none_is_named(released: Path, tunegate: Tunegate) -> None:
    code, said = tunegate("audit", "verify")
    lines = said.splitlines()
    assert (code, len(lines)) == (0, 3)
    for number, line in enumerate(lines, start=1):
        assert line.startswith(f"ok       {NAME}@v0.0.{number}: 6 files, 0.0 MB, record and approvals agree, ")


def test_one_release_is_named_by_version_tag_or_run(released: Path, tunegate: Tunegate) -> None:
    for wanted in ("v0.0.2", f"{NAME}@v0.0.2", RUNS[1], "20261121"):
        code, said = tunegate("audit", "verify", wanted)
        assert code == 0
        assert said.startswith(f"ok       {NAME}@v0.0.2: ")
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors", "README.md",
             "provenance.json"],
)  # fmt: skip
def test_one_changed_byte_anywhere_is_found_and_the_other_releases_are_fine(
    released: Path, tunegate: Tunegate, name: str
) -> None:
    file = file_of(released, 2, name)
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    code, said = tunegate("audit", "verify")
    assert code == 3
    assert f"DIFFERS  {NAME}@v0.0.2\n" in said
    assert f"\n  {name}: differs: sha256 " in said
    assert said.count("ok       ") == 2


def test_missing_and_extra_files_and_a_missing_folder_are_named(released: Path, tunegate: Tunegate) -> None:
    file_of(released, 1, "README.md").unlink()
    file_of(released, 1, "adapter.bin").write_bytes(b"planted")
    folder = file_of(released, 3, "config.json").parent
    folder.rename(folder.with_name("gone"))
    code, said = tunegate("audit", "verify")
    assert code == 3
    assert "  README.md: missing\n" in said
    assert "  adapter.bin: extra: it was not released\n" in said
    assert f"  registry/{NAME}/v0.0.3: the folder is missing\n" in said


def swap(key: str, value: object) -> Callable[[dict[str, object]], object]:
    return lambda found: found.update({key: value})


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("verdict.json", swap("confidence", 0.5), "verdict.json: another verdict than the record has"),
        ("verdict.json", swap("verdict", "perhaps"), "verdict.json: missing in git, or unreadable"),
        ("adapter_approval.json", swap("digest", "0" * 64), "adapter_approval.json: another approval than the record"),
        ("merged_approval.json", swap("decision", "refused"), "merged_approval.json: another approval than the record"),
        ("parity.json", swap("mean_kl", 0.0), "parity.json: not what approved the merged_model"),
        ("record.json", swap("status", "refused"), f"run {RUNS[0]} is on record as refused, not passed"),
        ("record.json", swap("approvals", {}), "merged_approval.json: another approval than the record"),
    ],
)  # fmt: skip
def test_a_record_that_disagrees_with_what_git_has_beside_it_is_found(
    released: Path, tunegate: Tunegate, name: str, change: Callable[[dict[str, object]], object], found: str
) -> None:
    recommit(released, 1, name, change)
    code, said = tunegate("audit", "verify", "v0.0.1")
    assert code == 3
    assert found in said


def test_whoever_changes_folder_and_record_together_meets_the_approval(released: Path, tunegate: Tunegate) -> None:
    """The record's own list of files is changed to what was planted; the approved digest is not."""
    planted = safetensors(b"planted")
    file_of(released, 1, "model.safetensors").write_bytes(planted)

    def change(record: dict[str, dict[str, dict[str, str]]]) -> None:
        record["release"]["files"]["model.safetensors"] = hashlib.sha256(planted).hexdigest()

    recommit(released, 1, "record.json", change)  # type: ignore[arg-type]
    code, said = tunegate("audit", "verify", "v0.0.1")
    assert code == 3
    assert "the files on record are not those of the digest on record" in said


def test_a_tag_that_was_moved_to_another_run_is_found(released: Path, tunegate: Tunegate) -> None:
    git(released, "tag", "--force", f"{NAME}@v0.0.1", f"{NAME}@v0.0.2^{{commit}}")
    code, said = tunegate("audit", "verify")
    assert code == 3
    assert f"DIFFERS  {NAME}@v0.0.1 names the record of run {RUNS[1]}, which made {NAME}@v0.0.2" in said


def test_a_tag_of_this_name_that_no_run_made_is_a_difference_and_another_name_is_skipped(
    released: Path, tunegate: Tunegate
) -> None:
    git(released, "tag", "other-model@v9.0.0", "HEAD")
    assert tunegate("audit", "verify")[0] == 0
    git(released, "tag", f"{NAME}@v9.0.0", "HEAD")
    code, said = tunegate("audit", "verify")
    assert code == 3
    assert "skipped  other-model@v9.0.0 names " in said
    assert f"DIFFERS  {NAME}@v9.0.0 names " in said


def test_a_release_of_before_that_kept_no_list_of_files_is_verified_by_its_provenance(
    released: Path, tunegate: Tunegate
) -> None:
    recommit(released, 1, "record.json", lambda found: found["release"].pop("files"))  # type: ignore[attr-defined]
    assert tunegate("audit", "verify", "v0.0.1")[0] == 0
    file_of(released, 1, "config.json").write_text("{}", encoding="utf-8")
    file_of(released, 1, "more.json").write_text("{}", encoding="utf-8")
    code, said = tunegate("audit", "verify", "v0.0.1")
    assert code == 3
    assert "  config.json: differs" in said
    assert "  more.json: extra" in said


def test_a_run_without_a_release_is_verified_by_its_record(
    short_line: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(short_line)
    pass_only(short_line, 1)
    code, said = tunegate("audit", "verify", RUNS[0])
    assert code == 0
    assert said.startswith(f"ok       run {RUNS[0]}: its record agrees with git and DVC's cache; it released nothing\n")
    place, record = run_that_passed(short_line, 2)
    assert record.verdict is not None
    commit_record(place, record.model_copy(update={"verdict": record.verdict.model_copy(update={"confidence": 0.5})}))
    close_place(place)
    code, said = tunegate("audit", "verify", RUNS[1])
    assert code == 3
    assert said.startswith(f"DIFFERS  run {RUNS[1]}\n")
    assert f"\n  {run_folder(RUNS[1])}/verdict.json: another verdict than the record has\n" in said


def test_without_a_release_there_is_nothing_to_verify(
    short_line: Path, tunegate: Tunegate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(short_line)
    assert tunegate("audit", "verify") == (0, "no release yet; `tunegate run` releases what passes\n")
    assert tunegate("audit", "verify", "v0.0.1")[0] == 2
