"""Personal data in a text: found by shape and check digits, replaced by a placeholder, counted by kind.

Cards must hold the Luhn check and IBANs mod 97 (ISO 13616); phone numbers need a country code or the grouping of one,
so that order numbers stay. Nothing here keeps or returns what it found.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

_ALONE = r"(?<![\w@/-])"
_END = r"(?![\w@-])"

EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}(?![\w-])")
IBAN = re.compile(_ALONE + r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?" + _END, re.IGNORECASE)
CARD = re.compile(_ALONE + r"\d(?:[ -]?\d){12,18}" + _END)
PHONE = re.compile(
    r"(?<![\w+@/-])(?<!\d )(?:"  # not amid groups of digits
    r"(?:\+|00)[1-9]\d{0,2}(?:[ ./-]?\(0\))?(?:[ ./-]?\(?\d{1,5}\)?){2,6}"
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}"
    r"|\d{3}[.-]\d{3}[.-]\d{4}"
    r")" + _END
)


def mask(text: str, kinds: Sequence[str]) -> tuple[str, Counter[str]]:
    """Replace what is found by [EMAIL], [IBAN], [CARD] and [PHONE]; count the replacements by kind."""
    counts: Counter[str] = Counter()
    for kind, (pattern, holds) in _DETECTORS.items():
        if kind in kinds:
            text, counts[kind] = _replace(text, pattern, holds, f"[{kind.upper()}]")
    return text, +counts


def passes_luhn(text: str) -> bool:
    """Whether the digits in `text` hold the Luhn check (ISO/IEC 7812-1) and are not all the same."""
    digits = [int(sign) for sign in text if sign.isdigit()]
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def passes_mod97(text: str) -> bool:
    """Whether an IBAN's check digits hold (ISO 13616): 15 to 34 signs, moved and read as a number, 1 modulo 97."""
    iban = "".join(text.split()).upper()
    if not 15 <= len(iban) <= 34:
        return False
    return int("".join(str(int(sign, 36)) for sign in iban[4:] + iban[:4])) % 97 == 1


def _has_phone_length(text: str) -> bool:
    return 8 <= sum(sign.isdigit() for sign in text) <= 15


def _always(_text: str) -> bool:
    return True


def _held_part(found: str, holds: Callable[[str], bool]) -> str:
    """The longest start of `found` that ends with a group and holds: a number may have swallowed the next word."""
    ends = [len(found), *(match.start() for match in reversed(list(re.finditer(r"[ -]", found))))]
    return next((found[:end] for end in ends if holds(found[:end])), "")


def _replace(text: str, pattern: re.Pattern[str], holds: Callable[[str], bool], placeholder: str) -> tuple[str, int]:
    count = 0

    def replacement(match: re.Match[str]) -> str:
        nonlocal count
        part = _held_part(match.group(), holds)
        if not part:
            return match.group()
        count += 1
        return placeholder + match.group()[len(part) :]

    return pattern.sub(replacement, text), count


_DETECTORS: dict[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "email": (EMAIL, _always),
    "iban": (IBAN, passes_mod97),
    "card": (CARD, passes_luhn),
    "phone": (PHONE, _has_phone_length),
}
