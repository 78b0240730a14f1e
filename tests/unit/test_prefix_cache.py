"""What is read once must lead to the same tokens as reading everything: transformers' own decoding is the reference."""

from typing import Any

import pytest
import torch

from tasks.prefix_cache import common_prefix, generate_greedily
from tests.unit.tiny_model import make_model

CONTEXTS = [[2, 3, 4, 5, 6, 7], [2, 3, 4, 5, 8], [2, 3, 4, 5, 6, 7, 8, 9]]


@pytest.mark.parametrize(
    ("sequences", "length"),
    [(CONTEXTS, 4), ([[1, 2], [1, 2, 3]], 2), ([[1], [2]], 0), ([[1, 2]], 0), ([], 0), ([[3, 1], [3, 2], [1, 1]], 0)],
)
def test_the_common_beginning_is_counted_in_tokens(sequences: list[list[int]], length: int) -> None:
    assert common_prefix(sequences) == length


@pytest.mark.parametrize("contexts", [CONTEXTS, [[2, 3], [4, 5, 6]], [[2, 3, 4, 5, 6]], [[2, 3, 4, 5, 6]] * 2])
def test_tokens_are_those_of_transformers(contexts: list[list[int]]) -> None:
    model = make_model().eval()
    expected = [
        model.generate(torch.tensor([context]), max_new_tokens=6, do_sample=False, eos_token_id=None)[0].tolist()
        for context in contexts
    ]
    found = generate_greedily(model, contexts, 6, lambda _: False)
    assert [context + answer for context, answer in zip(contexts, found, strict=True)] == expected


def test_a_token_keeps_its_position_however_much_padding_stands_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, places = make_model().eval(), list[Any]()
    forward = model.forward

    def noted(**named: Any) -> Any:
        places.append(named.get("position_ids"))
        return forward(**named)

    monkeypatch.setattr(model, "forward", noted)
    generate_greedily(model, CONTEXTS, 2, lambda _: False)
    beginning, rest, following = places
    assert beginning is None
    assert [row[-1] for row in rest.tolist()] == [len(context) - 1 for context in CONTEXTS]
    assert following.tolist() == [[len(context)] for context in CONTEXTS]


def test_an_answer_that_has_ended_leaves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = make_model().eval(), list[int]()
    forward = model.forward

    def counted(**named: Any) -> Any:
        rows.append(len(named["input_ids"]))
        return forward(**named)

    whole = generate_greedily(model, CONTEXTS, 4, lambda _: False)
    monkeypatch.setattr(model, "forward", counted)
    ends = whole[1][:2]
    short = generate_greedily(model, CONTEXTS, 4, lambda tokens: tokens == ends)
    assert short == [ends if answer[:2] == ends else answer for answer in whole]
    assert rows[:2] == [1, 3]  # the common beginning for one row, the rest for all
    assert rows[-1] == sum(answer[:2] != ends for answer in whole)
