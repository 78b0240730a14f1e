"""What customers answer to the web form's question "How does it affect you?": a hint at the priority, not the priority.

The answer is theirs, in their words; one in ten answers is a level too high or too low.
"""

import random

LEVELS = ("low", "normal", "high", "urgent")
WRONG_SHARE = 0.1

ANSWERS = {
    "urgent": (
        "danger or damage right now",
        "our business stands still",
        "must be solved today",
        "somebody is being harmed or robbed",
    ),
    "high": ("I cannot go on without help", "not the first time I ask", "deadline in a few days", "I am blocked"),
    "normal": ("an ordinary problem", "annoying, but I can go on", "some trouble", "affects me a little"),
    "low": ("just a question", "no hurry at all", "a suggestion", "only curious"),
}


def stated_impact(text: str, priority: str) -> str:
    """The answer that came with a ticket, drawn from its text alone, so that copies of a text share it."""
    dice = random.Random(f"impact:{text}")  # noqa: S311 - reproducible data, not a secret
    level = LEVELS.index(priority)
    if dice.random() < WRONG_SHARE:
        level = min(max(level + dice.choice((-1, 1, 1)), 0), len(LEVELS) - 1)
    return dice.choice(ANSWERS[LEVELS[level]])
