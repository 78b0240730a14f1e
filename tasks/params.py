"""`params.yaml`: every value that can change a run, parsed once into frozen, strict, typed sections.

Names that belong to an upstream library are upstream's names, word for word; ours carry their unit. There are no
hidden defaults: what is not in the file is an error, and all errors are reported at once.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tasks.errors import ParamsInvalid
from tasks.params_problems import describe_problems
from tasks.paths import PARAMS, SOURCES
from tasks.yaml_files import read_yaml

HEX40 = re.compile(r"[0-9a-f]{40}")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]
RepoId = Annotated[str, Field(pattern=rf"^{REPO_ID.pattern}$")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Role = Literal["train", "replay", "test", "seen_by_base"]
Seconds = Annotated[int, Field(gt=0, le=7 * 24 * 3600)]


class Section(BaseModel):
    """A part of the parameters: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def check_inside(path: str) -> str:
    """Refuse a path that is absolute or climbs out of the workspace.

    Raises:
        ValueError: it is one of these.
    """
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ValueError("must be a path inside the workspace, without `..`")
    return path


def check_absolute(path: str) -> str:
    """Refuse a path that leads elsewhere from another folder.

    Raises:
        ValueError: it is relative; `~` is not expanded.
    """
    if not Path(path).is_absolute():
        raise ValueError(
            f"must be an absolute path, found {path!r}: a run happens in a copy of the workspace elsewhere; "
            "write the folder's full path, from `/`"
        )
    return path


class HubOrigin(Section):
    """A model repository on the Hub at one commit; its files stay in the Hub cache."""

    source: Literal["hub"]
    repo_id: RepoId
    revision: Commit


class PathOrigin(Section):
    """A folder with safetensors weights on this machine, by its absolute path."""

    source: Literal["path"]
    path: str

    _absolute = field_validator("path")(check_absolute)


class PackageOrigin(Section):
    """A wheel of the package index that carries a GGUF file."""

    source: Literal["package"]
    requirement: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+$")]
    wheel_sha256: Sha256
    member: str
    member_sha256: Sha256


class BaseModelParams(Section):
    """The weights that training starts from."""

    name: RepoId
    license: str
    dtype: Literal["bfloat16", "float16", "float32"]
    origin: HubOrigin | PathOrigin | PackageOrigin = Field(discriminator="source")


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


class LoraParams(Section):
    """peft.LoraConfig, by its own names."""

    r: int = Field(ge=1)
    lora_alpha: int = Field(ge=1)
    lora_dropout: float = Field(ge=0, lt=1)
    target_modules: Literal["all-linear"] | list[str]
    bias: Literal["none", "all", "lora_only"]


class QuantizationParams(Section):
    """transformers.BitsAndBytesConfig, by its own names."""

    load_in_4bit: Literal[True]
    bnb_4bit_quant_type: Literal["nf4", "fp4"]
    bnb_4bit_use_double_quant: bool
    bnb_4bit_compute_dtype: Literal["auto", "bfloat16", "float16", "float32"]


class TrainParams(Section):
    """QLoRA with TRL; the fields are trl.SFTConfig's own unless a comment says otherwise."""

    method: Literal["qlora"]
    num_train_epochs: float = Field(gt=0, le=1000)
    max_steps: int = Field(ge=-1)
    per_device_train_batch_size: int = Field(ge=1)
    per_device_eval_batch_size: int = Field(ge=1)
    gradient_accumulation_steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0, le=1)
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"]
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0, lt=1)
    max_grad_norm: float = Field(gt=0)
    optim: Literal["adamw_torch", "paged_adamw_32bit", "paged_adamw_8bit"]
    max_length: int = Field(ge=8)
    logging_steps: int = Field(ge=1)
    eval_steps: int = Field(ge=1)
    activation_checkpointing: bool
    seed: Seed


class ComputeParams(Section):
    """The machine's part: `threads` is the number of CPU threads of torch, 0 takes what torch chooses."""

    threads: int = Field(ge=0, le=1024)


class Benchmark(Section):
    """One lm-eval task and what it is for: `target` must improve, `guard` must not get worse."""

    name: Name
    role: Literal["target", "guard", "report"]
    num_fewshot: int = Field(ge=0)


