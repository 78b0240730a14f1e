"""The frozen records that stages hand to each other: what the JSON and Parquet files of the line hold."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator

from tasks.findings import Finding, unclassified
from tasks.params_train import QuantizationParams

Partition = Literal["train", "validation", "test"]


class Record(BaseModel):
    """A frozen record without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One turn of a conversation; `tool_calls` is a JSON list in the form that chat templates take, `name` a tool's."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: str | None = None
    name: str | None = None

    def for_template(self) -> dict[str, Any]:
        """The turn as transformers' chat templates read it; what it lacks is left out."""
        turn: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls is not None:
            turn["tool_calls"] = json.loads(self.tool_calls)
        return turn if self.name is None else turn | {"name": self.name}


class Example(Record):
    """One training row in the canonical schema.

    `id` is stable: it comes from the source's name and the row's own bytes, never from its position. `tools` is a
    JSON list of the tools that the conversation may call. `repeat` is how often an epoch shows the row. `tokens` are
    those of the whole conversation in the chat template, counted by `clean`; None before.
    """

    id: str
    source: str
    role: Literal["train", "replay", "test", "seen_by_base"]
    file: str
    line: int
    messages: tuple[Message, ...]
    tools: str | None = None
    repeat: int = 1
    tokens: int | None = None

    @property
    def prompt(self) -> str:
        """The turns that vary, joined: user turns only, never system prompts that rows share."""
        return "\n".join(message.content for message in self.messages if message.role == "user")

    @property
    def completion(self) -> str:
        """The last assistant turn, its tool calls included."""
        last = self.messages[-1]
        return "\n".join(part for part in (last.content, last.tool_calls) if part)


class LedgerEntry(Record):
    """What a stage did to a row: dropped it by a rule, changed it by a rule, or kept it in a partition."""

    id: str
    source: str
    file: str
    line: int
    stage: str
    fate: Literal["kept", "changed", "dropped"]
    rule: str
    value: str


class QuarantinedRow(Record):
    """A row that was dropped because something is wrong with it, kept aside: its reason, and its text as it was."""

    id: str
    source: str
    file: str
    line: int
    rule: str
    value: str
    text: str


class ClusterMember(Record):
    """A row and its cluster of duplicates; a row without duplicates is a cluster of its own.

    `cluster` is the smallest id in it, which the order of rows does not change; `anchor` is the row of it that comes
    first in the sources, which rows that are appended do not change: partitions follow it.
    """

    id: str
    cluster: str
    anchor: str


class Pair(Record):
    """Two near duplicates, `left` before `right`, and the verified Jaccard similarity of their word n-grams."""

    left: str
    right: str
    similarity: float


class Conflict(Record):
    """Two rows that ask the same and have different short answers: a hint that one of the labels is wrong.

    `similarity` is that of their prompts: 1.0, or the verified Jaccard similarity of near duplicates.
    """

    left: str
    right: str
    similarity: float
    left_completion: str
    right_completion: str


class DataSummary(Record):
    """The counts of one data stage; `dropped` and `changed` are by rule, `kept` by partition or source."""

    stage: str
    rows_in: int
    rows_out: int
    dropped: dict[str, int]
    changed: dict[str, int]
    kept: dict[str, int]
    notes: tuple[str, ...] = ()


class BenchmarkItem(Record):
    """A text of one item of a benchmark, the item counted from 0 as lm-eval counts; `part` says what it is of the item.

    Only texts that are the item's own: what a template wraps around every item, and labels that items share, are none.
    """

    benchmark: str
    item: int
    part: Literal["question", "target", "choice"]
    text: str


class ContaminatedItems(Record):
    """Items of benchmarks that the base model has seen, by benchmark, counted from 0; the gate scores without them too.

    `checked` says for every benchmark how many items were compared.
    """

    checked: dict[str, int]
    seen_by_base: dict[str, tuple[int, ...]]


class DataProfile(Record):
    """What a data set looks like, to compare the next one with: shares by category, and rows by partition.

    `shares` maps a column to the share of rows by value: source, completion (when few differ), tokens in powers of 2.
    `too_few_rows` names the columns whose values might be few, with too few rows to tell.
    """

    rows: dict[str, int]
    shares: dict[str, dict[str, float]]
    too_few_rows: tuple[str, ...] = ()


