import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tasks.digests import file_digests
from tasks.errors import KeyInvalid
from tasks.publish_bundle import Bundle, gather
from tasks.publish_folder import publish_to_folder
from tasks.signing import check_keys, key_file, sign, signature_problem
from tests.unit.test_publish_bundle import RELEASE, make_model

PRIVATE, PUBLIC = "key.pem", "release.pub"


def make_keys(folder: Path, password: bytes | None = None) -> tuple[Path, Path]:
    """A pair of keys on P-256 in PEM files."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = ec.generate_private_key(ec.SECP256R1())
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private = secret.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    public = secret.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / PRIVATE).write_bytes(private)
    (folder / PUBLIC).write_bytes(public)
    return folder / PRIVATE, folder / PUBLIC


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_keys(tmp_path / "keys")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return gather(RELEASE, *make_model(tmp_path / "source"), card="card\n")


@pytest.fixture
def folder(tmp_path: Path, bundle: Bundle, keys: tuple[Path, Path]) -> Path:
    """A released folder that is signed."""
    signed = sign(bundle, keys[0], tmp_path / "kept")
    return Path(publish_to_folder(signed, tmp_path / "registry").location)


def test_a_signed_release_is_checked_with_the_public_key_alone(folder: Path, keys: tuple[Path, Path]) -> None:
    keys[0].unlink()
    assert signature_problem(folder, keys[1]) is None
    assert "PRIVATE" not in (folder / "model.sig").read_text(encoding="utf-8")


def test_the_signature_is_part_of_what_is_published_and_the_model_stays_as_it_was(
    tmp_path: Path, bundle: Bundle, keys: tuple[Path, Path]
) -> None:
    before = file_digests(bundle.model)
    signed = sign(bundle, keys[0], tmp_path / "kept")
    published = publish_to_folder(signed, tmp_path / "registry")
    assert file_digests(Path(published.location)) == published.files
    assert set(published.files) - set(bundle.digests) == {"model.sig"}
    assert file_digests(bundle.model) == before
    assert sorted(path.name for path in bundle.model.parent.iterdir()) == sorted({bundle.model.name, "approval.json"})


def test_signing_twice_gives_the_same_release(tmp_path: Path, bundle: Bundle, keys: tuple[Path, Path]) -> None:
    kept = tmp_path / "kept"
    first, second = (sign(bundle, keys[0], kept).digests for _ in range(2))
    assert first == second
    other, _ = make_keys(tmp_path / "other")
    assert sign(bundle, other, kept).digests != first


def change(name: str) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return act


def plant(name: str) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("planted", encoding="utf-8")

    return act


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (change("model.safetensors"), "Hash mismatch for 'model.safetensors'"),
        (change("provenance.json"), "Hash mismatch for 'provenance.json'"),
        (lambda folder: (folder / "config.json").unlink(), "Missing files in model 'v0.1.0': config.json"),
        (plant("more.json"), "Extra files found in model 'v0.1.0': more.json"),
        (plant(".git/hook"), "Extra files found in model 'v0.1.0': .git/hook"),
        (plant(".gitattributes"), "Extra files found in model 'v0.1.0': .gitattributes"),
        (lambda folder: (folder / "link.json").symlink_to("/etc/hostname"), "link.json"),
        (lambda folder: os.truncate(folder / "model.sig", 400), "not valid, or torn (JSONDecodeError)"),
        (lambda folder: (folder / "model.sig").write_text("{}"), "not valid, or torn (KeyError)"),
        (lambda folder: (folder / "model.sig").unlink(), "missing"),
    ],
    ids=["weights", "provenance", "missing", "extra", "git hook", "git attributes", "link", "torn", "empty", "none"],
)
def test_whatever_is_other_than_what_was_signed_is_told(
    folder: Path, keys: tuple[Path, Path], act: Callable[[Path], object], told: str
) -> None:
    act(folder)
    problem = signature_problem(folder, keys[1])
    assert problem is not None
    assert told in problem


def test_another_key_did_not_sign_it(folder: Path, tmp_path: Path) -> None:
    _, other = make_keys(tmp_path / "other")
    assert signature_problem(folder, other) is not None


def test_a_signature_says_what_it_leaves_out_and_that_is_the_card_alone(folder: Path, keys: tuple[Path, Path]) -> None:
    envelope = json.loads((folder / "model.sig").read_text(encoding="utf-8"))["dsseEnvelope"]
    told = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
    assert sorted(told["serialization"]["ignore_paths"]) == ["README.md", "model.sig"]
    assert {item["name"] for item in told["resources"]} == set(file_digests(folder)) - {"README.md", "model.sig"}
    (folder / "README.md").write_text("people write here", encoding="utf-8")
    assert signature_problem(folder, keys[1]) is None


def test_a_key_is_named_by_its_file_or_by_a_variable(
    tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert key_file("keys/key.pem", tmp_path) == keys[0]
    assert key_file(str(keys[0]), tmp_path / "elsewhere") == keys[0]
    monkeypatch.setenv("RELEASE_KEY", str(keys[0]))
    assert key_file("env:RELEASE_KEY", tmp_path) == keys[0]
    monkeypatch.delenv("RELEASE_KEY")
    with pytest.raises(KeyInvalid, match="env:RELEASE_KEY: RELEASE_KEY is not set"):
        key_file("env:RELEASE_KEY", tmp_path)
    with pytest.raises(KeyInvalid, match=r"no such file .*none.pem; make a pair by `openssl"):
        key_file("none.pem", tmp_path)


def test_a_key_in_the_variable_is_not_shown(
    tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = keys[0].read_text(encoding="utf-8")
    monkeypatch.setenv("RELEASE_KEY", text)
    with pytest.raises(KeyInvalid, match="holds a key") as refused:
        key_file("env:RELEASE_KEY", tmp_path)
    assert text.splitlines()[1] not in str(refused.value)


def test_keys_that_are_no_pair_have_a_password_or_another_kind_are_refused(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "one")
    check_keys(private, public)
    other, _ = make_keys(tmp_path / "two")
    with pytest.raises(KeyInvalid, match="is not the public key of"):
        check_keys(other, public)
    with pytest.raises(KeyInvalid, match="no private key that can be read"):
        check_keys(public, public)
    with pytest.raises(KeyInvalid, match="no public key that can be read"):
        check_keys(private, private)
    hidden, _ = make_keys(tmp_path / "hidden", b"secret")
    with pytest.raises(KeyInvalid, match="it has a password"):
        check_keys(hidden, public)
    rsa_key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    private.write_bytes(rsa_key)
    with pytest.raises(KeyInvalid, match="not a key on one of the curves"):
        check_keys(private, public)
