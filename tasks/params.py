"""`params.yaml`: every value that can change a run, parsed once into frozen, strict, typed sections.

Names that belong to an upstream library are upstream's names, word for word; ours carry their unit. There are no
hidden defaults: what is not in the file is an error, and all errors are reported at once.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from tasks.errors import ParamsInvalid
from tasks.params_checks import contradictions
from tasks.params_data import CleanParams, DedupParams, EngineParams, IngestParams, Source, SplitParams, ValidateParams
from tasks.params_gate import GateParams
from tasks.params_problems import describe_problems
from tasks.params_train import AdapterParams, ComputeParams, LoraParams, QuantizationParams, TrainParams
from tasks.params_types import (
    BenchmarkName,
    Commit,
    Name,
    RepoId,
    Seconds,
    Section,
    Seed,
    Sha256,
    Share,
    check_absolute,
    check_inside,
)
from tasks.paths import PARAMS
from tasks.yaml_files import Document, read_yaml

Kind = TypeVar("Kind", bound=BaseModel)


class HubOrigin(Section):
    """A model repository on the Hub at one commit; its files stay in the Hub cache."""

    source: Literal["hub"]
    repo_id: RepoId
    revision: Commit

    @property
    def is_placeholder(self) -> bool:
        """Whether the commit is the zeros of the profiles, which stand for one that the user chooses."""
        return set(self.revision) == {"0"}


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


class Benchmark(Section):
    """One lm-eval task, group or tag, and what it is for: `target` must improve, `guard` must not get worse."""

    name: BenchmarkName
    role: Literal["target", "guard", "report"]
    num_fewshot: int = Field(ge=0)


class EvaluateParams(Section):
    """How every model of the line is measured; base and candidate alike."""

    benchmarks: list[Benchmark] = Field(min_length=1)
    include_path: list[str]
    backend: Literal["auto", "hf", "vllm"]
    batch_size: int = Field(ge=1)
    max_length: int = Field(ge=8)
    apply_chat_template: bool
    limit: int | None = Field(ge=1)
    seed: Seed

    @field_validator("include_path")
    @classmethod
    def _inside(cls, folders: list[str]) -> list[str]:
        return [check_inside(folder) for folder in folders]


class MergeParams(Section):
    """How the adapter is folded in, and how far the merged model may be from the quantised base plus adapter.

    `max_memory_gib` is what the weights that are worked on may take at once, null for as much as they take.
    """

    dtype: Literal["bfloat16", "float16", "float32"]
    max_memory_gib: float | None = Field(gt=0)
    parity_prompts: int = Field(ge=1)
    max_mean_kl: float = Field(gt=0)
    min_top1_agreement: Share


class ReleaseParams(Section):
    """Where an approved model goes, who has to agree, and who signs.

    `signing_key` names the file of the private key, or `env:NAME` the variable that does; `public_key` is a file that
    git has. Both null: nothing is signed.
    """

    name: Name
    target: Literal["folder", "hub"]
    folder: str
    repo_id: RepoId | None
    private: bool
    stage: Name
    promote: bool
    require_approval: bool
    signing_key: str | None
    public_key: str | None

    _inside = field_validator("folder")(check_inside)

    @field_validator("signing_key")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value is not None and "-----" in value:
            raise ValueError("names the file of a key, or `env:NAME` of a variable that does; never the key itself")
        return value

    @field_validator("public_key")
    @classmethod
    def _in_git(cls, value: str | None) -> str | None:
        return value if value is None else check_inside(value)

    @model_validator(mode="after")
    def _addressed(self) -> "ReleaseParams":
        if self.target == "hub" and self.repo_id is None:
            raise ValueError("target `hub` needs repo_id")
        if (self.signing_key is None) != (self.public_key is None):
            raise ValueError("signing_key and public_key go together: one signs, everybody checks with the other")
        return self


class StageLimits(Section):
    """How long a stage may take, and how often it is tried again where that may help; the delay doubles each time."""

    timeout_seconds: Seconds
    retries: int = Field(ge=0, le=10)
    retry_delay_seconds: Seconds


class RunParams(Section):
    """How the flow drives the stages; these values never reach a stage. `by_stage` has other values for some."""

    stage_timeout_seconds: Seconds
    stage_retries: int = Field(ge=0, le=10)
    retry_delay_seconds: Seconds
    by_stage: dict[str, StageLimits]

    def limits(self, stage: str) -> StageLimits:
        """The values for one stage."""
        common = StageLimits(
            timeout_seconds=self.stage_timeout_seconds,
            retries=self.stage_retries,
            retry_delay_seconds=self.retry_delay_seconds,
        )
        return self.by_stage.get(stage, common)


class RetrainParams(Section):
    """What a scheduled run asks before it trains, and whom it tells; no stage reads it.

    `min_new_rows` counts usable rows that the last run with a verdict did not have. Months are those of UTC. `notify`
    names Prefect blocks, `TYPE/NAME`: addresses are secrets and stay with Prefect.
    """

    fetch: bool
    min_new_rows: int = Field(ge=1)
    max_runs_per_month: int | None = Field(ge=1)
    max_hours_per_month: float | None = Field(gt=0)
    on_busy: Literal["queue", "cancel", "skip"]
    max_wait_seconds: Seconds
    notify: list[Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")]]


class Params(Section):
    """The whole of `params.yaml`."""

    base_model: BaseModelParams
    sources: list[Source] = Field(min_length=1)
    ingest: IngestParams
    clean: CleanParams
    dedup: DedupParams
    split: SplitParams
    validate_: ValidateParams = Field(alias="validate")
    lora: LoraParams | None
    adapter: AdapterParams | None
    quantization: QuantizationParams | None
    train: TrainParams
    compute: ComputeParams
    engine: EngineParams
    evaluate: EvaluateParams
    gate: GateParams
    merge: MergeParams
    release: ReleaseParams
    run: RunParams
    retrain: RetrainParams

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        problems = list(contradictions(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self


def load_params(path: Path = PARAMS) -> Params:
    """Parse `path`.

    Raises:
        ParamsInvalid: with every problem, each with line, key, what was found and the nearest valid name.
    """
    return load_sections(Params, path)


def load_sections(kind: type[Kind], path: Path = PARAMS) -> Kind:
    """Parse the sections of `path` that `kind` has, whatever is wrong with the others.

    Raises:
        ParamsInvalid: with every problem of these sections, as for `load_params`.
    """
    return parse_sections(kind, read_yaml(path), path)


def parse_sections(kind: type[Kind], document: Document, path: Path) -> Kind:
    """The sections that `kind` has, of a file that was read.

    Raises:
        ParamsInvalid: as `load_sections`; its lines are those of `path`.
    """
    try:
        return kind.model_validate(document.value)
    except ValidationError as error:
        problems = describe_problems(document, error, Params)
        raise ParamsInvalid(
            "\n".join([f"{path}: {len(problems)} problem(s), nothing was started", *problems])
        ) from None
