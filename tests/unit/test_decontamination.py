from pathlib import Path

import pytest

from tasks.decontamination import BenchmarkText, Contamination, read_benchmark_texts
from tasks.errors import FileInvalid
from tests.unit.rows import example

ITEM = "one two three four five six seven eight nine"
INDEX = Contamination([BenchmarkText("bench:0", ITEM), BenchmarkText("bench:1", "Paris is in France"),
                       BenchmarkText("bench:2", "Yes, sure.")], 8)  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "place"),
    [
        ("ahem ONE, two three four five six seven eight!", "bench:0"),
        ("one two three four five six seven ate", None),
        ("we know: paris is in France, surely", "bench:1"),
        ("paris is not in france", None),
        ("yes sure", "bench:2"),
        ("oh yes sure thing", None),
    ],
)
def test_shared_text_is_found(prompt: str, place: str | None) -> None:
    assert INDEX.place_of(example("a", prompt)) == place


def test_completions_are_looked_at_and_system_turns_are_not() -> None:
    assert INDEX.place_of(example("a", completion=ITEM)) == "bench:0"
    assert INDEX.place_of(example("a", system=ITEM)) is None


def test_no_benchmark_texts_match_nothing() -> None:
    assert Contamination([], 8).place_of(example("a", "")) is None


def test_texts_are_taken_from_every_known_key_with_the_item_number(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/items.jsonl").write_text('{"text": "a", "gold": 1}\n{"doc": {"question": "b", "prompt": "c"}}\n')
    assert read_benchmark_texts(tmp_path, "bench") == [
        BenchmarkText("bench:0", "a"),
        BenchmarkText("bench:1", "b"),
        BenchmarkText("bench:1", "c"),
    ]


def test_a_benchmark_without_a_folder_has_no_texts(tmp_path: Path) -> None:
    assert read_benchmark_texts(tmp_path, "arc_easy") == []


def test_a_broken_benchmark_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/items.jsonl").write_text('{"text": "a"}\noops\n')
    with pytest.raises(FileInvalid, match=r"items\.jsonl:2: expected one JSON object a line"):
        read_benchmark_texts(tmp_path, "bench")
