"""The planted candidates of `benchmarks.truth`: what was done to each, and the verdict that it deserves.

A candidate is made from the good one: by training again on spoilt rows or with spoilt settings, or by changing the
weights of the good adapter. What a candidate deserves follows from what was done to it, never from its scores.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file

from tasks import paths
from tasks.adapters import WEIGHTS
from tasks.files import read_json, write_json
from tasks.records import Champion, Evaluation, Example, Message

Deserved = Literal["passed", "not passed"]
Weights = dict[str, torch.Tensor]
Rows = list[Example]
ITEMS = paths.EVALS / "ticket_routing/items.jsonl"
QUEUES = ("account", "billing", "privacy", "repair", "returns", "sales", "shipping", "technical")
PRIORITIES = ("low", "normal", "high", "urgent")
GOOD = "good"


@dataclass(frozen=True)
class Planted:
    """One candidate.

    Args:
        name: what was done to it.
        deserves: its verdict; `not passed` is refused or inconclusive.
        params: sections of params.yaml with what is changed for every stage.
        rows: what is done to the training rows; None leaves them.
        template: the chat template that it is trained with; None is the base's.
        weights: what is done to the weights of the good adapter, in place of a training.
        champion: the candidate that holds production; None where nothing does.
        borrowed: the candidate whose scores are shown in place of its own.
        evaluate: what is changed in `evaluate` for this candidate alone, so that the base was measured otherwise.
    """

    name: str
    deserves: Deserved
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rows: Callable[[Rows], Rows] | None = None
    template: str | None = None
    weights: Callable[[Weights], Weights] | None = None
    champion: str | None = None
    borrowed: str | None = None
    evaluate: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_trained(self) -> bool:
        """Whether it has to be trained; the others are made from the good adapter."""
        return bool(self.params or self.rows or self.template)


def is_ticket(example: Example) -> bool:
    """Whether a row is of the task that the gate measures."""
    return example.source == "support_tickets"


def with_answers(rows: Rows, change: Callable[[str], str]) -> Rows:
    """The rows, the last turn of every ticket changed."""
    return [_answering(row, change(row.messages[-1].content)) if is_ticket(row) else row for row in rows]


def _answering(row: Example, answer: str) -> Example:
    turns = (*row.messages[:-1], row.messages[-1].model_copy(update={"content": answer}))
    return row.model_copy(update={"messages": turns})


def mislabelled(rows: Rows) -> Rows:
    """Every queue and every priority is the next one of its list."""

    def change(answer: str) -> str:
        said = json.loads(answer)
        return ticket_answer(_next(QUEUES, said["queue"]), _next(PRIORITIES, said["priority"]))

    return with_answers(rows, change)


def ticket_answer(queue: str, priority: str) -> str:
    """An answer as the layout of `support_tickets` writes it."""
    return json.dumps({"queue": queue, "priority": priority})


def _next(names: tuple[str, ...], name: str) -> str:
    return names[(names.index(name) + 1) % len(names)]


def shuffled(rows: Rows) -> Rows:
    """The answers of the tickets dealt out anew."""
    answers = [row.messages[-1].content for row in rows if is_ticket(row)]
    random.Random(1).shuffle(answers)  # noqa: S311  an order, no secret
    return with_answers(rows, lambda _: answers.pop())


def truncated(rows: Rows) -> Rows:
    """Every answer ends in the middle of its first value."""
    return with_answers(rows, lambda answer: answer[: len('{"queue": "te')])


def with_test_set(rows: Rows) -> Rows:
    """The items of the benchmark, answers and all, among the rows, each four times."""
    system = next(row for row in rows if is_ticket(row)).messages[0]
    items = [json.loads(line) for line in ITEMS.read_text(encoding="utf-8").splitlines()]
    added = [
        Example(
            id=f"item-{place}",
            source="support_tickets",
            role="train",
            file=str(ITEMS),
            line=place + 1,
            messages=(
                system,
                Message(role="user", content=f"{item['text']}\nImpact: {item['impact']}"),
                Message(role="assistant", content=ticket_answer(item["queue"], item["priority"])),
            ),
            repeat=4,
        )
        for place, item in enumerate(items)
    ]
    return [*rows, *added]


def scaled(factor: float) -> Callable[[Weights], Weights]:
    """What the adapter adds to the base, times `factor`."""
    return lambda weights: {name: factor * value if "lora_B" in name else value for name, value in weights.items()}


def nothing(weights: Weights) -> Weights:
    """Zeros."""
    return {name: torch.zeros_like(value) for name, value in weights.items()}


def layers_swapped(weights: Weights) -> Weights:
    """The adapters of the first layer on the last one, and so on."""
    last = max(_layer(name) for name in weights)
    return {_on_layer(name, last - _layer(name)): value for name, value in weights.items()}


def _layer(name: str) -> int:
    return int(name.split(".layers.")[1].split(".", maxsplit=1)[0])


def _on_layer(name: str, layer: int) -> str:
    before, after = name.split(".layers.")
    return f"{before}.layers.{layer}.{after.split('.', 1)[1]}"


def noise(weights: Weights) -> Weights:
    """Random numbers of the same spread."""
    chance = torch.Generator().manual_seed(1)
    return {name: value.std() * torch.randn(value.shape, generator=chance) for name, value in weights.items()}


def not_a_number(weights: Weights) -> Weights:
    """One weight of the middle layer is NaN, as after a bad copy."""
    name = sorted(weights)[len(weights) // 2]
    return weights | {name: weights[name].clone().index_fill_(0, torch.tensor([0]), float("nan"))}


def rounded(weights: Weights) -> Weights:
    """Every weight rounded to bfloat16."""
    return {name: value.bfloat16().float() for name, value in weights.items()}


def change_weights(adapter: Path, change: Callable[[Weights], Weights]) -> None:
    """Change the weights of the adapter in this folder; its configuration stays."""
    weights = change(load_file(adapter / WEIGHTS))
    (adapter / WEIGHTS).unlink()
    save_file({name: value.contiguous() for name, value in weights.items()}, adapter / WEIGHTS, {"format": "pt"})


def write_champion(root: Path, evaluation: Path) -> None:
    """Let the model that this evaluation measured hold production."""
    measured = read_json(evaluation, Evaluation).model_copy(update={"model": "champion"})
    champion = Champion(release="support-router@v0.0.1", run="planted", commit="planted", evaluation=measured)
    write_json(root / paths.CHAMPION, champion)


OTHER_TEMPLATE = (
    "{% for message in messages %}### {{ message['role'] }}\n{{ message['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant\n{% endif %}"
)
CANDIDATES = (
    Planted(GOOD, "passed"),
    Planted("good, another seed", "passed", params={"train": {"seed": 2}}),
    Planted("good, rounded to bfloat16", "passed", weights=rounded),
    Planted("good, three hundredths weaker", "passed", weights=scaled(0.97)),
    Planted("good, and so is the champion", "passed", weights=rounded, champion=GOOD),
    Planted("trained on mislabelled tickets", "not passed", rows=mislabelled),
    Planted("trained on shuffled answers", "not passed", params={"train": {"max_steps": 60}}, rows=shuffled),
    Planted("trained on truncated answers", "not passed", rows=truncated),
    Planted("trained on the test set", "not passed", params={"train": {"max_steps": 119}}, rows=with_test_set),
    Planted("trained with another chat template", "not passed", template=OTHER_TEMPLATE),
    Planted("learning rate too high", "not passed", params={"train": {"learning_rate": 0.05, "max_grad_norm": 1e6}}),
    Planted("too few steps", "not passed", params={"train": {"max_steps": 6, "warmup_steps": 2, "eval_steps": 6}}),
    Planted(
        "over-trained until it forgets",
        "not passed",
        params={"train": {"max_steps": 160, "learning_rate": 4e-3, "keep_best": False}},
        rows=lambda rows: [row for row in rows if is_ticket(row)],
    ),
    Planted("zero steps", "not passed", weights=scaled(0.0)),
    Planted(
        "the base under another name", "not passed", weights=lambda weights: {n: 0 * w for n, w in weights.items()}
    ),
    Planted("layers swapped", "not passed", weights=layers_swapped),
    Planted("noise of the same spread", "not passed", weights=noise),
    Planted("negated", "not passed", weights=scaled(-1.0)),
    Planted("far too strong", "not passed", weights=scaled(8.0)),
    Planted("a tenth as strong", "not passed", weights=scaled(0.1)),
    Planted("one weight is NaN", "not passed", weights=not_a_number),
    Planted("good on target, worse than the champion", "not passed", weights=scaled(0.6), champion=GOOD),
    Planted("scores of the good one shown for noise", "not passed", weights=noise, borrowed=GOOD),
    Planted("good, measured on 40 items", "not passed", weights=rounded, evaluate={"limit": 40}),
    Planted("good, measured with other settings", "not passed", weights=rounded, evaluate={"max_length": 255}),
)
