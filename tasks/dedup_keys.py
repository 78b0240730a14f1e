"""What rows are compared by: the words of their user turns, without text that the rows of a source share.

Instruction data repeats itself: an option list or "Below is an instruction" in every user turn makes all rows near
duplicates of each other. An n-gram that a good part of a source's rows have belongs to such a template, and its words
are left out of a row's key. Since two tasks may ask about the same text, a pair has to be alike with those words too.
"""

import itertools
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.near_duplicates import normalised, spaced, windows
from tasks.params_data import DedupParams, EngineParams
from tasks.records import Example
from tasks.tables import count_groups, read_group_table, read_table
from tasks.workers import map_batches, with_progress

SAMPLE_ROWS = 1024
"""Rows of a source, the same ones in any order, in which shared n-grams are looked for."""
MIN_SHARED_ROWS = 50
"""Fewer rows than this share no template, whatever their share is: they may be a cluster of near duplicates."""
POOL_GROUPS = 32
"""Fewer row groups than this are done here before a pool of processes has started."""
LABEL_WORDS = 8
LABEL_CHARS = 100
"""An answer of one line within these bounds can be wrong where another row has another; prose just differs."""

ROW_COLUMNS = ["id", "source", "role", "file", "line"]
KEY_COLUMNS = ["role", "messages", "tools"]
KEY_SCHEMA = pa.schema(
    [
        ("key", pa.large_string()),
        ("prompt_chars", pa.int64()),
        ("label", pa.large_string()),
        ("answer", pa.large_string()),
        ("context", pa.int64()),
        ("completion", pa.int64()),
    ]
)
Integers = npt.NDArray[np.int64]
Shared = Mapping[tuple[str, ...], int]
"""How many rows of the sample have an n-gram that many rows have."""


@dataclass(frozen=True)
class Keys:
    """All rows of a table in input order, as columns.

    `table` has id, source, role, file and line. `key` is null for a row that is compared with none; `stripped` is the
    key without its template, or null where that is the same; `label` is a short answer, normalised, and `answer` the
    same as it is; `context` stands for all that an answer depends on besides the user turns, `completion` for the
    answer, both as hashes. `rank` is a row's place when rows are sorted by id.
    """

    table: Any
    key: Any
    stripped: Any
    prompt_chars: Integers
    label: Any
    answer: Any
    context: Integers
    completion: Integers
    rank: Integers

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.rank)

    def ids(self, rows: list[int]) -> list[str]:
        """The ids of rows."""
        found: list[str] = self.table["id"].take(pa.array(rows, pa.int64())).to_pylist()
        return found

    def texts(self, row: int) -> tuple[str, ...]:
        """What a row is compared by: its key without the template, and with it where there is one."""
        key, stripped = self.key[row].as_py(), self.stripped[row].as_py()
        return (key,) if stripped is None else (stripped, key)


def read_keys(path: Path, params: DedupParams, engine: EngineParams) -> tuple[Keys, dict[str, Shared]]:
    """The keys of a table of examples, and by source the n-grams that its rows share.

    Raises:
        FileInvalid: the table is missing, torn, or of another schema.
    """
    groups = count_groups(path, Example)
    table = read_table(path, Example, ROW_COLUMNS)
    here = engine.model_copy(update={"runner": "native", "workers": 1})
    pool = here if groups < POOL_GROUPS else engine
    batches = map_batches(partial(_keys_of_group, path.absolute()), range(groups), pool)
    found = pa.Table.from_batches(
        with_progress(batches, "dedup", table.num_rows, lambda batch: int(batch.num_rows)), KEY_SCHEMA
    )
    rank = np.empty(table.num_rows, np.int64)
    rank[pc.sort_indices(table["id"]).to_numpy()] = np.arange(table.num_rows)
    key = found["key"].combine_chunks()
    shared = shared_ngrams(table, key, params)
    keys = Keys(
        table,
        key,
        stripped_keys(table, key, shared, params.shared_ngram_words),
        found["prompt_chars"].to_numpy(),
        found["label"].combine_chunks(),
        found["answer"].combine_chunks(),
        found["context"].to_numpy(),
        found["completion"].to_numpy(),
        rank,
    )
    return keys, shared


def shared_ngrams(table: Any, key: Any, params: DedupParams) -> dict[str, Shared]:
    """For every source that has any, the n-grams that at least `max_shared_share` of its different keys have."""
    found: dict[str, Shared] = {}
    rows = pa.array(_sample(table))
    sampled: dict[str, set[str]] = {}
    for source, text in zip(table["source"].take(rows).to_pylist(), key.take(rows).to_pylist(), strict=True):
        sampled.setdefault(source, set()).add(text)
    for source, prompts in sorted(sampled.items()):
        least = max(MIN_SHARED_ROWS, params.max_shared_share * len(prompts))
        if len(prompts) < least:
            continue
        counts: Counter[tuple[str, ...]] = Counter()
        for prompt in prompts:
            counts.update(set(windows(prompt.split(), params.shared_ngram_words)))
        if shared := {gram: count for gram, count in counts.items() if count >= least}:
            found[source] = shared
    return found


