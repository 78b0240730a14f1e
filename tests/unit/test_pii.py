import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.pii import build_recogniser

KINDS = ("email", "card", "phone", "iban", "ip")
RECOGNISER = build_recogniser(KINDS)
PIECES = st.sampled_from(
    [
        *("ann@mail.org", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "+49 30 1234567", "(555) 123-4567"),
        *(
            "8.8.8.8",
            "2a00:1450:4001:830::200e",
            "::",
            "order ",
            " ",
            "\n",
            "-",
            "1",
            "@",
            "a.b",
            "2024-11-05",
            "+",
            "٣",
        ),
    ]
)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to ann.b+c@mail.example.org.", "write to [EMAIL]."),
        ("card 4111 1111 1111 1111, thanks", "card [CARD], thanks"),
        ("card 4111-1111-1111-1111 12", "card [CARD] 12"),
        ("IBAN DE89 3704 0044 0532 0130 00 please", "IBAN [IBAN] please"),
        ("IBAN GB82WEST12345698765432", "IBAN [IBAN]"),
        ("call +49 30 1234567 now", "call [PHONE] now"),
        ("call (555) 123-4567", "call [PHONE]"),
        ("call 555-123-4567!", "call [PHONE]!"),
        ("call 0049 30 12345678", "call [PHONE]"),
        ("from 8.8.8.8 today", "from [IP] today"),
        ("from 2a00:1450:4001:830::200e today", "from [IP] today"),
    ],
)
def test_personal_data_becomes_a_placeholder(text: str, masked: str) -> None:
    assert RECOGNISER.mask(text)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "order 4111 1111 1111 1112",  # fails Luhn
        "order 0000 0000 0000 0000",
        "order 1234567890123",
        "DE00 3704 0044 0532 0130 00",  # fails mod 97
        "ticket 2024-11-05 10:30",
        "version 1.20.300, model XR-2000-15",
        "it costs +20 %",
        "a@b",
        "the root is 6.4031242374328485",
        "10110010.10100011.00110110 and 0011100000",
        "hf_4111111111111111abc",
        "my router at 192.168.0.1 and ::1",
        "std::vector and f :: Int -> Int",
    ],
)
def test_numbers_that_are_no_personal_data_stay(text: str) -> None:
    assert RECOGNISER.mask(text) == (text, {})


def test_finds_are_counted_by_kind() -> None:
    assert RECOGNISER.find("a@b.org c@d.org +49 30 1234567") == {"email": 2, "phone": 1}


def test_what_overlaps_is_masked_once() -> None:
    assert RECOGNISER.mask("mail +49301234567@mail.org now") == ("mail +[EMAIL] now", {"email": 1})


def test_only_the_kinds_asked_for_are_masked() -> None:
    assert build_recogniser(["card"]).mask("a@b.org 4111 1111 1111 1111")[0] == "a@b.org [CARD]"


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES | st.text(max_size=4), max_size=8).map("".join))
def test_the_hints_hide_nothing_from_the_recognisers(text: str) -> None:
    assert RECOGNISER.spans(text) == RECOGNISER.spans(text, hints=False)


@pytest.mark.parametrize("filler", ["A", "ab+/", "."])
def test_an_address_behind_100_kb_without_a_space_is_masked_in_linear_time(filler: str) -> None:
    blob = filler * 100_000
    assert RECOGNISER.mask(f"{blob} ann@mail.org {blob}@") == (f"{blob} [EMAIL] {blob}@", {"email": 1})


def test_the_recognisers_come_without_spacy_and_torch() -> None:
    code = (
        "import sys, tasks.pii as p; p.build_recogniser(['email', 'phone']); print({'spacy', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"set\(\)\n", done.stdout)
