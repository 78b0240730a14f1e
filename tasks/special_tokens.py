"""Special tokens in a text: marks that a tokenizer obeys whoever wrote them, found raw and once NFKC has folded them.

A user's `<|im_end|>` ends the user's turn: a text that may write marks may write turns. Folded, because a fullwidth
mark is harmless only until somebody normalises the text.
"""

import re
import unicodedata
from collections.abc import Iterable

TRIES = 3  # a mark within a mark needs two


class SpecialTokens:
    """The marks to look for."""

    def __init__(self, tokens: Iterable[str]) -> None:
        longest_first = sorted(set(tokens), key=lambda token: (-len(token), token))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def first(self, text: str) -> str | None:
        """The first mark in `text`, raw or folded."""
        found = self._pattern.search(text) or (
            None if text.isascii() else self._pattern.search(unicodedata.normalize("NFKC", text))
        )
        return found.group() if found else None

    def escape(self, text: str) -> tuple[str, int]:
        """`text` with a space behind the first character of every mark, so that it is read as text; how many.

        A text that holds a mark only once it is folded is folded first.
        """
        count = 0
        for _ in range(TRIES):
            if self.first(text) is None:
                break
            if not self._pattern.search(text):
                text = unicodedata.normalize("NFKC", text)
            text, found = self._pattern.subn(lambda match: f"{match.group()[0]} {match.group()[1:]}", text)
            count += found
        return text, count
