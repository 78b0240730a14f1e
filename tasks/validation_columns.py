"""What the expectation suite asks about an example, derived anew from the example alone.

Cleaning's own rules are called again on what is left: a rule that let something through, and a row that came in after
cleaning, are both found.
"""

from collections.abc import Sequence
from hashlib import blake2b

from tasks import clean_rules
from tasks.clean_tools import CleaningTools
from tasks.label_sets import LabelSets
from tasks.near_duplicates import normalised
from tasks.records import Example
from tasks.validation_table import Columns


class Deriver:
    """Derives columns with the tools of cleaning and the label sets of the sources."""

    def __init__(self, tools: CleaningTools, labels: LabelSets) -> None:
        self._tools = tools
        self._labels = labels

    def columns(self, examples: Sequence[Example], partition: str) -> list[Columns]:
        """The columns of every example, in order."""
        return [self._of(example, partition) for example in examples]

    def _of(self, example: Example, partition: str) -> Columns:
        return Columns(
            id=example.id,
            source=example.source,
            role=example.role,
            partition=partition,
            place=f"{example.file}:{example.line}",
            n_messages=len(example.messages),
            prompt_chars=len(example.prompt.strip()),
            completion_chars=len(example.completion.strip()),
            longest_answer_chars=longest_answer(example),
            blank_turns=blank_turns(example),
            tokens=example.tokens or 0,
            role_order_ok=int(not self._breaks(clean_rules.role_order, example)),
            label_known=int(self._labels.knows(example)),
            has_special_token=int(self._breaks(clean_rules.special_token, example)),
            has_secret=int(self._breaks(clean_rules.secret, example)),
            has_pii=int(self._breaks(clean_rules.pii, example)),
            prompt_key=prompt_key(example.prompt),
            asked_key=asked_key(example),
        )

    def _breaks(self, rule: clean_rules.Rule, example: Example) -> bool:
        return rule(example, self._tools) is not None


def longest_answer(example: Example) -> int:
    """The characters of the longest assistant turn, its tool calls included."""
    answers = (message for message in example.messages if message.role == "assistant")
    return max((len(answer.content) + len(answer.tool_calls or "") for answer in answers), default=0)


def blank_turns(example: Example) -> int:
    """How many turns of the user and the assistant say nothing; one that calls a tool says something."""
    spoken = (message for message in example.messages if message.role in {"user", "assistant"})
    return sum(not message.content.strip() and not message.tool_calls for message in spoken)


def prompt_key(prompt: str) -> int:
    """64 bits that two prompts share when they are the same but for case, punctuation and white space."""
    return _bits(normalised(prompt))


def asked_key(example: Example) -> int:
    """64 bits that two examples share when their last answers depend on the same: prompt, other turns, tools."""
    others = (message.model_dump_json() for message in example.messages[:-1] if message.role != "user")
    return _bits("\0".join([normalised(example.prompt), example.tools or "", *others]))


def _bits(text: str) -> int:
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
