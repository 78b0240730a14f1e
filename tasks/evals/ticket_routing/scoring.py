"""Score an answer of the benchmark `ticket_routing`; lm-eval calls `score` once per item.

The first JSON object in the answer counts, whatever stands around it, and case and outer blanks of a label do not
matter: a model is judged by where it routes the ticket, not by how it dresses the answer.
"""

import json
from collections.abc import Mapping, Sequence

LABELS = ("queue", "priority")


def score(doc: Mapping[str, str], results: Sequence[str]) -> dict[str, float]:
    """The scores of one item, each 0.0 or 1.0; an answer without a JSON object has all of them wrong.

    Args:
        doc: the item, with its `text` and the labels `queue` and `priority`.
        results: the model's answer, as the only entry.
    """
    answer = first_object(results[0])
    right = {label: _plain(answer.get(label)) == _plain(doc[label]) for label in LABELS}
    return {
        "exact_match": float(all(right.values())),
        "queue_acc": float(right["queue"]),
        "priority_acc": float(right["priority"]),
    }


def first_object(answer: str) -> dict[str, object]:
    """The first JSON object that begins anywhere in `answer`; empty when there is none."""
    decoder = json.JSONDecoder()
    start = answer.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(answer, start)
        except (ValueError, RecursionError):
            start = answer.find("{", start + 1)
        else:
            return dict(found)
    return {}


def _plain(label: object) -> str | None:
    return label.strip().casefold() if isinstance(label, str) else None
