"""A finding: what the evidence shows about a candidate, the numbers that it rests on, and the exact changes to try.

The modes are the failure modes that the literature on LoRA names, and what keeps a gate from deciding.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, JsonValue, field_validator

Mode = Literal[
    "under_fitting", "overfitting", "target_modules", "noisy_data", "forgetting", "quantisation_gap", "template",
    "stop_token", "unstable_training", "too_few_items", "missing_evidence", "unclassified",
]  # fmt: skip
"""`unclassified` is a sentence out of a record that was written before findings had modes."""
Evidence = dict[str, int | FiniteFloat | str]
Changes = dict[str, JsonValue]
"""Parameters by their dotted keys, as params.yaml has them, with the value that each is to have: one thing to try."""


class Finding(BaseModel):
    """One failure mode with its evidence.

    `evidence` are the numbers by name, `sentence` says them to a person, `mitigation` says what helps. `changes` are
    alternatives, each to be tried by itself; there are none where no parameter is the cure, as with wrong labels. Names
    are in the order of the alphabet, as JSON keeps them: a finding reads the same before and after it is on record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode
    evidence: Evidence
    sentence: str
    mitigation: str
    changes: tuple[Changes, ...] = ()

    @field_validator("evidence")
    @classmethod
    def _in_order(cls, evidence: Evidence) -> Evidence:
        return dict(sorted(evidence.items()))

    @field_validator("changes")
    @classmethod
    def _each_in_order(cls, changes: tuple[Changes, ...]) -> tuple[Changes, ...]:
        return tuple(dict(sorted(one.items())) for one in changes)

    @property
    def text(self) -> str:
        """What was seen and what helps, in one line."""
        return f"{self.sentence}: {self.mitigation}" if self.mitigation else self.sentence


def unclassified(sentence: object) -> dict[str, object]:
    """The fields of a finding for a sentence out of a record of before."""
    return {"mode": "unclassified", "evidence": {}, "sentence": sentence, "mitigation": ""}
