"""The section `gate`: what a candidate must prove, and how sure the gate must be."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.params_types import BenchmarkName, Section, Seed

Figure = Literal[
    "adapter_bytes",
    "contaminated_rows",
    "eval_loss",
    "final_loss",
    "pii_share",
    "seen_items_share",
    "trainable_share",
    "train_tokens",
]
"""What is measured besides scores and known when the gate decides; `tasks/gate_figures.py` reads them."""


class Rule(Section):
    """What one metric of one benchmark must show; None leaves that part of the rule out.

    `range` is the least and the greatest value that an item can have: proofs rest on it. Where less is better,
    `min_value` is the greatest value that is allowed, and gains and losses are turned round.
    """

    benchmark: BenchmarkName
    metric: str
    filter_name: str
    range: Annotated[list[float], Field(min_length=2, max_length=2)]
    min_value: float | None
    min_gain_over_base: float | None = Field(ge=0)
    max_loss_from_base: float | None = Field(ge=0)
    max_loss_from_champion: float | None = Field(ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> "Rule":
        lowest, highest = self.range
        if lowest >= highest:
            raise ValueError(f"range: the least value comes first, found {lowest:g} and {highest:g}")
        if self.min_value is not None and not lowest <= self.min_value <= highest:
            raise ValueError(f"min_value {self.min_value:g} lies outside range, {lowest:g} to {highest:g}")
        return self


class Bound(Section):
    """Between what one figure besides the scores must lie; None leaves a side open."""

    figure: Figure
    min: float | None
    max: float | None

    @model_validator(mode="after")
    def _asks(self) -> "Bound":
        if self.min is None and self.max is None:
            raise ValueError("give min or max, or take the rule out")
        return self


class GateParams(Section):
    """The rules, and how sure the gate must be.

    `tie` says who holds production when the candidate is neither proved better than the champion nor refused:
    `candidate`, which was trained on newer data, or `champion`, which is known. `confidence` is that of all conditions
    together (Holm); `resamples` and `seed` are of what is drawn: intervals, and p-values without a closed form.
    """

    rules: list[Rule] = Field(min_length=1)
    measured: list[Bound]
    tie: Literal["candidate", "champion"]
    confidence: float = Field(gt=0.5, lt=1)
    resamples: int = Field(ge=100)
    seed: Seed
