import gzip
from pathlib import Path

import pytest
import zstandard

from tasks import compressed
from tasks.compressed import opened
from tasks.raw_rows import FileBroken

TEXT = b"".join(b"line %d of a text that packs as texts do\n" % number for number in range(20_000))


def unpacked(path: Path) -> bytes:
    with opened(path) as stream:
        return b"".join(stream)


def packed(path: Path, content: bytes) -> bytes:
    return gzip.compress(content) if path.suffix == ".gz" else zstandard.compress(content)


@pytest.fixture(params=["a.gz", "a.zst"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def test_a_packed_file_is_read_as_its_text(path: Path) -> None:
    path.write_bytes(packed(path, TEXT))
    assert unpacked(path) == TEXT


def test_archives_put_one_after_the_other_are_one_text(path: Path) -> None:
    path.write_bytes(packed(path, b"one\n") + packed(path, b"two\n"))
    assert unpacked(path) == b"one\ntwo\n"


def test_a_torn_archive_gives_its_first_lines_and_then_breaks(path: Path) -> None:
    whole = packed(path, TEXT)
    path.write_bytes(whole[: len(whole) * 3 // 4])
    lines = []
    with pytest.raises(FileBroken) as caught, opened(path) as stream:
        lines += [stream.readline() for _ in range(1_000_000)]
    assert caught.value.rule == "compressed_torn"
    with opened(path) as stream:
        assert [stream.readline(), stream.readline()] == TEXT.splitlines(keepends=True)[:2]


def test_what_is_no_archive_is_torn(path: Path) -> None:
    path.write_bytes(b"no archive at all")
    with pytest.raises(FileBroken, match="torn, or no"):
        unpacked(path)


def test_a_bomb_is_given_up_at_its_ratio(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "FREE_BYTES", 1 << 20)
    path.write_bytes(packed(path, b"x" * (64 << 20)))
    with pytest.raises(FileBroken, match="unpack to more than") as caught:
        unpacked(path)
    assert caught.value.rule == "compression_bomb"


def test_regular_text_below_the_free_amount_is_no_bomb(path: Path) -> None:
    path.write_bytes(packed(path, b"x" * (8 << 20)))
    assert len(unpacked(path)) == 8 << 20


def test_no_more_than_the_largest_amount_is_unpacked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "MAX_UNPACKED_BYTES", 100_000)
    path.write_bytes(packed(path, TEXT))
    with pytest.raises(FileBroken, match="more than 100000"):
        unpacked(path)


def test_a_zstd_frame_that_wants_a_giant_window_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path = tmp_path / "a.zst"
    path.write_bytes(packer.compress(TEXT) + packer.flush())
    with pytest.raises(FileBroken, match="no zstd"):
        unpacked(path)
