"""What carries loss: every turn of the assistant, up to its stop token, whatever the template does around it."""

import json

import pytest

from tasks.errors import TrainingInvalid
from tasks.records import Example, Message
from tasks.training_rows import IGNORED, build_rows, labelled, render
from tests.unit.rows import conversation
from tests.unit.tiny_model import TEMPLATE, make_tokenizer

TWO_TURNS = conversation(
    "two",
    ("system", "route"),
    ("user", "this ticket"),
    ("assistant", "billing"),
    ("user", "please"),
    ("assistant", "repair please"),
)
FORGETS = (
    "{% for message in messages %}{% if loop.last or message['role'] != 'assistant' %}"
    "{{ message['role'] }} {{ message['content'] }} <end> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)
THINKS = (
    "{% for message in messages %}{{ message['role'] }} "
    "{% if loop.last and message['role'] == 'assistant' %}route {% endif %}{{ message['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)
CALLS = (
    "{% for message in messages %}{{ message['role'] }} {{ message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}{{ call['function']['name'] }} {% endfor %}<end> {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def said(example: Example, template: str = TEMPLATE) -> list[str]:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    rendered = render(example, tokenizer)
    return [rendered.text[span.start : span.end].strip() for span in rendered.spans]


def taught(example: Example, template: str = TEMPLATE) -> str:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    ids, labels = labelled(render(example, tokenizer), tokenizer)
    assert all(label in {token, IGNORED} for token, label in zip(ids, labels, strict=True))
    return str(tokenizer.decode([label for label in labels if label != IGNORED]))


def test_every_turn_of_the_assistant_carries_loss_with_its_stop_token_and_nothing_else_does() -> None:
    assert said(TWO_TURNS) == ["billing <end>", "repair please <end>"]
    assert taught(TWO_TURNS) == "billing <end> repair please <end>"


def test_a_template_that_writes_earlier_turns_otherwise_still_has_its_turns_found() -> None:
    assert said(TWO_TURNS, THINKS) == ["billing <end>", "route repair please <end>"]
    assert taught(TWO_TURNS, THINKS) == "billing <end> route repair please <end>"


def test_a_template_that_leaves_a_turn_out_is_refused_by_name() -> None:
    with pytest.raises(TrainingInvalid, match="example two: the chat template does not write turn 3 as it is"):
        said(TWO_TURNS, FORGETS)


def test_a_turn_that_says_what_a_user_said_before_is_found_at_its_own_place() -> None:
    echoed = conversation(
        "echo", ("user", "billing"), ("assistant", "billing"), ("user", "billing"), ("assistant", "repair")
    )
    assert said(echoed, THINKS) == ["billing <end>", "route repair <end>"]
    assert render(echoed, make_tokenizer()).spans[0].start == len("user billing <end> assistant ")


def test_an_answer_that_the_question_holds_too_is_found_behind_a_prompt_that_begins_a_thought() -> None:
    """As R1's template has it: only where the model is to answer the text goes on with the start of a thought."""
    begins = TEMPLATE.replace("assistant {% endif %}", "assistant route {% endif %}")
    assert begins != TEMPLATE
    asked = conversation("holds", ("user", "billing this ticket"), ("assistant", "billing"))
    assert said(asked, begins) == ["billing <end>"]


def test_an_answer_that_begins_as_the_thought_of_the_prompt_does_is_found_whole() -> None:
    begins = TEMPLATE.replace("assistant {% endif %}", "assistant <route> {% endif %}")
    example = conversation("begins", ("user", "<r> please"), ("assistant", "<r> billing"))
    tokenizer = make_tokenizer()
    tokenizer.chat_template = begins
    rendered = render(example, tokenizer)
    (span,) = rendered.spans
    assert rendered.text[span.start : span.end].strip() == "<r> billing <end>"


def test_tool_calls_carry_loss_and_have_their_own_arguments_only() -> None:
    calls = json.dumps([{"type": "function", "function": {"name": "repair", "arguments": {"city": "Rome"}}}])
    example = conversation("call", ("user", "route")).model_copy(
        update={
            "messages": (
                Message(role="user", content="route"),
                Message(role="assistant", content="", tool_calls=calls),
                Message(role="tool", content="ticket", name="repair"),
                Message(role="assistant", content="billing"),
            )
        }
    )
    assert said(example, CALLS) == ["repair <end>", "billing<end>"]


def test_a_row_is_cut_at_the_length_and_stands_there_as_often_as_it_is_repeated() -> None:
    example = TWO_TURNS.model_copy(update={"repeat": 2})
    rows = build_rows([conversation("one", ("user", "route"), ("assistant", "repair")), example], make_tokenizer(), 9)
    assert [row["example"][0] for row in rows] == [0, 1, 1]
    assert [len(row["input_ids"]) for row in rows] == [6, 9, 9]