class EvaluateParams(Section):
    """How every model of the line is measured; base and candidate alike."""

    benchmarks: list[Benchmark] = Field(min_length=1)
    batch_size: int = Field(ge=1)
    max_length: int = Field(ge=8)
    apply_chat_template: bool
    limit: int | None = Field(ge=1)
    seed: Seed


class Rule(Section):
    """What one metric of one benchmark must show; None leaves that part of the rule out."""

    benchmark: Name
    metric: str
    filter_name: str
    min_value: float | None
    min_gain_over_base: float | None
    max_loss_from_base: float | None
    max_loss_from_champion: float | None


class GateParams(Section):
    """The rules, and how sure the gate must be of a gain."""

    rules: list[Rule] = Field(min_length=1)
    confidence: float = Field(gt=0.5, lt=1)
    resamples: int = Field(ge=100)
    seed: Seed


class MergeParams(Section):
    """How far the merged model may be from the quantised base plus adapter."""

    dtype: Literal["bfloat16", "float16", "float32"]
    parity_prompts: int = Field(ge=1)
    max_mean_kl: float = Field(gt=0)
    min_top1_agreement: Share


class ReleaseParams(Section):
    """Where an approved model goes."""

    name: Name
    target: Literal["folder", "hub"]
    folder: str
    repo_id: RepoId | None
    private: bool
    stage: Name
    promote: bool

    _inside = field_validator("folder")(check_inside)

    @model_validator(mode="after")
    def _addressed(self) -> "ReleaseParams":
        if self.target == "hub" and self.repo_id is None:
            raise ValueError("target `hub` needs repo_id")
        return self


class RunParams(Section):
    """How the flow drives the stages; these values never reach a stage."""

    stage_timeout_seconds: Seconds
    stage_retries: int = Field(ge=0, le=10)
    retry_delay_seconds: Seconds


class Params(Section):
    """The whole of `params.yaml`."""

    base_model: BaseModelParams
    sources: list[Source] = Field(min_length=1)
    ingest: IngestParams
    clean: CleanParams
    dedup: DedupParams
    split: SplitParams
    validate_: ValidateParams = Field(alias="validate")
    lora: LoraParams
    quantization: QuantizationParams
    train: TrainParams
    compute: ComputeParams
    engine: EngineParams
    evaluate: EvaluateParams
    gate: GateParams
    merge: MergeParams
    release: ReleaseParams
    run: RunParams

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        problems = list(_cross_checks(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _cross_checks(params: Params) -> Iterator[str]:
    names = [source.name for source in params.sources]
    if len(set(names)) < len(names):
        yield "sources: names must differ, they are part of every example's id"
    if not any(source.role == "train" for source in params.sources):
        yield "sources: at least one needs role `train`"
    measured = {benchmark.name for benchmark in params.evaluate.benchmarks}
    for rule in params.gate.rules:
        if rule.benchmark not in measured:
            yield f"gate.rules: {rule.benchmark!r} is not in evaluate.benchmarks ({', '.join(sorted(measured))})"
    ruled = {rule.benchmark for rule in params.gate.rules}
    for benchmark in params.evaluate.benchmarks:
        if benchmark.role != "report" and benchmark.name not in ruled:
            yield f"gate.rules: {benchmark.name!r} is a {benchmark.role} without a rule; give it one, or role `report`"
    longest = params.clean.max_tokens
    if longest is not None and longest > params.train.max_length:
        yield (
            f"clean.max_tokens ({longest}) must not be above train.max_length ({params.train.max_length}): "
            "what is longer would be cut, its stop token first"
        )
    if params.split.test_share == 0 and not any(source.role == "test" for source in params.sources):
        yield "split: test_share 0 needs a source with role `test`"
    if params.split.validation_share + params.split.test_share >= 1:
        yield "split: validation_share and test_share leave nothing to train on"


def load_params(path: Path = PARAMS) -> Params:
    """Parse `path`.

    Raises:
        ParamsInvalid: with every problem, each with line, key, what was found and the nearest valid name.
    """
    document = read_yaml(path)
    try:
        return Params.model_validate(document.value)
    except ValidationError as error:
        problems = describe_problems(document, error, Params)
        raise ParamsInvalid(
            "\n".join([f"{path}: {len(problems)} problem(s), nothing was started", *problems])
        ) from None
