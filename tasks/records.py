"""The frozen records that stages hand to each other: what the JSON and Parquet files of the line hold."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Partition = Literal["train", "validation", "test"]


class Record(BaseModel):
    """A frozen record without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class Example(Record):
    """One training row in the canonical schema.

    `id` is stable: it comes from the source's name and the row's own bytes, never from its position.
    """

    id: str
    source: str
    role: Literal["train", "replay"]
    file: str
    line: int
    messages: tuple[Message, ...]

    @property
    def prompt(self) -> str:
        """The turns that vary, joined: user turns only, never system prompts that rows share."""
        return "\n".join(message.content for message in self.messages if message.role == "user")

    @property
    def completion(self) -> str:
        """The last assistant turn."""
        return self.messages[-1].content


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


class ClusterMember(Record):
    """A row and its cluster of duplicates; a row without duplicates is a cluster of its own."""

    id: str
    cluster: str


class Pair(Record):
    """Two near duplicates, `left` before `right`, and the verified Jaccard similarity of their word n-grams."""

    left: str
    right: str
    similarity: float


class DataSummary(Record):
    """The counts of one data stage; `dropped` and `changed` are by rule, `kept` by partition or source."""

    stage: str
    rows_in: int
    rows_out: int
    dropped: dict[str, int]
    changed: dict[str, int]
    kept: dict[str, int]
    notes: tuple[str, ...] = ()


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
    """One expectation of the suite and what was found."""

    expectation: str
    subject: str
    success: bool
    observed: str


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


class TrainMetrics(Record):
    """What training did, without clocks: the same run gives the same file."""

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


class SupervisedExample(Record):
    """One example as the trainer saw it: the part that carries loss, and the part that does not."""

    id: str
    masked_text: str
    supervised_text: str
    tokens: int
    supervised_tokens: int


class Fingerprint(Record):
    """The settings that move a score besides the weights; scores of different fingerprints are never compared."""

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


class Score(Record):
    """One metric of one benchmark, with its value for every item, in item order."""

    benchmark: str
    metric: str
    filter_name: str
    value: float
    stderr: float | None
    samples: int
    higher_is_better: bool
    per_sample: tuple[float, ...]


class Evaluation(Record):
    """All scores of one model."""

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


class Sample(Record):
    """One item of a benchmark as one model answered it."""

    benchmark: str
    item: int
    prompt: str
    target: str
    answer: str
    metrics: dict[str, float]


class Champion(Record):
    """The model that holds production now; all None when nothing was promoted yet."""

    release: str | None = None
    run: str | None = None
    commit: str | None = None
    evaluation: Evaluation | None = None


class Comparison(Record):
    """A paired difference candidate minus other, with its bootstrap interval."""

    other: Literal["base", "champion"]
    difference: float
    low: float
    high: float
    wins: int
    losses: int


class RuleResult(Record):
    """One condition of one rule: what was asked, what was found, and whether it holds."""

    benchmark: str
    metric: str
    condition: str
    threshold: float | None
    found: float | None
    passed: bool
    reason: str


class Verdict(Record):
    """What the gate decided about one adapter, and why."""

    schema_version: Literal[1] = 1
    verdict: Literal["passed", "refused"]
    adapter_digest: str
    confidence: float
    results: tuple[RuleResult, ...]
    comparisons: dict[str, tuple[Comparison, ...]]
    failures: tuple[str, ...]
    diagnosis: tuple[str, ...]


class Parity(Record):
    """Merged model against quantised base plus adapter, over the answer positions of held-out prompts."""

    prompts: int
    positions: int
    mean_kl: float
    max_kl: float
    top1_agreement: float
    mean_abs_logit_difference: float
    max_abs_logit_difference: float
    passed: bool
    merged_digest: str
