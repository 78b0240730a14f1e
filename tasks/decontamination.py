"""Decontamination: which rows share text with a benchmark's items, so that the gate never measures what was trained."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import FileInvalid
from tasks.near_duplicates import normalised, words
from tasks.records import Example

TEXT_KEYS = ("text", "question", "prompt")
MIN_CONTAINED_WORDS = 4
"""A shorter item ("Yes.") lies in too many texts by chance: it has to be the whole text."""


@dataclass(frozen=True)
class BenchmarkText:
    """A text of a benchmark's item; `place` is `benchmark:item`, the item counted from 0 as lm-eval counts."""

    place: str
    text: str


class Contamination:
    """An index over benchmark texts: n-grams of `ngram_words` words, and shorter items whole."""

    def __init__(self, texts: Sequence[BenchmarkText], ngram_words: int) -> None:
        self._places: dict[tuple[str, ...], str] = {}
        self._wholes: dict[tuple[str, ...], str] = {}
        self._ngram_words = ngram_words
        for item in texts:
            parts = tuple(words(normalised(item.text)))
            if 0 < len(parts) < MIN_CONTAINED_WORDS:
                self._wholes.setdefault(parts, item.place)
            for gram in _grams(parts, min(ngram_words, len(parts))) if len(parts) >= MIN_CONTAINED_WORDS else ():
                self._places.setdefault(gram, item.place)
        self._sizes = tuple(sorted({len(gram) for gram in self._places}, reverse=True))

    def place_of(self, example: Example) -> str | None:
        """The first benchmark item that a turn of `example` shares text with, or None; system turns do not count."""
        for message in example.messages:
            if message.role != "system" and (place := self._place(message.content)):
                return place
        return None

    def _place(self, text: str) -> str | None:
        parts = tuple(words(normalised(text)))
        if parts in self._wholes:
            return self._wholes[parts]
        return next((self._places[g] for size in self._sizes for g in _grams(parts, size) if g in self._places), None)


def read_benchmark_texts(folder: Path, benchmark: str) -> list[BenchmarkText]:
    """Every text under `text`, `question` or `prompt` in the items of `folder/benchmark/*.jsonl`, if there are any.

    Raises:
        FileInvalid: a line is not a JSON object.
    """
    texts: list[BenchmarkText] = []
    item = 0
    for path in sorted((folder / benchmark).glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            texts += [BenchmarkText(f"{benchmark}:{item}", text) for text in _texts(_parse(line, path, number))]
            item += 1
    return texts


def _parse(line: str, path: Path, number: int) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise FileInvalid(
            f"{path}:{number}: expected one JSON object a line: {error.msg}; mend the benchmark"
        ) from None


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in TEXT_KEYS and isinstance(inner, str):
                yield inner
            else:
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _grams(parts: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    return (parts[start : start + size] for start in range(len(parts) - size + 1))
