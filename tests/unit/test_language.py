import socket

import pytest

from tasks.language import LanguageIdentifier


def forbidden(*_args: object, **_kwargs: object) -> None:
    raise AssertionError("the network was asked")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is my parcel? It was sent last week.", "en"),
        ("Wo bleibt mein Paket?\nEs wurde letzte Woche verschickt.", "de"),
        ("¿Dónde está mi paquete? Fue enviado la semana pasada.", "es"),
    ],
)
def test_a_language_is_named_without_the_network(text: str, language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(socket, "create_connection", forbidden)
    found, confidence = LanguageIdentifier().identify(text)
    assert found == language
    assert confidence > 0.8
