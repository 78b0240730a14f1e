"""The HTTP session, the token and the errors of publishing to the Hub: bounded in time, told in one line, no secret.

`HF_TOKEN` is read here and nowhere else; `HF_ENDPOINT` is read by huggingface_hub itself, when it is imported.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx2
from huggingface_hub import close_session, set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils._http import default_client_factory

from tasks.errors import PublishFailed

TOKEN_VARIABLE = "HF_TOKEN"  # noqa: S105 (the name of the variable, not a token)
MAX_WAIT_SECONDS = 30

_TOKEN = re.compile(r"[\x21-\x7e]+")
_QUERY = re.compile(r"\?\S+=\S+")
_PASSING = {408, 409, 412, 429}
_LASTING = {501, 507}
_CONFLICT = "another conflicting operation is in progress"
_ADVICE = {
    401: "the Hub does not know this token; set HF_TOKEN to a valid one with write access",
    403: "the token may not write here; give it write access to this repository",
    404: "no such repository, or the token may not see it; check release.repo_id",
    507: "the Hub has no room left",
}


class HubTransientError(PublishFailed):
    """A failure that may be gone at the next attempt: transport, 5xx, 429, or a head that moved."""


def read_token() -> str:
    """The token in the environment.

    Raises:
        PublishFailed: there is none, or it cannot be one; the text of the error never shows it.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise PublishFailed(f"{TOKEN_VARIABLE} is not set: set it to a token with write access and release again")
    if not _TOKEN.fullmatch(token):
        raise PublishFailed(f"{TOKEN_VARIABLE} holds characters that no token has; copy it again, without spaces")
    return token


@contextmanager
def bounded_session(timeout_seconds: float) -> Iterator[None]:
    """Give huggingface_hub an HTTP client with timeouts for as long as the block lasts, and keep its logs quiet.

    Its own client waits for ever, and its warnings quote upload addresses, which may carry signatures.
    """
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    set_client_factory(partial(_client, timeout_seconds))
    try:
        yield
    finally:
        set_client_factory(default_client_factory)
        close_session()
        hub_logging.set_verbosity(verbosity)


def explained(error: Exception, what: str) -> PublishFailed:
    """The error to raise in place of whatever the client raised: one line, without the token.

    Returns:
        A HubTransientError where another attempt may help, else a PublishFailed.
    """
    cause = _root(error)
    kind = HubTransientError if _is_transient(cause) else PublishFailed
    return kind(f"{what}: {_safe(_told(cause))}")


def _client(timeout_seconds: float) -> httpx2.Client:
    client = default_client_factory()
    client.timeout = httpx2.Timeout(timeout_seconds)
    hooks = client.event_hooks
    bound = partial(_bound, timeout_seconds)
    client.event_hooks = {**hooks, "request": [*hooks.get("request", []), bound], "response": [_refuse_to_wait]}
    return client


def _bound(timeout_seconds: float, request: httpx2.Request) -> None:
    """Bound a request that asks to wait for ever: huggingface_hub lists files with `timeout=None` of its own."""
    asked = {**httpx2.Timeout(None).as_dict(), **request.extensions.get("timeout", {})}
    kept = {phase: timeout_seconds if seconds is None else seconds for phase, seconds in asked.items()}
    request.extensions = {**request.extensions, "timeout": kept}


def _refuse_to_wait(response: httpx2.Response) -> None:
    """Take the waits that the client would sit through without a bound to our own loop, which has one."""
    wait = response.headers.get("Retry-After", "0")
    if response.status_code == 429 or not wait.isdecimal() or int(wait) > MAX_WAIT_SECONDS:
        raise HubTransientError(f"HTTP {response.status_code}: the Hub asks to wait")
    if response.status_code == 409 and _CONFLICT in response.read().decode(errors="replace"):
        raise HubTransientError(f"HTTP 409: {_CONFLICT}")


def _root(error: Exception) -> BaseException:
    """The first error of the chain that says something about the Hub or the connection, else `error` itself."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, PublishFailed | httpx2.TransportError) or _status(link) is not None:
            return link
        link = link.__cause__
    return error


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None) if isinstance(error, HfHubHTTPError) else None
    return response.status_code if response is not None else None


def _is_transient(error: BaseException) -> bool:
    status = _status(error)
    if status is not None:
        return status in _PASSING or (status >= 500 and status not in _LASTING)
    return isinstance(error, HubTransientError | httpx2.TransportError)


def _told(error: BaseException) -> str:
    status = _status(error)
    if status is not None:
        said = getattr(error, "server_message", None) or ""
        return f"HTTP {status}: {_ADVICE.get(status) or said or 'no reason given'}"
    if isinstance(error, PublishFailed):
        return str(error)
    if isinstance(error, httpx2.TransportError):
        return f"{type(error).__name__}: {error or 'no answer'}; check HF_ENDPOINT and the network, and release again"
    return f"{type(error).__name__}: {error}"


def _safe(text: str) -> str:
    """One line of at most 300 characters without the token and without what addresses are signed with."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    line = _QUERY.sub("?...", " ".join(text.split()))
    return (line.replace(token, "***") if token else line)[:300]
