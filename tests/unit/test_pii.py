import pytest

from tasks.pii import mask

KINDS = ["email", "card", "phone", "iban"]


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
    ],
)
def test_personal_data_becomes_a_placeholder(text: str, masked: str) -> None:
    assert mask(text, KINDS)[0] == masked


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
        "hf_4111111111111111abc",
    ],
)
def test_numbers_that_are_no_personal_data_stay(text: str) -> None:
    assert mask(text, KINDS) == (text, {})


def test_replacements_are_counted_by_kind() -> None:
    assert mask("a@b.org c@d.org +49 30 1234567", KINDS)[1] == {"email": 2, "phone": 1}


def test_only_the_kinds_asked_for_are_masked() -> None:
    assert mask("a@b.org 4111 1111 1111 1111", ["card"])[0] == "a@b.org [CARD]"
