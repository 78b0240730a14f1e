import json
from pathlib import Path

import pytest

from tasks.approvals import Approval, Subject, write_approval
from tasks.digests import combine_digests, digest_file, digest_path, file_digests
from tasks.errors import NotApproved, PublishRefused
from tasks.publish_bundle import Bundle, Provenance, Release, gather, is_allowed

RELEASE = Release(
    name="support-router", version="v0.1.0", run="r1", commit="c" * 40, base_digest="b" * 64, adapter_digest="a" * 64
)


def make_model(folder: Path, weights: bytes = b"weights", subject: Subject = "merged_model") -> tuple[Path, Path]:
    """A tiny folder as `from_pretrained` expects it, with an approval of exactly its bytes."""
    model = folder / "model"
    model.mkdir(parents=True)
    header = b'{"__metadata__":{}}'
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + weights)
    (model / "config.json").write_text("{}\n")
    (model / "tokenizer.json").write_text('{"a": 1}\n')
    (model / "chat_template.jinja").write_text("{{ messages }}\n")
    return model, approve(model, subject)


def approve(model: Path, subject: Subject = "merged_model") -> Path:
    approval = Approval(
        subject=subject, digest=digest_path(model), evidence={}, approved_by="parity", decision="approved"
    )
    path = model.parent / "approval.json"
    write_approval(path, approval)
    return path


def collect(folder: Path) -> Bundle:
    return gather(RELEASE, *make_model(folder), card="card\n")


def test_a_bundle_holds_the_approved_files_the_card_and_the_provenance(tmp_path: Path) -> None:
    bundle = collect(tmp_path)
    assert sorted(bundle.digests) == [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "provenance.json",
        "tokenizer.json",
    ]
    assert combine_digests(bundle.provenance.files) == bundle.provenance.approval.digest


def test_the_provenance_leads_back_to_the_run_and_its_approval(tmp_path: Path) -> None:
    bundle = collect(tmp_path)
    provenance = Provenance.model_validate_json(bundle.texts["provenance.json"])
    assert provenance.release == RELEASE
    assert provenance.approval_digest == digest_file(tmp_path / "approval.json")
    assert provenance.files == file_digests(tmp_path / "model")


def test_the_same_evidence_gives_the_same_bundle(tmp_path: Path) -> None:
    assert collect(tmp_path / "one").digests == collect(tmp_path / "two").digests


def test_a_model_that_changed_after_its_approval_is_not_released(tmp_path: Path) -> None:
    model, approval = make_model(tmp_path)
    (model / "config.json").write_text('{"changed": 1}\n')
    with pytest.raises(NotApproved, match="parity approved"):
        gather(RELEASE, model, approval, "card\n")


def test_an_approval_of_something_else_does_not_release_a_model(tmp_path: Path) -> None:
    model, approval = make_model(tmp_path, subject="adapter")
    with pytest.raises(NotApproved, match="approves adapter"):
        gather(RELEASE, model, approval, "card\n")


@pytest.mark.parametrize("name", ["training_args.bin", "optimizer.pt", "modeling.py", "sub/model.safetensors"])
def test_a_file_that_no_release_may_carry_is_refused_by_name(tmp_path: Path, name: str) -> None:
    model, _ = make_model(tmp_path)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("x")
    with pytest.raises(PublishRefused, match=name):
        gather(RELEASE, model, approve(model), "card\n")


def test_a_pickle_that_calls_itself_safetensors_is_refused(tmp_path: Path) -> None:
    model, _ = make_model(tmp_path)
    (model / "model.safetensors").write_bytes(b"PK\x03\x04 a zip as torch.save writes it")
    with pytest.raises(PublishRefused, match=r"model\.safetensors may not be released.*never a pickle"):
        gather(RELEASE, model, approve(model), "card\n")


def test_a_folder_that_cannot_be_loaded_is_not_released(tmp_path: Path) -> None:
    model, _ = make_model(tmp_path)
    (model / "config.json").unlink()
    with pytest.raises(PublishRefused, match=r"no config\.json"):
        gather(RELEASE, model, approve(model), "card\n")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model-00001-of-00002.safetensors", True),
        ("model.safetensors.index.json", True),
        ("tokenizer_config.json", True),
        ("additional_chat_templates/tool.jinja", True),
        ("tokenizer.pkl", False),
        ("pytorch_model.bin", False),
        (".DS_Store", False),
    ],
)
def test_the_allow_list_names_what_from_pretrained_reads(name: str, expected: bool) -> None:
    assert is_allowed(name) is expected


@pytest.mark.parametrize("version", ["main", "../v1.0.0", "v1", "v1.0.0/x"])
def test_a_version_is_a_version(version: str) -> None:
    with pytest.raises(ValueError, match="version"):
        Release.model_validate({**json.loads(RELEASE.model_dump_json()), "version": version})
