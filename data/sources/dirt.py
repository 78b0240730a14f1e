"""The dirt of real exports, put on clean tickets: each kind is one function from tickets to tickets.

How many rows of each kind there are stands in `DIRT`; the data card says what each kind is, and a test holds the card
to these counts.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

Row = TypeVar("Row")

SEED = 20260107

QUEUES = ("account", "billing", "privacy", "repair", "returns", "sales", "shipping", "technical")
PRIORITIES = ("low", "normal", "high", "urgent")
SWAPPED_QUEUE = dict(zip(QUEUES, QUEUES[3:] + QUEUES[:3], strict=True))
REVERSED_PRIORITY = dict(zip(PRIORITIES, reversed(PRIORITIES), strict=True))

DIRT = {
    "mojibake": 40,
    "personal data": 40,
    "chat template token": 8,
    "wrong label": 20,
    "unknown label": 10,
    "exact duplicate": 76,
    "near duplicate": 76,
    "empty text": 12,
    "truncated text": 15,
    "contradicting label": 6,
    "broken row": 8,
}
NEAR_DUPLICATE_MIN_WORDS = 24

GREETINGS = ("Hello, ", "Hi, ", "Hello team, ", "Dear all, ", "Hi there, ")
THANKS = (" Thanks!", " Thank you.", " Many thanks.", " Cheers.", " Regards.")
SIGN_OFFS = (" Grüße, Jörg", " Merci, Zoë", " – sent from my phone", " Viele Grüße, Käthe", " Best, René")
BLANKS = ("", " ", "   ", "\n", "\t", " \n ")

CONTACTS = (
    "You can reach me at lena.ortmann@example.com.",
    "Please answer to p.vandermeer@example.org, I rarely read the other mailbox.",
    "My address is j_okafor82@example.net in case you need it.",
    "Write to office+halden@example.com please.",
    "Copy my colleague marta.lind@example.org when you reply.",
    "Call me on +1 202 555 0143 after lunch.",
    "My number is 020 7946 0921.",
    "Best by phone: +44 7700 900461.",
    "Ring (415) 555-0117 if anything is unclear.",
    "I am on +44 20 7946 0358 until six.",
    "The card is 4111 1111 1111 1111 if that helps.",
    "It concerns my card 5555 5555 5555 4444.",
    "Card number 4012-8888-8888-1881, valid through 09/29.",
    "I used 378282246310005 for it.",
    "My IBAN is DE89 3704 0044 0532 0130 00.",
    "Account for the money: GB82 WEST 1234 5698 7654 32.",
)
TOKENS = (
    "{}<|im_end|>",
    "{} <|im_end|>\n<|im_start|>assistant\nSure, I can help.",
    "<|im_start|>user\n{}",
    "{}<|endoftext|>",
)
UNKNOWN_LABELS = (
    ("queue", "biling"),
    ("queue", "shiping"),
    ("queue", "IT"),
    ("queue", "other"),
    ("queue", ""),
    ("queue", "Returns desk"),
    ("priority", "asap"),
    ("priority", "P1"),
    ("priority", "medium"),
    ("priority", "hihg"),
)
BREAKAGES = ("cut", "cut", "list", "no priority", "no text", "number", "key twice", "latin-1")


@dataclass(frozen=True)
class Ticket:
    """One row of the export before it has its number; `breakage` names what makes it unreadable, if anything."""

    text: str
    impact: str
    queue: str
    priority: str
    breakage: str = ""


def dice(purpose: str) -> random.Random:
    """A generator for each purpose alone, so that one more row of one kind leaves the other kinds as they are."""
    return random.Random(f"{SEED}:{purpose}")  # noqa: S311 - reproducible data, not a secret


def shuffled(purpose: str, rows: Iterable[Row]) -> list[Row]:
    """The rows in the order that the seed and the purpose fix."""
    mixed = list(rows)
    dice(purpose).shuffle(mixed)
    return mixed


def soil(tickets: list[Ticket]) -> list[Ticket]:
    """All tickets, some of them changed in place, and after them the copies that an export collects.

    No ticket gets two kinds of dirt, so that every count of the data card can be checked alone.
    """
    waiting = shuffled("soil", tickets)
    changed: list[Ticket] = []
    copies: list[Ticket] = []
    for kind, soiled in IN_PLACE.items():
        changed += _each(kind, _take(waiting, kind), soiled)
    for kind, soiled in COPIES.items():
        originals = _take(waiting, kind)
        changed += originals
        copies += _each(kind, originals, soiled)
    return changed + waiting + copies


def mislabelled(ticket: Ticket) -> Ticket:
    """The ticket with another queue and the priority turned round: no label is right, and all are wrong alike."""
    return replace(ticket, queue=SWAPPED_QUEUE[ticket.queue], priority=REVERSED_PRIORITY[ticket.priority])


def _take(waiting: list[Ticket], kind: str) -> list[Ticket]:
    """Remove the first tickets that suit the kind from those that wait."""
    least = NEAR_DUPLICATE_MIN_WORDS if kind in {"near duplicate", "truncated text"} else 1
    taken = [ticket for ticket in waiting if len(ticket.text.split()) >= least][: DIRT[kind]]
    waiting[:] = [ticket for ticket in waiting if ticket not in taken]
    return taken


def _each(kind: str, tickets: list[Ticket], soiled: "Soiled") -> Iterator[Ticket]:
    chance = dice(kind)
    for index, ticket in enumerate(tickets):
        yield soiled(ticket, index, chance)


def _mojibake(ticket: Ticket, index: int, _chance: random.Random) -> Ticket:
    """UTF-8 that was read as cp1252, on a text as a word processor would have set it."""
    text = re.sub(r'"([^"]*)"', "„\\1“", ticket.text.replace("'", "’"))
    text = re.sub(r"(\d) ?(?:euros?|EUR)\b", r"\1 €", text).replace(" - ", " – ")
    if text.isascii():
        text += SIGN_OFFS[index % len(SIGN_OFFS)]
    return replace(ticket, text=text.encode().decode("cp1252"))


def _personal(ticket: Ticket, index: int, _chance: random.Random) -> Ticket:
    return replace(ticket, text=f"{ticket.text} {CONTACTS[index % len(CONTACTS)]}")


def _token(ticket: Ticket, index: int, _chance: random.Random) -> Ticket:
    return replace(ticket, text=TOKENS[index % len(TOKENS)].format(ticket.text))


def _wrong_label(ticket: Ticket, _index: int, chance: random.Random) -> Ticket:
    return replace(ticket, queue=chance.choice([queue for queue in QUEUES if queue != ticket.queue]))


def _unknown_label(ticket: Ticket, index: int, _chance: random.Random) -> Ticket:
    column, label = UNKNOWN_LABELS[index]
    return replace(ticket, queue=label) if column == "queue" else replace(ticket, priority=label)


def _duplicate(ticket: Ticket, _index: int, _chance: random.Random) -> Ticket:
    return replace(ticket)


def _near_duplicate(ticket: Ticket, index: int, chance: random.Random) -> Ticket:
    """One small edit, in turn: greeting, thanks, a typo, two words swapped, the last sign doubled."""
    edits = (_greeted, _thanked, _mistyped, _swapped, _doubled)
    return replace(ticket, text=edits[index % len(edits)](ticket.text, chance))


def _greeted(text: str, chance: random.Random) -> str:
    return chance.choice(GREETINGS) + text


def _thanked(text: str, chance: random.Random) -> str:
    return text + chance.choice(THANKS)


def _mistyped(text: str, chance: random.Random) -> str:
    words = text.split(" ")
    place = chance.choice([index for index, word in enumerate(words) if re.fullmatch(r"[a-z]{5,}", word)])
    word = words[place]
    words[place] = word[:2] + word[3] + word[2] + word[4:] if word[2] != word[3] else word[:2] + word[3:]
    return " ".join(words)


def _swapped(text: str, _chance: random.Random) -> str:
    """The first two words change places, where only three 3-grams can see it."""
    first, second, rest = text.split(" ", 2)
    return f"{second} {first} {rest}"


def _doubled(text: str, _chance: random.Random) -> str:
    return text + text[-1] if text[-1] in ".!?" else text + "!!"


def _blank(ticket: Ticket, index: int, _chance: random.Random) -> Ticket:
    return replace(ticket, text=BLANKS[index % len(BLANKS)])


def _truncated(ticket: Ticket, _index: int, chance: random.Random) -> Ticket:
    words = ticket.text.split(" ")
    return replace(ticket, text=" ".join(words[: chance.randint(6, len(words) // 2)]) + " [...]")


def _broken(ticket: Ticket, index: int, _chance: random.Random) -> Ticket:
    return replace(ticket, breakage=BREAKAGES[index])


Soiled = Callable[[Ticket, int, random.Random], Ticket]

IN_PLACE: dict[str, Soiled] = {
    "mojibake": _mojibake,
    "personal data": _personal,
    "chat template token": _token,
    "wrong label": _wrong_label,
    "unknown label": _unknown_label,
}
COPIES: dict[str, Soiled] = {
    "exact duplicate": _duplicate,
    "near duplicate": _near_duplicate,
    "empty text": _blank,
    "truncated text": _truncated,
    "contradicting label": _wrong_label,
    "broken row": _broken,
}
