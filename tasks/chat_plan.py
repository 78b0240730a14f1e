"""What `tunegate chat` hands to the process that talks: models by name, where they lie, and how they were trained."""

from typing import Literal

from pydantic import Field

from tasks.params_train import ComputeParams, QuantizationParams
from tasks.records import BaseRecord, Record


class Talker(Record):
    """One model that can be talked to; `folder` has its adapter or its merged weights, None for the base itself."""

    name: str
    kind: Literal["base", "adapter", "merged"]
    folder: str | None


class ChatBase(Record):
    """What base and adapters answer with: the base as it was trained on, and its tokenizer with the chat template."""

    record: BaseRecord
    tokenizer: str
    quantization: QuantizationParams | None


class ChatPlan(Record):
    """All that can be talked to, the first one from the start; `base` is None where there are merged models alone.

    `system` is the system prompt to begin with, None for none.
    """

    base: ChatBase | None
    compute: ComputeParams
    models: tuple[Talker, ...] = Field(min_length=1)
    system: str | None
    max_new_tokens: int = Field(ge=1)
