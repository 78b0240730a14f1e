"""What is published: the approved files of a merged model, its model card and where it comes from."""

import hashlib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tasks.approvals import Approval, require_approval
from tasks.digests import combine_digests, digest_file, digest_text, file_digests
from tasks.errors import NotApproved, PublishRefused
from tasks.files import dump_json
from tasks.model_card_text import merge_card
from tasks.params_types import Name
from tasks.records import Record

README = "README.md"
PROVENANCE = "provenance.json"
SIGNATURE = "model.sig"
STATEMENT = "slsa_provenance.json"
BOM = "mlbom.cdx.json"
BESIDE_THE_MODEL = frozenset({README, PROVENANCE, STATEMENT, BOM, SIGNATURE})
"""What a release carries besides the files of the merged model."""

ALLOWED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)

NEXT_MOVE = "run `dvc repro merge` and release again"

Version = Annotated[str, Field(pattern=r"^v[0-9]+\.[0-9]+\.[0-9]+([.-][0-9A-Za-z]+)*$")]


class Release(Record):
    """What a release is called and which run made it; `version` is written as GTO writes it (`v0.0.1`)."""

    name: Name
    version: Version
    run: str
    commit: str
    base_digest: str
    adapter_digest: str


class Provenance(Record):
    """`provenance.json`: from a released folder back to the run, its evidence and its approval."""

    schema_version: Literal[1] = 1
    release: Release
    approval: Approval
    approval_digest: str
    files: dict[str, str]


class Bundle(Record):
    """Everything that one release consists of: model files by digest, texts by content."""

    provenance: Provenance
    model: Path
    texts: dict[str, str]

    @property
    def release(self) -> Release:
        """The name, the version and the run."""
        return self.provenance.release

    @property
    def digests(self) -> dict[str, str]:
        """Sha256 of every file that is published, by name."""
        return {**self.provenance.files, **{name: digest_text(text) for name, text in self.texts.items()}}

    @property
    def size_bytes(self) -> int:
        """What the release needs on a disk."""
        weights = sum((self.model / name).stat().st_size for name in self.provenance.files)
        return weights + sum(len(text.encode()) for text in self.texts.values())

    def git_digest(self, name: str) -> str:
        """The sha1 that git gives the file as a blob: how the Hub names files outside its large-file storage."""
        content = self.texts[name].encode() if name in self.texts else (self.model / name).read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def over(self, existing_card: str) -> "Bundle":
        """This bundle with what people wrote into `existing_card`, outside the marked block, kept."""
        texts = {**self.texts, README: merge_card(existing_card, self.texts[README])}
        return self.model_copy(update={"texts": texts})


class Published(Record):
    """A finished publication; `digest` is that of the merged model, `commit` the Hub's commit or None for a folder."""

    target: Literal["folder", "hub"]
    location: str
    version: str
    commit: str | None
    digest: str
    files: dict[str, str]


def gather(release: Release, model: Path, approval_path: Path, card: str) -> Bundle:
    """Collect what is published from the merged model at `model` and the text of its model card.

    Raises:
        NotApproved: the approval does not name exactly these bytes.
        PublishRefused: the folder holds something that a release may not carry.
        FileInvalid: the approval is missing or torn.
    """
    approval = require_approval(approval_path, model, NEXT_MOVE)
    files = file_digests(model)
    if approval.subject != "merged_model" or combine_digests(files) != approval.digest:
        raise NotApproved(
            f"{approval_path} approves {approval.subject} {approval.digest[:12]}, not {model}; {NEXT_MOVE}"
        )
    _check_contents(model, files)
    provenance = Provenance(release=release, approval=approval, approval_digest=digest_file(approval_path), files=files)
    return Bundle(
        provenance=provenance, model=model, texts={README: merge_card("", card), PROVENANCE: dump_json(provenance)}
    )


def is_allowed(name: str) -> bool:
    """Whether a release may carry a file of this relative path."""
    return any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in ALLOWED)


def _check_contents(model: Path, files: dict[str, str]) -> None:
    strange = [name for name in files if not is_allowed(name)]
    strange += [name for name in files if name.endswith(".safetensors") and not _is_safetensors(model / name)]
    if strange:
        raise PublishRefused(
            f"{model}: {', '.join(sorted(strange))} may not be released: only safetensors, configuration and tokenizer "
            f"files are, never a pickle; remove it from what `merge` writes, and {NEXT_MOVE}"
        )
    if "config.json" not in files or not any(name.endswith(".safetensors") for name in files):
        raise PublishRefused(
            f"{model}: no config.json with *.safetensors, so `from_pretrained` cannot load it; {NEXT_MOVE}"
        )


def _is_safetensors(path: Path) -> bool:
    """A safetensors file begins with the length of its JSON header, eight bytes, and that header."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and 2 <= int.from_bytes(start[:8], "little") < path.stat().st_size and start[8:] == b"{"
