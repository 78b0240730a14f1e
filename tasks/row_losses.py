"""The validation loss of single rows, by the weights that are kept: which rows a training did not learn."""

from collections.abc import Iterator
from typing import Any

import torch

from tasks.records import Example, RowLoss
from tasks.trainer import AnswerTrainer
from tasks.training_rows import IGNORED
from tasks.workers import with_progress

MOST_ROWS = 1_000
"""More rows are measured evenly spread: enough to see a cluster, and a bound on the time that it takes."""


def measure_rows(trainer: AnswerTrainer, validation: list[Example]) -> list[RowLoss]:
    """The mean loss, in nats, of the trained tokens of each validation row, in their order.

    One row at a time goes through the model, so that memory is that of one row's logits. A row whose answer lies behind
    `train.max_length` has no trained token and is left out.

    Args:
        trainer: after its last step, with the best weights put back.
        validation: the examples that its validation rows were made of.
    """
    if trainer.eval_dataset is None:
        return []
    rows = trainer.eval_dataset
    chosen = range(0, len(rows), -(-len(rows) // MOST_ROWS))
    watched = with_progress(chosen, "train: loss of single rows", len(chosen), lambda _: 1)
    trainer.model.eval()
    return list(_measured(trainer.model, (rows[place] for place in watched), validation))


@torch.no_grad()
def _measured(model: Any, rows: Iterator[dict[str, list[int]]], validation: list[Example]) -> Iterator[RowLoss]:
    place = next(model.parameters()).device
    for row in rows:
        labels = torch.tensor(row["labels"][1:], device=place)
        taught = labels != IGNORED
        if not taught.any():
            continue
        logits = model(input_ids=torch.tensor([row["input_ids"]], device=place)).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits[taught].float(), labels[taught])
        example = validation[row["example"][0]]
        yield RowLoss(
            example_id=example.id,
            source=example.source,
            role=example.role,
            answer=example.completion,
            tokens=int(taught.sum()),
            loss=round(loss.item(), 6),
        )