def stripped_keys(table: Any, key: Any, shared: Mapping[str, Shared], size: int) -> Any:
    """The keys without their template, null where that is the same: all of them where no source has a template."""
    if not shared:
        return pa.nulls(len(key), key.type)
    stripped: list[str | None] = []
    for text, source in zip(key, table["source"].to_pylist(), strict=True):
        grams = shared.get(source)
        whole = text.as_py() if grams else None
        left = without_shared(whole, grams, size) if whole and grams else whole
        stripped.append(None if left == whole else left)
    return pa.array(stripped, key.type)


def _sample(table: Any) -> Integers:
    """Up to `SAMPLE_ROWS` rows of every source, those with the smallest hashes of their ids, in input order."""
    hashes = np.fromiter((zlib.crc32(name.encode()) for name in table["id"].to_pylist()), np.int64, table.num_rows)
    compared = pc.not_equal(table["role"], "seen_by_base").to_numpy()
    sources = table["source"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    chosen = [np.zeros(0, np.int64)]
    for source in range(int(sources.max(initial=-1)) + 1):
        rows = np.flatnonzero((sources == source) & compared)
        chosen.append(rows[np.argsort(hashes[rows], kind="stable")[:SAMPLE_ROWS]])
    return np.sort(np.concatenate(chosen))


def without_shared(text: str, shared: Shared, size: int) -> str:
    """The words of `text` that lie in no template; the whole text when none do.

    Of n-grams in a row that rows share, those count that at least half as many rows have as the commonest of them: so
    a template ends where it ends, and does not take a common opening of the messages behind it along.
    """
    parts = text.split()
    counts = [shared.get(gram, 0) for gram in windows(parts, size)]
    is_left = [True] * len(parts)
    for is_shared, run in itertools.groupby(enumerate(counts), lambda place: place[1] > 0):
        places = list(run) if is_shared else []
        commonest = max((count for _, count in places), default=0)
        for start, count in places:
            if 2 * count >= commonest:
                is_left[start : start + size] = [False] * size
    return " ".join(itertools.compress(parts, is_left)) or text


class _Turns(NamedTuple):
    """What is read of one conversation."""

    prompt: str
    completion: str
    context: str


def _turns(table: Any) -> Iterator[_Turns]:
    """Read conversations column by column: a record for every turn would take longer than all the rest."""
    column = table["messages"].combine_chunks()
    offsets = (column.offsets.to_numpy() - column.offsets[0].as_py()).tolist() if len(column) else [0]
    roles, contents, calls = (  # by way of numpy, which makes strings five times as fast as to_pylist
        pc.struct_field(column.flatten(), name).to_numpy(zero_copy_only=False).tolist()
        for name in ("role", "content", "tool_calls")
    )
    for start, end, tools in zip(offsets, offsets[1:], table["tools"].to_pylist(), strict=False):
        if end - start == 2 and not (calls[start + 1] or tools) and roles[start] == "user":  # most rows, in short
            yield _Turns(contents[start], contents[start + 1], "")
            continue
        users = [contents[turn] for turn in range(start, end) if roles[turn] == "user"]
        others = [contents[turn] for turn in range(start, end - 1) if roles[turn] != "user"]
        last = "\n".join(part for part in (contents[end - 1], calls[end - 1]) if part)
        yield _Turns("\n".join(users) or "\n".join(others), last, "\n".join([*others, tools or ""]))


def _keys_of_group(path: Path, group: int) -> Any:
    table = read_group_table(path, group, KEY_COLUMNS)
    found = [_keys_of_row(turns, role) for turns, role in zip(_turns(table), table["role"].to_pylist(), strict=True)]
    arrays = [pa.array([row[place] for row in found], field.type) for place, field in enumerate(KEY_SCHEMA)]
    return pa.record_batch(arrays, schema=KEY_SCHEMA)


def _keys_of_row(turns: _Turns, role: str) -> tuple[Any, ...]:
    """The values of KEY_SCHEMA."""
    if role == "seen_by_base":
        return None, 0, None, None, 0, 0
    context, completion = (
        zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in (turns.context, turns.completion.strip())
    )
    label = label_of(turns.completion)
    answer = None if label is None else turns.completion
    return spaced(turns.prompt), len(turns.prompt), label, answer, context, completion


def label_of(completion: str) -> str | None:
    """A completion that is as short as a label, normalised; None for prose."""
    line = completion.strip()
    if len(line) > LABEL_CHARS or "\n" in line or line.count(" ") >= LABEL_WORDS:
        return None
    label = normalised(line)
    return label if len(label.split()) <= LABEL_WORDS else None