class BaseRecord(Record):
    """The base model that a run starts from, file by file."""

    name: str
    license: str
    origin: dict[str, str]
    digest: str
    files: dict[str, str]
    chat_template_digest: str
    weights: str


class ExpectationResult(Record):
    """One expectation of the suite and what was found; `rows` names the first ones that broke it."""

    expectation: str
    subject: str
    success: bool
    observed: str
    rows: tuple[str, ...] = ()


class Validation(Record):
    """The condensed validation result of Great Expectations."""

    suite: str
    success: bool
    results: tuple[ExpectationResult, ...]


class TrainingPoint(Record):
    """One logged step; a loss that was not measured at this step is None."""

    step: int
    epoch: float
    loss: float | None = None
    eval_loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None


class RowLoss(Record):
    """What one validation row costs the weights that are kept: its mean loss over `tokens` trained tokens, in nats."""

    example_id: str
    source: str
    role: Literal["train", "replay", "test", "seen_by_base"]
    answer: str
    tokens: int
    loss: float


class TrainMetrics(Record):
    """What training did, without clocks: the same run gives the same file.

    `eval_loss` is the validation loss of the weights that were saved, `best_step` where the least one was measured,
    `findings` are those of curves and of single rows, sentences without a mode in records of before (`notes`),
    `attention` transformers' name of the attention that was computed with, `nondeterminism` why the same inputs may
    end in other bytes, empty where they end in the same; records of before have neither.
    """

    method: str
    compute_dtype: str
    device: str
    threads: int
    trainable_weights: int
    all_weights: int
    train_examples: int
    validation_examples: int
    train_tokens: int
    supervised_tokens: int
    steps: int
    final_loss: float
    eval_loss: float | None
    adapter_digest: str
    best_step: int | None = None
    best_eval_loss: float | None = None
    stopped_early: bool = False
    findings: tuple[Finding, ...] = ()
    attention: str | None = None
    nondeterminism: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "notes" not in value:
            return value
        rest = {name: part for name, part in value.items() if name != "notes"}
        return rest | {"findings": [unclassified(note) for note in value["notes"]]}


class Pace(Record):
    """How fast a training went, by the clock: it differs from run to run, so it is in the run record, in no output.

    Of a training that was carried on, the part after that. `memory_gb` is the most that was seen at a logged step: on a
    GPU allocated, on a CPU resident.
    """

    steps: int
    seconds: FiniteFloat
    examples_per_second: FiniteFloat
    tokens_per_second: FiniteFloat
    memory_gb: FiniteFloat


class SupervisedExample(Record):
    """One example as the trainer saw it: the part that carries loss, and the part that does not."""

    id: str
    masked_text: str
    supervised_text: str
    tokens: int
    supervised_tokens: int


class SupervisionCheck(Record):
    """One condition of the supervision audit, and what was found."""

    name: str
    passed: bool
    found: str


class SupervisionAudit(Record):
    """What carries loss in the batches of one training, over all its rows; lengths are in tokens.

    `template_digest` is that of the chat template in training, `generation_stop_tokens` are ids that end generation.
    """

    schema_version: Literal[1] = 1
    rows: int
    max_length: int
    trained_tokens: int
    fewest_trained_tokens: int
    median_trained_tokens: float
    most_trained_tokens: int
    rows_without_trained_tokens: int
    rows_without_stop_token: int
    stop_token: str
    generation_stop_tokens: tuple[int, ...]
    template_digest: str
    checks: tuple[SupervisionCheck, ...]
    examples: tuple[SupervisedExample, ...]


class Fingerprint(Record):
    """The settings that move a score besides the weights; scores of different fingerprints are never compared.

    `definition_digest` is of the task's YAML as lm-eval resolves it, with the code that it names; `data_digest` is of
    the documents that are asked and, with examples, of those that these are drawn from; `engine` names the libraries
    and the kind of device that computed. Records of before have neither of the last two, and match no new one.
    """

    benchmark: str
    harness_version: str
    definition_digest: str
    num_fewshot: int
    limit: int | None
    chat_template_digest: str
    dtype: str
    batch_size: int
    max_length: int
    seed: int
    data_digest: str = ""
    engine: str = ""


