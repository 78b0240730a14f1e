"""The texts that are an item's own: its questions, its target and its choices, without what all items share.

A benchmark's template wraps text around every item (`Question: … Answer:`), lists options, or names a category that
many items have. A training row that shares those shares nothing with the item. So the texts that are looked for are the
fields of the item's document that stand in its prompt; a field whose values repeat (a category) is none, and words that
nearly all items begin or end with are cut off.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from statistics import median
from typing import Literal

from tasks.decontamination import MIN_CONTAINED_WORDS
from tasks.near_duplicates import normalised, words
from tasks.records import BenchmarkItem

MIN_DISTINCT_SHARE = 0.5
"""A field with fewer distinct values than this share of its items is a category."""
LONG_WORDS = 13
SHORT_WORDS = 8
MIN_DISTINCT_SHARE_LONG = 0.02
"""A long text may serve many items: a passage with its questions; but not all of them: an instruction."""
MIN_SHARED_SHARE = 0.9
MIN_ITEMS = 20
"""Among fewer items a shared beginning may be chance."""


@dataclass(frozen=True)
class Rendered:
    """One item as lm-eval renders it: the strings of its document by the path to them, prompt, target and choices."""

    fields: Mapping[str, str]
    prompt: str
    target: str
    choices: tuple[str, ...]


def own_texts(benchmark: str, items: Sequence[Rendered]) -> Iterator[BenchmarkItem]:
    """The own texts of all items of a benchmark, item by item; questions come before target and choices."""
    questions = _questions(items)
    targets = _own_values([item.target for item in items])
    choices = [tuple(choice for choice in item.choices if choice.strip()) for item in items]
    for number in range(len(items)):
        parts: list[tuple[Literal["question", "target", "choice"], Sequence[str]]] = [
            ("question", questions[number]),
            ("target", targets[number : number + 1]),
            ("choice", choices[number]),
        ]
        for part, texts in parts:
            for text in texts:
                if text.strip():
                    yield BenchmarkItem(benchmark=benchmark, item=number, part=part, text=text)


def strings_of(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every string of a document that is no entry of a list, with the path to it: lists hold choices and labels."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from strings_of(inner, f"{path}.{key}" if path else str(key))


def _questions(items: Sequence[Rendered]) -> list[list[str]]:
    """For every item the fields that stand in its prompt, as its template orders them; else the prompt itself.

    A field of a word or two (an option, a name) is a question only where it is most of the prompt.
    """
    found: list[dict[str, str]] = []
    for item in items:
        prompt = _padded(item.prompt)
        held = {path: text for path, text in item.fields.items() if text.strip() and _padded(text) in prompt}
        found.append(dict(sorted(held.items(), key=lambda field: prompt.index(_padded(field[1])))))
    columns: dict[str, list[list[str]]] = {}
    for path in dict.fromkeys(path for held in found for path in held):
        values = _own_values([held.get(path, "") for held in found])
        columns[path] = _without_shared_ends(values)
    whole = [_padded(item.prompt).split() for item in items]
    shared = _words_of_nearly_all(whole)
    prompts = _without_shared_ends([item.prompt for item in items])
    return [
        _most_of([text for path in held for text in columns[path][number]], sum(w not in shared for w in whole[number]))
        or prompts[number]
        for number, held in enumerate(found)
    ]


def _words_of_nearly_all(texts: Sequence[Sequence[str]]) -> frozenset[str]:
    counts = Counter(word for text in texts for word in set(text))
    return frozenset(
        word for word, count in counts.items() if len(texts) > 1 and count >= MIN_SHARED_SHARE * len(texts)
    )


def _most_of(texts: Sequence[str], prompt_words: int) -> list[str]:
    """The long ones of the texts; there is none: all, if they make at least half of a prompt of that many own words."""
    sizes = [len(_padded(text).split()) for text in texts]
    long = [text for text, size in zip(texts, sizes, strict=True) if size >= MIN_CONTAINED_WORDS]
    return long or (list(texts) if 2 * sum(sizes) >= prompt_words else [])


def _padded(text: str) -> str:
    return f" {' '.join(words(normalised(text)))} "


def _own_values(values: Sequence[str]) -> list[str]:
    """The values as they are when they tell items apart; all empty when they are categories or one instruction."""
    given = [value for value in values if value.strip()]
    distinct = len({normalised(value) for value in given})
    is_long = bool(given) and median(len(value.split()) for value in given) >= LONG_WORDS
    needed = MIN_DISTINCT_SHARE_LONG if is_long else MIN_DISTINCT_SHARE
    is_own = distinct >= needed * len(given) and (distinct > 1 or len(values) == 1)
    return list(values) if is_own else [""] * len(values)


def _without_shared_ends(values: Sequence[str]) -> list[list[str]]:
    """For every value the texts to look for: itself without the words that nearly all of them begin or end with.

    A short value is looked for as it is, too: its shared words alone cannot be found for it, and what is left of it
    without them may be too little ("What is 2 plus 2?").
    """
    split = [words(normalised(value)) for value in values]
    given = [parts for parts in split if parts]
    head = _shared_start(given) if len(given) >= MIN_ITEMS else []
    tail = _shared_start([parts[::-1] for parts in given]) if len(given) >= MIN_ITEMS else []
    if not head and not tail:
        return [[value] if parts else [] for value, parts in zip(values, split, strict=True)]
    is_short = max(len(head), len(tail)) < SHORT_WORDS
    found = []
    for value, parts in zip(values, split, strict=True):
        rest = _cut(_cut(parts, head)[::-1], tail)[::-1]
        texts = [value] if is_short and 0 < len(parts) < LONG_WORDS else []
        if rest and rest != parts and (not texts or len(rest) >= MIN_CONTAINED_WORDS):
            texts.append(" ".join(rest))
        found.append(texts or ([value] if rest else []))
    return found


def _shared_start(texts: Sequence[Sequence[str]]) -> list[str]:
    """The longest beginning that `MIN_SHARED_SHARE` of the texts have."""
    found: list[str] = []
    following = list(texts)
    while True:
        counts = Counter(text[len(found)] for text in following if len(text) > len(found))
        word, count = counts.most_common(1)[0] if counts else ("", 0)
        if count < MIN_SHARED_SHARE * len(texts):
            return found
        following = [text for text in following if len(text) > len(found) and text[len(found)] == word]
        found.append(word)


def _cut(parts: list[str], beginning: Sequence[str]) -> list[str]:
    """The words without as much of a shared beginning as they have."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip_longest(parts, beginning[: len(parts)]))
    return parts[sum(1 for _ in same) :]
