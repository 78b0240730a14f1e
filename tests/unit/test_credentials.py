import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.credentials import HINT, SHAPES, find, mask

KEY = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\nabc=\n-----END ENCRYPTED PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("my token hf_" + "a1" * 17, ["Hugging Face Token"]),
        ("my key AKIA" + "A1B2" * 4, ["AWS Access Key"]),
        ("my token ghp_" + "a1" * 18, ["GitHub Token"]),
        ("github_pat_" + "a1" * 18, ["GitHub Token"]),
        ("-----BEGIN RSA PRIVATE KEY-----", ["Private Key"]),
        (KEY, ["Private Key"]),
        ("postgres://me:hunter2@db/x", ["Basic Auth Credentials"]),
        ("eyJhIjoxfQ.eyJhIjoxfQ.c2ln", ["JSON Web Token"]),
        ("two: hf_" + "a1" * 17 + " AKIA" + "A1B2" * 4, ["Hugging Face Token", "AWS Access Key"]),
        ("hf_short and AKIA and https://example.org/a", []),
        ("APPLICATIONS AKCELERATION123", []),
        ("sq0csp-" + "0" * 12 + "\\" + "0" * 19 + "\\" + "0" * 10, ["Square OAuth Secret"]),
    ],
)
def test_credentials_are_found_by_kind(text: str, kinds: list[str]) -> None:
    assert find(text) == kinds


def test_a_masked_credential_leaves_nothing_of_itself() -> None:
    text = f"use hf_{'a1' * 17} and\n{KEY}\nor eyJhIjoxfQ.eyJhIjoxfQ.c2ln."
    assert mask(text)[0] == "use [SECRET] and\n[SECRET]\nor [SECRET]"


def test_a_text_without_credentials_stays() -> None:
    assert mask("nothing here") == ("nothing here", [])


@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("shape", [pattern for _, pattern in SHAPES], ids=lambda pattern: pattern.pattern[:24])
@given(data=st.data())
def test_the_hint_hides_nothing_from_a_shape(shape: re.Pattern[str], data: st.DataObject) -> None:
    assert HINT.search(data.draw(st.from_regex(shape)))