class Score(Record):
    """One metric of one benchmark, with its value for every item, in item order.

    `value` is the mean of `per_sample`, or where `scale` is `log` (perplexities) e to the power of that mean.
    """

    benchmark: str
    metric: str
    filter_name: str
    value: float
    stderr: float | None
    samples: int
    higher_is_better: bool
    per_sample: tuple[float, ...]
    scale: Literal["mean", "log"] = "mean"


class Evaluation(Record):
    """All scores of one model; `weights_digest` is of all that makes its weights: base, adapter, quantisation."""

    schema_version: Literal[1] = 1
    model: str
    weights_digest: str
    adapter_digest: str | None
    fingerprints: tuple[Fingerprint, ...]
    scores: tuple[Score, ...]

    def score(self, benchmark: str, metric: str, filter_name: str) -> Score | None:
        """The score with that address, or None."""
        for score in self.scores:
            if (score.benchmark, score.metric, score.filter_name) == (benchmark, metric, filter_name):
                return score
        return None

    def fingerprint(self, benchmark: str) -> Fingerprint | None:
        """The fingerprint of one benchmark, or None."""
        return next((item for item in self.fingerprints if item.benchmark == benchmark), None)


Ending = Literal["stopped", "limit", "unknown"]
"""How a generated answer ended: at a stop, at its greatest length, or by an engine that does not tell."""


class Sample(Record):
    """One item of a benchmark as one model answered it; `metrics` are its parts of the scores, as in `per_sample`.

    `ending` is None of an answer that was not generated, and in records of before.
    """

    schema_version: Literal[1] = 1
    benchmark: str
    item: int
    prompt: str
    target: str
    answer: str
    metrics: dict[str, float]
    ending: Ending | None = None


class Measured(Record):
    """What one model scored on one benchmark, as it is kept so that it is never measured again."""

    schema_version: Literal[1] = 1
    weights_digest: str
    fingerprint: Fingerprint
    scores: tuple[Score, ...]
    samples: tuple[Sample, ...]


class Champion(Record):
    """The model that holds production now; all None when nothing was promoted yet."""

    release: str | None = None
    run: str | None = None
    commit: str | None = None
    evaluation: Evaluation | None = None
    data: DataProfile | None = None


class ChampionModel(Record):
    """What the champion's weights are made of, so that they can be measured again: its own base and quantisation."""

    base: BaseRecord
    quantization: QuantizationParams | None
    adapter_digest: str


MergedFrom = Literal["original", "dequantized", "trained"]
"""Which weights the adapter was folded into: the base's own, those that its 4-bit form stands for, or none at all, as
training wrote the whole model."""


class CandidateParity(Record):
    """One merged candidate against base plus adapter.

    Over the answer positions of held-out prompts, KL in nats for a token; and over greedy texts of base plus adapter:
    how many the candidate would write too, and the earliest token, counted from 1, at which it would write another.
    """

    merged_from: MergedFrom
    positions: int
    mean_kl: float
    max_kl: float
    top1_agreement: float
    mean_abs_logit_difference: float
    max_abs_logit_difference: float
    greedy_texts: int
    greedy_texts_equal: int
    first_divergence: int | None
    passed: bool
    merged_digest: str


class Parity(Record):
    """Merged model against quantised base plus adapter, over the answer positions of held-out prompts.

    The figures are those of the candidate that was chosen, `merged_from`; `candidates` has those of all, the chosen one
    included. Records of before have neither.
    """

    prompts: int
    positions: int
    mean_kl: float
    max_kl: float
    top1_agreement: float
    mean_abs_logit_difference: float
    max_abs_logit_difference: float
    passed: bool
    merged_digest: str
    merged_from: MergedFrom | None = None
    candidates: tuple[CandidateParity, ...] = ()


class ServedModel(Record):
    """What one model costs to answer with, by the clock: `memory_gb` is that of its weights as they are loaded."""

    name: str
    ms_per_token: FiniteFloat
    memory_gb: FiniteFloat


class Serving(Record):
    """Base, base plus adapter and merged model, one after the other on the same machine, one prompt at a time."""

    device: str
    models: tuple[ServedModel, ...]
