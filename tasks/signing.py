"""Sign what is released with the user's key, and check such a signature offline: OpenSSF model-signing.

The signature, `model.sig`, says that these bytes came from whoever holds the key. It covers every file but the card:
people may write into the card of a repository on the Hub. What model-signing leaves out by itself, git's own files, is
covered too.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tasks.digests import combine_digests, digest_file
from tasks.errors import KeyInvalid
from tasks.publish_bundle import README, SIGNATURE, Bundle

if TYPE_CHECKING:
    from model_signing import hashing

FROM_ENVIRONMENT = "env:"
_DIGESTS = re.compile(r": Expected 'Digest\(.*?\)', Actual 'Digest\(.*?\)'")
CURVES = ("secp256r1", "secp384r1", "secp521r1")
MAKE_KEYS = (
    "make a pair by `openssl ecparam -genkey -name prime256v1 -noout -out key.pem` and "
    "`openssl ec -in key.pem -pubout -out release.pub`"
)


def key_file(named: str, root: Path) -> Path:
    """The file of the private key that `release.signing_key` names, itself or by an environment variable.

    Raises:
        KeyInvalid: the variable is not set, or there is no such file.
    """
    place, where = named, "release.signing_key"
    if named.startswith(FROM_ENVIRONMENT):
        variable = named.removeprefix(FROM_ENVIRONMENT)
        place, where = os.environ.get(variable, "").strip(), f"{where}: {named}"
        if not place:
            raise KeyInvalid(f"{where}: {variable} is not set; set it to the file of the private key")
        if "-----" in place:
            raise KeyInvalid(f"{where}: {variable} holds a key; it has to hold the name of the file that has the key")
    path = root / Path(place).expanduser()
    if not path.is_file():
        raise KeyInvalid(f"{where}: no such file {path}; {MAKE_KEYS}")
    return path


def check_keys(private: Path, public: Path) -> None:
    """Refuse keys that cannot sign, or that are not a pair, before anything long starts.

    Raises:
        KeyInvalid: with what is wrong; no part of a key is shown.
    """
    try:
        secret = serialization.load_pem_private_key(private.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        why = "it has a password" if isinstance(error, TypeError) else type(error).__name__
        raise KeyInvalid(f"{private}: no private key that can be read ({why}); {MAKE_KEYS}") from None
    if not isinstance(secret, ec.EllipticCurvePrivateKey) or secret.curve.name not in CURVES:
        raise KeyInvalid(f"{private}: not a key on one of the curves {', '.join(CURVES)}; {MAKE_KEYS}")
    try:
        known = serialization.load_pem_public_key(public.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise KeyInvalid(f"{public}: no public key that can be read ({type(error).__name__}); {MAKE_KEYS}") from None
    if _pem(known) != _pem(secret.public_key()):
        raise KeyInvalid(f"{public} is not the public key of {private}; `openssl ec -in {private} -pubout` prints it")


def _pem(key: object) -> bytes:
    public = key if isinstance(key, ec.EllipticCurvePublicKey) else None
    if public is None:
        return b""
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(bundle: Bundle, key: Path, kept: Path) -> Bundle:
    """The bundle with its signature.

    A signature is another one each time. It is kept in the folder `kept` by what it signs, so that a release that is
    given twice is one release.
    """
    from model_signing import signing  # noqa: PLC0415  two seconds, and only where somebody signs

    signed = {name: digest for name, digest in bundle.digests.items() if name not in {README, SIGNATURE}}
    known = kept / f"{_name_of(signed, key)}.sig"
    if not known.is_file():
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=bundle.model.parent) as scratch:
            folder = Path(scratch) / "model"
            _lay_out(bundle, folder)
            made = Path(scratch) / SIGNATURE
            config = signing.Config().use_elliptic_key_signer(private_key=key)
            config.set_hashing_config(_hashing(folder)).sign(folder, made)
            shutil.move(made, known)
    return bundle.model_copy(update={"texts": {**bundle.texts, SIGNATURE: known.read_text(encoding="utf-8")}})


def _name_of(signed: dict[str, str], key: Path) -> str:
    return combine_digests({**signed, "": digest_file(key)})


def _lay_out(bundle: Bundle, folder: Path) -> None:
    """The files that are signed as they will lie in the release, without a second copy where the disk can do that."""
    for name in bundle.provenance.files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link((bundle.model / name).resolve(), target)
        except OSError:
            shutil.copyfile(bundle.model / name, target)
    for name, text in bundle.texts.items():
        if name not in {README, SIGNATURE}:
            (folder / name).write_text(text, encoding="utf-8")


def _hashing(folder: Path) -> "hashing.Config":
    from model_signing import hashing  # noqa: PLC0415

    ignored = [folder / README, folder / SIGNATURE]
    return hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


def signature_problem(folder: Path, public: Path) -> str | None:
    """What is wrong with the signature in a released folder, or None when it is by that key and of these bytes."""
    from model_signing import verifying  # noqa: PLC0415

    if not (folder / SIGNATURE).is_file():
        return "missing"
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public)
        config.set_hashing_config(_hashing(folder)).verify(folder, folder / SIGNATURE)
    except Exception as error:  # noqa: BLE001  a torn signature raises whatever its parts do
        if type(error) is not ValueError:
            return f"not valid, or torn ({type(error).__name__})"
        return " ".join(_DIGESTS.sub("", str(error).replace("\\'", "'")).split())
    return None
