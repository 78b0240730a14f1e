"""What people are told of a run, by a webhook on loopback and by Prefect's blocks; a failure changes nothing."""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from flows.notifications import WEBHOOK_BODY, WEBHOOK_VARIABLE, event_of, tell, text_of
from flows.run_record import RunRecord
from tests.flows.fake_run import passed_record, refused_record

LOGGER = logging.getLogger("test_notifications")


class Listener:
    """An HTTP server on loopback that keeps what it was sent and answers with one status."""

    def __init__(self, status: int) -> None:
        self.got: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                outer.got.append(json.loads(self.rfile.read(length)))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/secret-path"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener(200)
    yield made
    made.close()


@pytest.fixture
def deaf() -> Iterator[Listener]:
    made = Listener(500)
    yield made
    made.close()


def waiting_record() -> RunRecord:
    run = passed_record()
    release = run.params["release"] if isinstance(run.params.get("release"), dict) else {}
    assert isinstance(release, dict)
    return run.model_copy(update={"release": None, "params": {"release": {**release, "require_approval": True}}})


def test_a_webhook_of_the_environment_is_sent_event_and_text(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, listener.address)
    tell("refused", "run a\nwhy", [], LOGGER)
    assert listener.got == [{"event": "refused", "text": "run a\nwhy"}]


@pytest.mark.usefixtures("prefect_server")
def test_a_block_is_told_by_its_name(listener: Listener) -> None:
    block = CustomWebhookNotificationBlock(name="ops", url=listener.address, json_data=WEBHOOK_BODY)
    block.save("ops", overwrite=True)
    tell("passed", "fine", ["custom-webhook/ops"], LOGGER)
    assert listener.got == [{"event": "passed", "text": "fine"}]


@pytest.mark.usefixtures("prefect_server")
def test_who_cannot_be_told_is_logged_without_the_address_and_the_others_are_told(
    listener: Listener, deaf: Listener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    CustomWebhookNotificationBlock(name="good", url=listener.address, json_data=WEBHOOK_BODY).save(
        "good", overwrite=True
    )
    monkeypatch.setenv(WEBHOOK_VARIABLE, deaf.address)
    tell("passed", "fine", ["slack-webhook/nowhere", "custom-webhook/good"], LOGGER)
    assert len(listener.got) == len(deaf.got) == 1
    said = [record.getMessage() for record in caplog.records if record.name == LOGGER.name]
    assert said == [
        "the block slack-webhook/nowhere was not told of it: ValueError",
        f"the webhook in {WEBHOOK_VARIABLE} was not told of it: HTTPStatusError",
    ]


def test_a_run_that_waits_for_a_person_is_told_as_waiting_with_both_commands() -> None:
    run = waiting_record()
    assert event_of(run, asks_for_approval=False) == "waiting"
    assert f"tunegate approve {run.run_id}, or tunegate reject {run.run_id} --why TEXT" in text_of(run, "waiting")
    assert event_of(passed_record(), asks_for_approval=True) == "passed"


def test_a_refusal_is_told_with_its_reason_and_where_more_is() -> None:
    run = refused_record()
    text = text_of(run, event_of(run, asks_for_approval=False)).splitlines()
    assert text[0] == f"run {run.run_id}: refused"
    assert text[-1] == f"more: tunegate audit show {run.run_id}"
    assert len(text) == 3


def test_no_file_of_parameters_holds_an_address() -> None:
    root = Path(__file__).parents[2]
    for path in (root / "params.yaml", *(root / "params").glob("*.yaml")):
        notify = path.read_text(encoding="utf-8").partition("  notify: ")[2].splitlines()[0]
        assert notify.startswith("[]")
