"""The sections that the data stages read."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.params_types import Commit, Name, RepoId, Role, Section, Seed, Sha256, Share
from tasks.paths import SOURCES


class TemplateLayout(Section):
    """Columns turned into a conversation: `{column}` is filled in, `{{` and `}}` are braces.

    A row is broken when a column of `required` is blank, or one of `allowed` holds another value than those listed.
    """

    kind: Literal["template"]
    system: str
    prompt: str
    completion: str
    required: list[str]
    allowed: dict[str, list[str]]


class NamedLayout(Section):
    """A layout that is recognised by its columns; `auto` looks at the first rows.

    `tools` says what becomes of tool calls: `native` hands them to the chat template as such, `text` writes tools into
    the system turn and calls into the assistant's turn, for a base model whose template does not know them.
    """

    kind: Literal["auto", "messages", "sharegpt", "alpaca", "prompt_completion"]
    system: str
    tools: Literal["native", "text"]


class Source(Section):
    """One input of the line: a file, a folder or a glob of files, in one layout.

    `role` says what the rows are for: `train` and `replay` are trained on, `test` is a test split that was supplied,
    `seen_by_base` is only compared with the benchmarks, because the base model was trained on it. `weight` is how
    often a row of `train` is seen in an epoch (0.5: every second one), and for `replay` its share among such sources.
    `sha256` pins a file outside of `data/sources`, which dvc does not watch.
    """

    name: Name
    role: Role
    path: str
    sha256: Sha256 | None
    repo_id: RepoId | None
    revision: Commit | None
    weight: float = Field(gt=0, le=100)
    layout: TemplateLayout | NamedLayout = Field(discriminator="kind")

    @model_validator(mode="after")
    def _pinned(self) -> "Source":
        if (self.repo_id is None) != (self.revision is None):
            raise ValueError("repo_id and revision come together: a Hub data set is pinned to a commit")
        if self.sha256 is not None and (self.repo_id is not None or not Path(self.path).is_absolute()):
            raise ValueError("sha256 pins one file by its absolute path; a path in data/sources needs none")
        if self.sha256 is None and (Path(self.path).is_absolute() or ".." in Path(self.path).parts):
            raise ValueError(
                "an absolute path needs sha256, for dvc does not watch it (`tunegate data show PATH` prints it); "
                "any other path has no `..`"
            )
        if self.sha256 is None and self.repo_id is None and not Path(self.path).is_relative_to(SOURCES):
            raise ValueError(f"path must lie in {SOURCES}, so that dvc sees when it changes; found {self.path!r}")
        return self


class IngestParams(Section):
    """How many broken rows a source may have before the line stops."""

    max_broken_share: Share


class SpecialTokenParams(Section):
    """What becomes of the chat template's special tokens in a text; `extra` names marks of other templates."""

    action: Literal["escape", "drop"]
    extra: list[str]


class PiiParams(Section):
    """Personal data: the kinds to look for, and what is done about them in prompts and in completions."""

    kinds: list[Literal["email", "card", "phone", "iban", "ip"]]
    in_prompt: Literal["mask", "drop"]
    in_completion: Literal["mask", "drop"]


class LanguageParams(Section):
    """The languages that stay (ISO 639-1); a text below `min_chars`, or a guess below `min_confidence`, stays."""

    allowed: list[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]] = Field(min_length=1)
    min_confidence: Share
    min_chars: int = Field(ge=0)


class RepetitionParams(Section):
    """Gopher's bounds (Rae et al. 2021, table A1), on completions of at least `min_words` words.

    Shares of lines, of paragraphs, and of characters: in the commonest 2-, 3- and 4-gram, and in any 5- to 10-gram
    that comes twice.
    """

    min_words: int = Field(ge=1)
    max_duplicate_line_share: Share
    max_duplicate_paragraph_share: Share
    max_top_ngram_char_shares: Annotated[list[Share], Field(min_length=3, max_length=3)]
    max_duplicate_ngram_char_shares: Annotated[list[Share], Field(min_length=6, max_length=6)]


class CleanParams(Section):
    """The cleaning rules; each names the reason that it gives, and null or an empty list switches one off."""

    repair_unicode: bool
    normalization: Literal["NFC", "NFKC"] | None
    remove_control_characters: bool
    min_prompt_chars: int | None = Field(ge=0)
    max_prompt_chars: int | None = Field(ge=1)
    min_completion_chars: int | None = Field(ge=1)
    max_completion_chars: int | None = Field(ge=1)
    max_tokens: int | None = Field(ge=8)
    truncation_marks: list[str]
    refusal_phrases: list[str]
    boilerplate_phrases: list[str]
    repetition: RepetitionParams | None
    language: LanguageParams | None
    special_tokens: SpecialTokenParams
    pii: PiiParams | None
    secrets: Literal["drop", "mask"] | None


class SemanticParams(Section):
    """Duplicates by meaning: an embedding model (a folder, or a Hub name at a commit) and the least cosine."""

    model: str
    revision: Commit | None
    min_cosine: Share


class DedupParams(Section):
    """MinHash LSH over word n-grams, verified by exact Jaccard similarity.

    Words in an n-gram of `shared_ngram_words` that `max_shared_share` of a source's rows have are a template's, and no
    part of a row's key. `conflicting_answers` are rows of one prompt with different answers: dropped, or only noted.
    One cluster over `max_cluster_share` of the rows, or more than `max_removed_share` removed, raises an alarm.
    """

    ngram_words: int = Field(ge=1, le=10)
    num_hashes: int = Field(ge=16, le=1024)
    bands: int = Field(ge=1)
    min_jaccard: Share
    shared_ngram_words: int = Field(ge=2, le=50)
    max_shared_share: Share
    conflicting_answers: Literal["drop", "keep"]
    max_cluster_share: Share
    max_removed_share: Share
    semantic: SemanticParams | None
    seed: Seed

    @model_validator(mode="after")
    def _whole_rows(self) -> "DedupParams":
        if self.num_hashes % self.bands:
            raise ValueError("num_hashes must be a multiple of bands")
        return self


class SplitParams(Section):
    """Partition by cluster, decontamination against the gate's benchmarks, replay.

    A row is contaminated when it shares `decontaminate_ngram_words` words in a row with a benchmark's item, holds a
    shorter item whole, or is at least `decontaminate_min_jaccard` like one.
    """

    validation_share: Share
    test_share: Annotated[float, Field(ge=0, lt=1)]
    replay_share: Share
    decontaminate_ngram_words: int = Field(ge=1, le=50)
    decontaminate_min_jaccard: Share
    seed: Seed


class ValidateParams(Section):
    """Bounds that the expectation suite takes from here; `max_drift` is a population stability index."""

    min_train_examples: int = Field(ge=1)
    min_validation_examples: int = Field(ge=0)
    min_test_examples: int = Field(ge=1)
    max_dropped_share: Share
    max_duplicate_share: Share
    max_pii_share: Share
    max_drift: float = Field(gt=0)


class EngineParams(Section):
    """Where the data stages run: this machine's cores, or a Ray cluster; the rows that come out are the same.

    `ray_address` null starts Ray on this machine; `workers` 0 takes one process for each core.
    """

    runner: Literal["native", "ray"]
    ray_address: str | None
    workers: int = Field(ge=0, le=4096)
