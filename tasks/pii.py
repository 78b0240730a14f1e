"""Personal data in a text: found by presidio-analyzer's recognisers, replaced by a placeholder, counted by kind.

The recognisers are called directly: they need no language model. Where presidio is too eager for training data the
check is ours: a phone number needs a country code or the grouping of one (presidio takes order numbers of the right
length), an IP address must be a public one. Where it is too strict, too: it refuses the exchange 555, which exports
and examples are full of. Nothing here keeps, returns or logs what it found.
"""

import importlib
import importlib.util
import ipaddress
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import tldextract

Span = tuple[int, int, str]

_ALONE = r"(?<![\w@/-])"
_END = r"(?![\w@-])"
PHONE = re.compile(
    r"(?<![\w+@/-])(?<!\d )(?:"  # not amid groups of digits
    r"\+[1-9]\d{0,2}(?:[ ./-]?\(0\))?(?:[ ./-]?\(?\d{1,5}\)?){2,6}"
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}"
    r"|\d{3}[.-]\d{3}[.-]\d{4}"
    r")" + _END
)
PHONE_REGIONS = ("US", "GB")  # numbers with `+` are read the same in any; these two also read `011` and `00`
HINTS = {
    "email": re.compile("@"),
    "card": re.compile(r"\d(?:[ -]?\d){11}"),
    "iban": re.compile(r"[A-Z]{2}\d{2}[ -]?[A-Z0-9]{4}"),
    "phone": re.compile(r"(?:\d[^\d\n]{0,6}){6}\d"),
    "ip": re.compile(r"\d\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:"),
}
"""What a text holds in which a recogniser of that kind finds anything: cheap to look for, and most texts lack it."""
ANY_HINT = re.compile(r"[@\d:]")
RECOGNISERS = {
    "email": ("email_recognizer", "EmailRecognizer"),
    "card": ("credit_card_recognizer", "CreditCardRecognizer"),
    "iban": ("iban_recognizer", "IbanRecognizer"),
    "phone": ("phone_recognizer", "PhoneRecognizer"),
    "ip": ("ip_recognizer", "IpRecognizer"),
}
FRACTION = re.compile(r"\d[.,]\Z")
"""What stands before the decimals of a number: they hold the Luhn check as often as any digits, one time in ten."""
MOST_LOCAL_CHARS, MOST_DOMAIN_CHARS = 64, 255
FEWEST_PHONE_DIGITS, MOST_PHONE_DIGITS = 8, 15


class PiiRecogniser:
    """Finds and masks personal data of some kinds."""

    def __init__(self, recognisers: dict[str, Any]) -> None:
        self._recognisers = recognisers

    def find(self, text: str) -> Counter[str]:
        """How often each kind stands in `text`."""
        return Counter(kind for _, _, kind in self.spans(text))

    def mask(self, text: str) -> tuple[str, Counter[str]]:
        """`text` with [EMAIL], [CARD], [IBAN], [PHONE] and [IP] for what was found, and how often each."""
        spans = self.spans(text)
        parts: list[str] = []
        done = 0
        for start, end, kind in spans:
            parts += [text[done:start], f"[{kind.upper()}]"]
            done = end
        return "".join([*parts, text[done:]]), Counter(kind for _, _, kind in spans)

    def spans(self, text: str, *, hints: bool = True) -> list[Span]:
        """Where personal data stands: start, end and kind, in order; of those that overlap, the kind that came first.

        `hints` off asks every recogniser, whatever the text looks like; the result is the same.
        """
        found: list[Span] = []
        if hints and not ANY_HINT.search(text):
            return found
        for kind, recogniser in self._recognisers.items():
            if hints and not HINTS[kind].search(text):
                continue
            for start, end in _finds(kind, recogniser, text):
                if all(end <= other_start or start >= other_end for other_start, other_end, _ in found):
                    found.append((start, end, kind))
        return sorted(found)


