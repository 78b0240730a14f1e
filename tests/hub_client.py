"""huggingface_hub in a process of its own, against `tests/loopback_hub.py`: publishes and downloads as it is told."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.publish_bundle import Bundle, gather
from tasks.records import Record
from tests.unit.test_publish_bundle import RELEASE, make_model

TOKEN = "hf_canary0123456789"
REPO = "tester/support-router"

CLIENT = """
import io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout
from huggingface_hub import snapshot_download
from tasks.errors import TunegateError
from tasks.publish_bundle import Bundle
from tasks.publish_hub import Patience, publish_to_hub
from tasks.publish_hub_session import bounded_session

def publish(bundle, attempts, timeout_seconds):
    patience = Patience(attempts=attempts, first_wait_seconds=0.01, timeout_seconds=timeout_seconds)
    parsed = Bundle.model_validate_json(bundle)
    return publish_to_hub(parsed, "tester/support-router", is_private=True, patience=patience).model_dump_json()

def download(revision, folder):
    with bounded_session(10.0):
        return snapshot_download("tester/support-router", revision=revision, cache_dir=folder, max_workers=1)

def attempt(call):
    try:
        return 0, {"publish": publish, "download": download}[call.pop("do")](**call)
    except TunegateError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code, ""
    except Exception as error:  # a bug of ours, or what a download raised: the next call finds a process
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1, ""

for line in sys.stdin:
    call = json.loads(line)
    token = call.pop("token")
    os.environ.pop("HF_TOKEN", None)
    if token is not None:
        os.environ["HF_TOKEN"] = token
    with redirect_stderr(io.StringIO()) as told, redirect_stdout(told):
        code, answer = attempt(call)
    print(json.dumps({"code": code, "answer": answer, "told": told.getvalue()}), flush=True)
"""


class Outcome(Record):
    """How a call ended: its exit code, what it returned, and everything that it printed."""

    code: int
    answer: str
    told: str


class Client:
    """A process of its own, because huggingface_hub reads `HF_ENDPOINT` when it is imported."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, do: str, token: str | None = TOKEN, **arguments: object) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, "token": token, **arguments}) + "\n")
        self._process.stdin.flush()
        watchdog = threading.Timer(60, self._process.kill)  # a publication without a bound fails its test, not the run
        watchdog.start()
        try:
            return Outcome.model_validate_json(self._process.stdout.readline())
        finally:
            watchdog.cancel()

    def publish(
        self, bundle: Bundle, *, attempts: int = 3, timeout_seconds: float = 10.0, token: str | None = TOKEN
    ) -> Outcome:
        text = bundle.model_dump_json()
        return self.call("publish", token, bundle=text, attempts=attempts, timeout_seconds=timeout_seconds)


@contextmanager
def hub_client(url: str, home: Path) -> Iterator[Client]:
    """A client of the Hub at `url` for as long as the block lasts; nothing may be logged past us."""
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ}
    environment |= {"HF_ENDPOINT": url, "HF_HOME": str(home), "HOME": str(home), "NO_PROXY": "*"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    log = home / "stderr"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", CLIENT],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=Path(__file__).parents[1],
        ) as process,
    ):
        yield Client(process)
    assert log.read_text() == ""  # what a library logs past us could carry a token or a signed address


def make_bundle(folder: Path, version: str, weights: bytes = b"weights") -> Bundle:
    model, approval = make_model(folder / f"{version}-{weights.decode()}", weights)
    release = RELEASE.model_copy(update={"version": version})
    card = "---\nlicense: mit\n---\n\n<!-- tunegate:begin -->\n# card\n<!-- tunegate:end -->\n"
    return gather(release, model, approval, card)
