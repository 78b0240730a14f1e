"""What was measured is kept, and never measured again: one file for each pair of weights and benchmark fingerprint.

The files lie in the state folder of the user's workspace, which is no output of DVC: an output is what one version of
the parameters makes, and is deleted before its stage runs; here every result stays, for whatever run asks next. A file
is named by the digest of its key and begins with the digest of its content: what is torn, altered or of another schema
is told and measured again. It appears whole, so that two runs that write the same one at once do no harm.
"""

import gzip
import zlib
from pathlib import Path

from tasks.digests import combine_digests, digest_file, digest_text
from tasks.errors import FileInvalid
from tasks.files import parse_json, whole
from tasks.paths import state_folder
from tasks.records import Fingerprint, Measured

EVALUATIONS = "evaluations"
SCORING_CODE = (
    "evaluate_model.py",
    "evaluate_parsing.py",
    "evaluate_vllm.py",
    "item_figures.py",
    "models.py",
    "prefix_cache.py",
)
"""The modules that turn weights and items into scores; a result of other code is not taken for theirs."""


def read_measured(weights_digest: str, fingerprint: Fingerprint) -> Measured | None:
    """What was measured before; None when nothing was, or its file is not what was written."""
    path = place(weights_digest, fingerprint)
    if not path.is_file():
        return None
    try:
        return parse_json(_checked(path), Measured, str(path))
    except FileInvalid as error:
        print(f"evaluate: a kept result is not used and will be measured again: {error}", flush=True)
        return None


def keep(measured: Measured) -> None:
    """Keep what was measured."""
    path = place(measured.weights_digest, measured.fingerprint)
    text = measured.model_dump_json()
    with whole(path) as partial:
        partial.write_bytes(gzip.compress(f"{digest_text(text)}\n{text}".encode(), mtime=0))


def place(weights_digest: str, fingerprint: Fingerprint) -> Path:
    """Where the result of these weights under this fingerprint is kept."""
    here = Path(__file__).parent
    code = combine_digests({name: digest_file(here / name) for name in SCORING_CODE})
    key = digest_text("\n".join([weights_digest, fingerprint.model_dump_json(), code]))
    return state_folder() / EVALUATIONS / f"{key}.json.gz"


def _checked(path: Path) -> str:
    """The content of `path`, when its digest is the one that it begins with.

    Raises:
        FileInvalid: it is not, or the file is torn.
    """
    try:
        digest, _, text = gzip.decompress(path.read_bytes()).decode().partition("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise FileInvalid(f"{path}: cannot be read: {error}") from None
    if digest != digest_text(text):
        raise FileInvalid(f"{path}: its content is not what was written")
    return text