def build_recogniser(kinds: Sequence[str]) -> PiiRecogniser:
    """The recognisers of `kinds`: email, card, iban, phone, ip."""
    _import_core()
    logging.getLogger("presidio-analyzer").setLevel(logging.CRITICAL)  # it logs texts that it cannot check
    return PiiRecogniser({kind: _build(kind) for kind in RECOGNISERS if kind in kinds})


def _import_core() -> None:
    """Import presidio's pattern recognisers without its engines for language models.

    The package imports spaCy, transformers and torch for engines that these recognisers never call: 34 s where nothing
    is byte-compiled, against 1 s for what is used. So empty modules stand in for these three parts of it.
    """
    if "presidio_analyzer" in sys.modules:
        return
    spec = importlib.util.find_spec("presidio_analyzer")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("presidio_analyzer")
    for name in ("nlp_engine", "recognizer_registry", "predefined_recognizers"):
        module = _Empty(f"presidio_analyzer.{name}")
        module.__path__ = [str(Path(spec.origin).parent / name)]
        sys.modules[module.__name__] = module
    importlib.import_module("presidio_analyzer")


class _Empty(ModuleType):
    """A module whose every name is an empty class, for imports that only serve annotations."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _build(kind: str) -> Any:
    module, name = RECOGNISERS[kind]
    recogniser = getattr(importlib.import_module(f"presidio_analyzer.predefined_recognizers.generic.{module}"), name)
    if kind == "phone":
        return recogniser(supported_regions=PHONE_REGIONS)
    if kind == "email":
        return _offline_email(recogniser)
    return recogniser()


def _offline_email(recogniser: Any) -> Any:
    """Presidio's e-mail recogniser, with the domain endings that tldextract carries: its own would be fetched."""
    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, fallback_to_snapshot=True)
    email = recogniser()
    email.validate_result = lambda text: extract(text).fqdn != ""
    return email


def _finds(kind: str, recogniser: Any, text: str) -> Iterator[tuple[int, int]]:
    places: list[tuple[int, int]] = []
    if kind == "email":  # its pattern takes time quadratic in the length of a text without spaces
        places = [place for start, end in _around_ats(text) for place in _analysed(recogniser, text, start, end)]
    elif kind != "phone" or "+" in text or "00" in text:  # of its phone numbers those with a country code are taken
        places = _analysed(recogniser, text, 0, len(text))
    if kind == "phone":
        shaped = [match.span() for match in PHONE.finditer(text) if _has_phone_length(match.group())]
        places = [*shaped, *((start, end) for start, end in places if _has_country_code(text[start:end]))]
    elif kind == "card":
        places = [(start, end) for start, end in places if not FRACTION.search(text[:start])]
    elif kind == "ip":
        places = [(start, end) for start, end in places if _is_public(text[start:end])]
    yield from sorted(places, key=lambda place: (place[0], -place[1]))


def _analysed(recogniser: Any, text: str, start: int, end: int) -> list[tuple[int, int]]:
    found = recogniser.analyze(text[start:end], recogniser.supported_entities)
    return [(start + one.start, start + one.end) for one in found]


def _around_ats(text: str) -> Iterator[tuple[int, int]]:
    """The parts of a text in which addresses may stand, as long as one can be around each `@` (RFC 5321, 4.5.3.1)."""
    start = end = -1
    for match in re.finditer("@", text):
        low, high = max(match.start() - MOST_LOCAL_CHARS, 0), match.end() + MOST_DOMAIN_CHARS
        if start >= 0 and low > end:
            yield start, end
            start = low
        start, end = (low if start < 0 else start), high
    if start >= 0:
        yield start, end


def _has_phone_length(text: str) -> bool:
    return FEWEST_PHONE_DIGITS <= sum(sign.isdigit() for sign in text) <= MOST_PHONE_DIGITS


def _has_country_code(text: str) -> bool:
    return text.startswith(("+", "00")) and _has_phone_length(text)


def _is_public(text: str) -> bool:
    """Whether it is an address of the public net: private, loopback and documentation addresses name nobody."""
    return ipaddress.ip_interface(text).ip.is_global
