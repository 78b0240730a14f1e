"""Files that may be packed: read as a stream of bounded memory, and given up when they unpack to absurd amounts."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard

from tasks.raw_rows import FileBroken

MAX_RATIO = 250  # text packs 3 to 20 times; deflate ends at 1032, where only bombs are
FREE_BYTES = 64 << 20  # what may be unpacked at any ratio: small and very regular files are no danger
MAX_UNPACKED_BYTES = 200 << 30
_BUFFER_BYTES = 1 << 18
_ZSTD_INPUT_BYTES = 512  # zstd can turn 4 bytes into 128 KiB: so no more than 16 MiB come out at once
_ZSTD_WINDOW_BYTES = 1 << 27  # the largest that the zstd command takes without being asked


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file for reading bytes, unpacked where its name ends in `.gz` or `.zst`.

    Raises:
        FileBroken: while reading: it is torn, no such archive, or a bomb.
    """
    with path.open("rb") as packed:
        if path.suffix not in (".gz", ".zst"):
            yield packed
            return
        chunks = _gunzip(packed) if path.suffix == ".gz" else _unzstd(packed)
        with io.BufferedReader(_Unpacked(packed, chunks), _BUFFER_BYTES) as stream:
            yield stream


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of `packed`, counted."""

    def __init__(self, packed: io.BufferedIOBase, chunks: Iterator[bytes]) -> None:
        self._packed = packed
        self._chunks = chunks
        self._left = memoryview(b"")
        self._unpacked_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._count(len(chunk))
            self._left = memoryview(chunk)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _count(self, more: int) -> None:
        self._unpacked_bytes += more
        allowed = max(FREE_BYTES, MAX_RATIO * self._packed.tell())
        if self._unpacked_bytes > min(allowed, MAX_UNPACKED_BYTES):
            raise FileBroken(
                "compression_bomb",
                f"{self._packed.tell()} bytes unpack to more than {min(allowed, MAX_UNPACKED_BYTES)}",
            )


def _gunzip(packed: io.BufferedIOBase) -> Iterator[bytes]:
    try:
        with gzip.GzipFile(fileobj=packed) as stream:
            while chunk := stream.read1(_BUFFER_BYTES):
                yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileBroken("compressed_torn", f"torn, or no gzip: {error}") from None


def _unzstd(packed: io.BufferedIOBase) -> Iterator[bytes]:
    """Frame after frame; the library's own stream reader takes a torn frame for the end of the file."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    frame, left = unpacker.decompressobj(), b""
    is_open = False
    try:
        while part := left or packed.read(_ZSTD_INPUT_BYTES):
            is_open = True
            if chunk := frame.decompress(part):
                yield chunk
            left = b""
            if frame.eof:
                left, frame, is_open = frame.unused_data, unpacker.decompressobj(), False
    except zstandard.ZstdError as error:
        raise FileBroken("compressed_torn", f"torn, or no zstd: {error}") from None
    if is_open:
        raise FileBroken("compressed_torn", "torn: the last frame has no end")
