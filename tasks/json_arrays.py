"""The elements of a JSON array one by one, in bounded memory: found by brackets and quotes, not yet parsed."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase

from tasks.raw_rows import BOM, KEPT_BYTES, MAX_ROW_BYTES, FileBroken

_CHUNK_BYTES = 1 << 18
_SPACE = b" \t\r\n"
_OUTSIDE = re.compile(rb'["\[\]{},]')
_INSIDE = re.compile(rb'["\\]')
_FLAT = re.compile(rb'\{(?>[^"{}\[\]]+|"(?>[^"\\]+|\\.)*+")*+\}', re.DOTALL)  # most elements, at the speed of C


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its line, its bytes (of an oversized one only the start), its size and the sha256 of it all."""

    line: int
    raw: bytes
    size: int
    digest: str


def read_elements(stream: BufferedIOBase) -> Iterator[Element]:
    """Yield the elements of the array that fills `stream`; what stands between two commas is an element, valid or not.

    Raises:
        FileBroken: it is no array, breaks off, or something follows it.
    """
    return _Scanner(stream).elements()


class _Scanner:
    """Where a scan stands: bytes of the file from the start of the present element on, and what is open there."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._buffer = stream.read1(_CHUNK_BYTES).removeprefix(BOM)
        self._start = 0  # of the present element
        self._place = 0  # up to here the element is scanned
        self._line = 1
        self._depth = 0
        self._is_text = False

    def elements(self) -> Iterator[Element]:
        self._skip_space()
        if self._buffer[self._start : self._start + 1] != b"[":
            raise FileBroken("json_syntax", "not a JSON array: expected an array of objects", self._line)
        self._start += 1
        self._skip_space()
        count = 0
        while True:
            element, sign = self._element()
            if element.size or sign == b"," or count:
                yield element
            count += 1
            if sign == b"]":
                break
        self._skip_space()
        if self._start < len(self._buffer):
            raise FileBroken("json_syntax", "not a JSON array: something follows it", self._line)

    def _element(self) -> tuple[Element, bytes]:
        """The next element, and the comma or bracket after it."""
        self._skip_space()
        line = self._line
        self._place, self._depth, self._is_text = self._start, 0, False
        digest, kept, size = hashlib.sha256(), b"", 0
        while (end := self._end()) is None:
            if len(self._buffer) - self._start > MAX_ROW_BYTES:
                part = self._buffer[self._start :]
                digest.update(part)
                kept, size = (kept + part[:KEPT_BYTES])[:KEPT_BYTES], size + len(part)
                self._line += part.count(b"\n")
                self._start = len(self._buffer)
            if not self._more():
                raise FileBroken("json_syntax", "the array breaks off in the element that starts here", line)
        part = self._buffer[self._start : end]
        self._line += part.count(b"\n")
        sign = self._buffer[end : end + 1]
        self._start = end + 1
        part = part if size else part.rstrip(_SPACE)
        digest.update(part)
        return Element(line, (kept + part)[:KEPT_BYTES] if size else part, size + len(part), digest.hexdigest()), sign

    def _end(self) -> int | None:
        """The place of the comma or bracket that ends the element, if it is in the buffer."""
        if self._place == self._start and (flat := _FLAT.match(self._buffer, self._start)):
            self._place = flat.end()
        while match := (_INSIDE if self._is_text else _OUTSIDE).search(self._buffer, self._place):
            sign, self._place = match.group(), match.end()
            if sign == b"\\":
                if self._place == len(self._buffer):  # what it escapes is in the next chunk
                    self._place -= 1
                    return None
                self._place += 1
            elif sign == b'"':
                self._is_text = not self._is_text
            elif self._depth == 0 and sign in b",]":
                return match.start()
            elif sign != b",":
                self._depth += 1 if sign in b"[{" else -1
        self._place = len(self._buffer)
        return None

    def _skip_space(self) -> None:
        while True:
            rest = self._buffer[self._start : self._start + 64]
            stripped = rest.lstrip(_SPACE)
            self._line += rest[: len(rest) - len(stripped)].count(b"\n")
            self._start += len(rest) - len(stripped)
            if stripped or (self._start == len(self._buffer) and not self._more()):
                return

    def _more(self) -> bool:
        """Read on; what lies before the present element is let go."""
        chunk = self._stream.read1(_CHUNK_BYTES)  # one that breaks off costs what follows, nothing before
        self._buffer = self._buffer[self._start :] + chunk
        self._place -= self._start
        self._start = 0
        return bool(chunk)
