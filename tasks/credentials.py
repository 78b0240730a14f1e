"""Keys and tokens in a text, by detect-secrets' own shapes; found by kind, never kept, never printed.

Its plugins are read directly. Those that guess (entropy, keywords, IP addresses) and those that take ordinary words for
keys (Artifactory, Cloudant, IBM, SoftLayer) are left out; Hugging Face's tokens, GitHub's newer ones and encrypted
keys, which it lacks, are added here.
"""

import re
from collections.abc import Iterator

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

Span = tuple[int, int, str]

PLUGINS = (
    AWSKeyDetector,
    AzureStorageKeyDetector,
    BasicAuthDetector,
    DiscordBotTokenDetector,
    GitHubTokenDetector,
    GitLabTokenDetector,
    JwtTokenDetector,
    MailchimpDetector,
    NpmDetector,
    OpenAIDetector,
    PrivateKeyDetector,
    PypiTokenDetector,
    SendGridDetector,
    SlackDetector,
    SquareOAuthDetector,
    StripeDetector,
    TelegramBotTokenDetector,
    TwilioKeyDetector,
)
KEY_BLOCK = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    r"(?:.*?-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|.*)",
    re.DOTALL,
)
SHAPES: tuple[tuple[str, re.Pattern[str]], ...] = (
    *((str(plugin.secret_type), pattern) for plugin in PLUGINS for pattern in plugin.denylist),
    ("Private Key", KEY_BLOCK),  # with its body, so that it is masked whole
    ("Hugging Face Token", re.compile(r"(?<![A-Za-z0-9])(?:hf|api_org)_[A-Za-z0-9]{20,}")),
    ("GitHub Token", re.compile(r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})")),
)
HINT = re.compile(r"[\w+/=.\\-]{20}|eyJ|://|_authToken|PRIVATE KEY|PuTTY|(?i:xox)")
"""What a text without any of the shapes lacks: a long run of a token's characters, or a word of the short ones."""
REST = re.compile(r"[\w+/=.-]*")


def find(text: str) -> list[str]:
    """The kinds of credentials in `text`, one for each that stands there, in their order."""
    return [kind for _, _, kind in _spans(text)]


def mask(text: str) -> tuple[str, list[str]]:
    """`text` with every credential replaced by [SECRET], and their kinds; what follows one without a break goes too."""
    spans = _spans(text)
    parts: list[str] = []
    done = 0
    for start, end, _ in spans:
        parts += [text[done:start], "[SECRET]"]
        done = end
    return "".join([*parts, text[done:]]), [kind for _, _, kind in spans]


def _spans(text: str) -> list[Span]:
    if not HINT.search(text):
        return []
    merged: list[Span] = []
    for start, end, kind in sorted(_matches(text)):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]), merged[-1][2])
        else:
            merged.append((start, end, kind))
    return merged


def _matches(text: str) -> Iterator[Span]:
    for kind, pattern in SHAPES:
        for match in pattern.finditer(text):
            if kind == JwtTokenDetector.secret_type and not JwtTokenDetector.is_formally_valid(match.group()):
                continue
            rest = REST.match(text, match.end())
            yield match.start(), rest.end() if rest else match.end(), kind
