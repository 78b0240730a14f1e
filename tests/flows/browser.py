"""Headless Chromium, told what to do by its own DevTools protocol; for tests that use a page as a person does."""

import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
START_SECONDS = 60


class Page:
    """A page that is open; `ask` evaluates an expression of JavaScript in it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    def send(self, method: str, **params: object) -> dict[str, Any]:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer: dict[str, Any] = json.loads(self._connection.recv(timeout=START_SECONDS))
            if answer.get("id") == number:
                return dict(answer["result"])

    def ask(self, expression: str) -> Any:
        done = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")


@contextmanager
def opened(page: Path, profile: Path) -> Iterator[Page]:
    """The page in a browser of its own, which is gone afterwards."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    with subprocess.Popen([CHROMIUM, *options, page.as_uri()], stderr=subprocess.DEVNULL) as browser:
        try:
            with connect(_address(profile), max_size=None) as connection:
                found = Page(connection)
                _wait(lambda: found.ask("document.readyState + location.href") == f"complete{page.as_uri()}")
                yield found
        finally:
            browser.kill()


def _address(profile: Path) -> str:
    port = profile / "DevToolsActivePort"
    _wait(lambda: port.is_file() and len(port.read_text().splitlines()) > 1)
    with urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json") as answer:
        pages = [target for target in json.load(answer) if target["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])


def _wait(is_so: Any) -> None:
    end = time.monotonic() + START_SECONDS
    while not is_so():
        assert time.monotonic() < end, "the browser does not answer"
        time.sleep(0.05)
