"""A language model's shape, from its `config.json` alone: how many weights it has, and in which layers.

Known are the families whose layers are Llama's: attention with q, k, v and o, and a gated feed-forward part with gate,
up and down. A family is added here once its counts agree with what transformers builds.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasks.errors import FileInvalid

Family = Literal["llama", "mistral", "qwen2", "qwen3"]
Reads = Literal["attention", "attended", "mlp", "gated"]
"""What a linear layer reads: the first norm, attention's result, the second norm, or the gated product."""


class Linear(NamedTuple):
    """A linear layer of a block: its name, sizes in weights, what it reads, and whether it adds a bias."""

    name: str
    inputs: int
    outputs: int
    reads: Reads
    has_bias: bool

    @property
    def weights(self) -> int:
        """The weights of its matrix, without the bias."""
        return self.inputs * self.outputs


class ModelShape(BaseModel):
    """The part of a `config.json` that sizes follow from, by transformers' own names; the rest is not read."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    model_type: Family
    hidden_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int | None = Field(default=None, ge=1)
    head_dim: int | None = Field(default=None, ge=1)
    intermediate_size: int = Field(ge=1)
    vocab_size: int = Field(ge=1)
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False

    @model_validator(mode="after")
    def _divides(self) -> "ModelShape":
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size is no multiple of num_attention_heads, and head_dim is not given")
        if self.num_attention_heads % self.key_value_heads:
            raise ValueError("num_attention_heads is no multiple of num_key_value_heads")
        return self

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and of values; fewer than of queries with grouped-query attention."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        """Numbers of one head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def query_size(self) -> int:
        """Numbers of all query heads of a token."""
        return self.num_attention_heads * self.head_size

    @property
    def key_size(self) -> int:
        """Numbers of all key heads of a token, and of all value heads."""
        return self.key_value_heads * self.head_size

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one block."""
        hidden, query, key, inner = self.hidden_size, self.query_size, self.key_size, self.intermediate_size
        biased = self.attention_bias or self.model_type == "qwen2"
        return (
            Linear("q_proj", hidden, query, "attention", biased),
            Linear("k_proj", hidden, key, "attention", biased),
            Linear("v_proj", hidden, key, "attention", biased),
            Linear("o_proj", query, hidden, "attended", self.attention_bias and self.model_type != "qwen2"),
            Linear("gate_proj", hidden, inner, "mlp", self.mlp_bias),
            Linear("up_proj", hidden, inner, "mlp", self.mlp_bias),
            Linear("down_proj", inner, hidden, "gated", self.mlp_bias),
        )

    @property
    def linear_weights(self) -> int:
        """The weights of the matrices of all blocks, which is what 4 bits are for."""
        return self.num_hidden_layers * sum(linear.weights for linear in self.linears)

    @property
    def embedding_weights(self) -> int:
        """The weights of the embedding, and of the output layer where it has its own."""
        return self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)

    @property
    def other_weights(self) -> int:
        """Norms and biases."""
        biases = sum(linear.outputs for linear in self.linears if linear.has_bias)
        heads = 2 * self.head_size if self.model_type == "qwen3" else 0
        return self.num_hidden_layers * (2 * self.hidden_size + biases + heads) + self.hidden_size

    @property
    def weights(self) -> int:
        """All weights of the model."""
        return self.linear_weights + self.embedding_weights + self.other_weights


def parse_shape(text: str, origin: str) -> ModelShape:
    """The shape in the text of a `config.json` that came from `origin`.

    Raises:
        FileInvalid: with every field that is wrong, or the family that is not known.
    """
    try:
        return ModelShape.model_validate_json(text)
    except ValidationError as error:
        issues = "; ".join(f"{'.'.join(map(str, issue['loc'])) or 'file'}: {issue['msg']}" for issue in error.errors())
        raise FileInvalid(f"{origin}: no config.json that sizes can be read from: {issues}") from None


def read_shape(path: Path) -> ModelShape:
    """The shape in the `config.json` at `path`.

    Raises:
        FileInvalid: it is missing, or `parse_shape` cannot read it.
    """
    try:
        return parse_shape(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise FileInvalid(f"{path}: cannot be read: {error}; give a model's config.json") from None
