"""Tell people how a scheduled run ended: through Prefect's blocks by name, and a webhook whose address is a secret.

What cannot be told changes nothing: it is logged, by the kind of error alone, since its text may hold the address.
"""

import os
from collections.abc import Iterable
from logging import Logger, LoggerAdapter
from typing import Any

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from flows.run_record import RunRecord
from flows.sign_off import is_required
from flows.wording import headline

WEBHOOK_VARIABLE = "TUNEGATE_WEBHOOK_URL"
"""The environment variable that holds the address of a plain webhook, which is sent JSON by POST."""
WEBHOOK_BODY = {"event": "{{subject}}", "text": "{{body}}"}


def event_of(run: RunRecord, *, asks_for_approval: bool) -> str:
    """What people are told that became of a run: its status, or `waiting` where a person has to agree first."""
    waits = run.status == "passed" and run.release is None and is_required(run, now=asks_for_approval)
    return "waiting" if waits else run.status


def text_of(run: RunRecord, event: str) -> str:
    """A few lines for a person: what became of the run, why, and the command that says more."""
    lines = [f"run {run.run_id}: {event}", headline(run.reason)]
    if run.release is not None:
        lines.append(f"release: {run.release.tag}")
    if event == "waiting":
        lines.append(f"agree or not: tunegate approve {run.run_id}, or tunegate reject {run.run_id} --why TEXT")
    lines.append(f"more: tunegate audit show {run.run_id}")
    return "\n".join(line for line in lines if line)


def tell(event: str, text: str, blocks: Iterable[str], logger: "Logger | LoggerAdapter[Any]") -> None:
    """Send `text` to every block and to the webhook of the environment; what fails is logged and passed over.

    Args:
        event: passed, refused, inconclusive, skipped, invalid, crashed, cancelled, reached or waiting.
        text: what is told.
        blocks: names of Prefect's notification blocks, `TYPE/NAME`.
        logger: where a failure is told.
    """
    for name in blocks:
        try:
            _loaded(name).notify(text, subject=event)
        except Exception as error:  # noqa: BLE001  whoever cannot be told must not change what became of the run
            logger.warning("the block %s was not told of it: %s", name, type(error).__name__)
    if address := os.environ.get(WEBHOOK_VARIABLE):
        try:
            webhook = CustomWebhookNotificationBlock(name="tunegate", url=address, json_data=WEBHOOK_BODY)
            webhook.notify(text, subject=event)
        except Exception as error:  # noqa: BLE001  as above
            logger.warning("the webhook in %s was not told of it: %s", WEBHOOK_VARIABLE, type(error).__name__)


def _loaded(name: str) -> Any:
    """The block of that name.

    Raises:
        TypeError: it is of a kind that notifies nobody.
    """
    block: Any = Block.load(name)
    if not isinstance(block, NotificationBlock):
        raise TypeError(f"{name} is no notification block")
    return block
