"""Which rows are duplicates of which, and which of them stays, on row numbers; the order of rows does not matter.

Rows with the same key are a group: its exact duplicates go first. Near duplicates are looked for among the groups, and
verified by exact Jaccard similarity. Of a cluster a row of a test split stays, else the one with the longest prompt,
among those the one with the smallest id. Rows that ask alike in another context (a system turn, tools, earlier turns)
and are answered otherwise are other tasks: they share the cluster, and each task keeps its best row. Rows of a test
split are never dropped, and rows that the base model has seen take no part.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.dedup_keys import Integers, Keys
from tasks.lsh import candidate_pairs, has_crowded_bucket, signatures
from tasks.near_duplicates import Clusters, Similarities, grouped
from tasks.params_data import DedupParams, EngineParams, SemanticParams
from tasks.semantic import semantic_pairs
from tasks.verification import Floats, jaccards

ROWS_OF_A_TABLE = 1 << 14
TABLES_AT_ONCE = {"native": 2, "ray": 64}
"""A table is what one worker takes at a time; its signatures are some 8 MB, which a cluster has room for."""
PAIRS_AT_ONCE = 4096

Link = tuple[int, int, float]
"""Two rows, the one with the smaller id first, and their similarity."""


@dataclass
class Duplicates:
    """What was found, by row number.

    `fates` has the rule and the value of every dropped row; `cluster` is for every row the row with the smallest id of
    its cluster; `pairs` are verified near duplicates, `conflicts` rows that ask the same and are answered otherwise.
    """

    cluster: Integers
    fates: dict[int, tuple[str, str]] = field(default_factory=dict)
    pairs: list[Link] = field(default_factory=list)
    conflicts: list[Link] = field(default_factory=list)


@dataclass(frozen=True)
class Groups:
    """Rows by key; groups are in the order of their smallest id.

    `rows` are the compared rows group by group, in each the one that would stay first; group g has
    `rows[starts[g] : starts[g + 1]]`. `first` is the row of every group with the smallest id.
    """

    rows: Integers
    starts: Integers
    first: Integers

    def members(self, group: int) -> list[int]:
        """The rows of a group, the one that would stay first."""
        members: list[int] = self.rows[self.starts[group] : self.starts[group + 1]].tolist()
        return members


class _Search:
    """One search for duplicates: what its steps share."""

    def __init__(self, keys: Keys, params: DedupParams) -> None:
        self.keys = keys
        self.params = params
        self.is_test = pc.equal(keys.table["role"], "test").to_numpy()
        self.labels = _codes(keys.label)
        self.groups = group_by_key(keys, self.is_test)
        self.clusters = Clusters(len(self.groups.first))
        self.found = Duplicates(np.arange(len(keys)))

    def id_of(self, row: int) -> str:
        """The id of a row."""
        name: str = self.keys.table["id"][row].as_py()
        return name

    def best(self, group: int) -> int:
        """The row of a group that would stay."""
        return self.left(group)[0]

    def left(self, group: int) -> list[int]:
        """The rows of a group that were not dropped, the best first."""
        return [row for row in self.groups.members(group) if row not in self.found.fates]

    def tasks(self, row: int) -> tuple[tuple[str, int], tuple[str, int]]:
        """What a row asks for besides its key: two rows that have one of these in common ask for the same."""
        return ("context", int(self.keys.context[row])), ("completion", int(self.keys.completion[row]))

    def texts(self, group: int) -> tuple[str, ...]:
        """What a group is compared by."""
        return self.keys.texts(int(self.groups.first[group]))


def find_duplicates(keys: Keys, params: DedupParams, engine: EngineParams) -> Duplicates:
    """The duplicates among rows; the same rows in another order, or on another engine, give the same."""
    search = _Search(keys, params)
    groups = _drop_exact(search)
    links = list(_near_links(search, groups, engine))
    first = search.groups.first
    search.found.pairs = [(int(first[left]), int(first[right]), value) for left, right, value in sorted(links)]
    search.found.conflicts += _near_conflicts(search, links)
    _drop_near(search, groups, links)
    if params.semantic is not None:
        _drop_semantic(search, groups, params.semantic)
    roots = np.array(search.clusters.roots(), np.int64)
    sizes = np.diff(search.groups.starts)
    search.found.cluster[search.groups.rows] = np.repeat(search.groups.first[roots], sizes)
    search.found.conflicts.sort(key=lambda link: (keys.rank[link[0]], keys.rank[link[1]]))
    return search.found


def group_by_key(keys: Keys, is_test: Any) -> Groups:
    """The rows that are compared, by their whole key."""
    codes = _codes(keys.key)
    compared = np.flatnonzero(codes >= 0)
    smallest = np.full(int(codes.max(initial=-1)) + 1, len(keys), np.int64)
    np.minimum.at(smallest, codes[compared], keys.rank[compared])
    place = np.empty_like(smallest)
    place[np.argsort(smallest)] = np.arange(len(smallest))
    group = place[codes[compared]]
    order = np.lexsort((keys.rank[compared], -keys.prompt_chars[compared], ~is_test[compared], group))
    starts = np.searchsorted(group[order], np.arange(len(smallest) + 1))
    return Groups(compared[order], starts, np.argsort(keys.rank)[np.sort(smallest)])


def _codes(column: Any) -> Integers:
    """A number for every different text of a column, -1 for none."""
    indices = column.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.asarray(indices, np.int64)


def _drop_exact(search: _Search) -> Integers:
    """Drop exact duplicates and, if asked, prompts with conflicting answers; the groups that are left.

    Rows that ask the same in another context (a system turn, tools, earlier answers) are another task, unless they are
    answered alike.
    """
    is_left = np.ones(len(search.groups.first), bool)
    for group in np.flatnonzero(np.diff(search.groups.starts) > 1).tolist():
        members = search.groups.members(group)
        is_test = bool(search.is_test[members[0]])
        if is_test:
            _drop(search, members[1:], "duplicate_of_test", search.id_of(members[0]))
        for rows in grouped(members, lambda row: search.keys.context[row]):
            variants = grouped((row for row in rows if search.labels[row] >= 0), lambda row: search.labels[row])
            search.found.conflicts += _exact_conflicts(search, variants)
            if len(variants) > 1 and search.params.conflicting_answers == "drop" and not is_test:
                _drop(search, rows, "conflicting_answers", f"{len(rows)} rows")
                continue
            for same in grouped(rows, lambda row: search.labels[row]) if len(variants) > 1 else [rows]:
                _drop(search, same[1:], "exact_duplicate", search.id_of(same[0]))
        left = search.left(group)
        for same in grouped(left, lambda row: search.keys.completion[row]):
            _drop(search, same[1:], "exact_duplicate", search.id_of(same[0]))
        is_left[group] = bool(left)
    return np.flatnonzero(is_left)


def _drop(search: _Search, rows: Iterable[int], rule: str, value: str) -> None:
    """Give the rows a fate that have none yet; a row of a test split is never dropped."""
    for row in rows:
        if not search.is_test[row]:
            search.found.fates.setdefault(row, (rule, value))


def _exact_conflicts(search: _Search, different: list[list[int]]) -> Iterator[Link]:
    """The rows with the smallest ids of every answer to one prompt, each with that of the first answer."""
    rank = search.keys.rank.__getitem__
    firsts = sorted((min(rows, key=rank) for rows in different), key=rank)
    return ((firsts[0], other, 1.0) for other in firsts[1:])


def _near_links(search: _Search, groups: Integers, engine: EngineParams) -> Iterator[Link]:
    """Verified pairs of groups, looked for among those that stay until there are no more: a second run finds none."""
    params = search.params
    portions = _portions(search, groups, TABLES_AT_ONCE[engine.runner])
    signed = signatures(portions, len(groups), params, engine)
    while True:
        clusters = Clusters(len(groups))
        has_found = False
        candidates = candidate_pairs(signed, params.min_jaccard)
        for start in range(0, len(candidates), PAIRS_AT_ONCE):
            some = candidates[start : start + PAIRS_AT_ONCE]
            values = _similarities(search, groups[some])
            for (left, right), value in zip(some.tolist(), values.tolist(), strict=True):
                if value >= params.min_jaccard:
                    yield int(groups[left]), int(groups[right]), value
                    clusters.link(left, right)
                    has_found = True
        if not has_found or not has_crowded_bucket(signed):
            return
        order = _by_merit(search, groups)
        _, chosen = np.unique(np.array(clusters.roots())[order], return_index=True)
        staying = np.sort(order[chosen])
        groups, signed = groups[staying], signed.of(staying)


def _similarities(search: _Search, pairs: Integers) -> Floats:
    """The similarity of pairs of groups: the lesser of that without and that with the text that rows share."""
    groups, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(-1, 2)
    rows = pa.array(search.groups.first[groups])
    whole, stripped = search.keys.key.take(rows), search.keys.stripped.take(rows)
    found = jaccards(pc.coalesce(stripped, whole), places, search.params.ngram_words)
    if stripped.null_count < len(stripped):
        found = np.minimum(found, jaccards(whole, places, search.params.ngram_words))
    return found


def _by_merit(search: _Search, groups: Integers) -> Integers:
    """The places of groups, those first whose row would stay in a cluster."""
    rows = search.groups.rows[search.groups.starts[groups]]
    return np.lexsort((search.keys.rank[rows], -search.keys.prompt_chars[rows], ~search.is_test[rows]))


def _portions(search: _Search, groups: Integers, tables_at_once: int) -> Iterator[list[Any]]:
    """The texts of groups in tables, a few at a time."""
    tables = []
    for start in range(0, len(groups), ROWS_OF_A_TABLE):
        some = groups[start : start + ROWS_OF_A_TABLE]
        rows = pa.array(search.groups.first[some])
        texts = pc.coalesce(search.keys.stripped.take(rows), search.keys.key.take(rows))
        tables.append(pa.table({"row": pa.array(np.arange(start, start + len(some))), "text": texts}))
        if len(tables) == tables_at_once:
            yield tables
            tables = []
    if tables:
        yield tables


def _near_conflicts(search: _Search, links: Iterable[Link]) -> Iterator[Link]:
    """Near duplicates with different short answers."""
    for left, right, value in links:
        one, other = search.best(left), search.best(right)
        labels = search.labels[one], search.labels[other]
        if min(labels) >= 0 and labels[0] != labels[1] and search.keys.context[one] == search.keys.context[other]:
            first, second = sorted((one, other), key=search.keys.rank.__getitem__)
            yield first, second, value


def _drop_near(search: _Search, groups: Integers, links: list[Link]) -> None:
    """Drop near duplicates, each with its similarity to the row that stays."""
    known = {(left, right): value for left, right, value in links}
    similarity = Similarities(search.texts, search.params.ngram_words)

    def told(group: int, kept: int) -> str:
        value = known.get((min(group, kept), max(group, kept))) or similarity(group, kept)
        return f"similarity {value:.3f}"

    _drop_all_but_best(search, groups, links, "near_duplicate", told)


def _drop_semantic(search: _Search, groups: Integers, params: SemanticParams) -> None:
    """Drop what means the same as another row, among those that are left."""
    left = np.array([group for group in groups.tolist() if not _is_dropped(search, group)], np.int64)
    texts = [search.texts(group)[0] for group in left.tolist()]
    links = [(int(left[one]), int(left[other]), value) for one, other, value in semantic_pairs(texts, params)]
    known = {(one, other): value for one, other, value in links}

    def told(group: int, kept: int) -> str:
        value = known.get((min(group, kept), max(group, kept)))
        return "over others of its cluster" if value is None else f"cosine {value:.3f}"

    _drop_all_but_best(search, left, links, "semantic_duplicate", told)


def _is_dropped(search: _Search, group: int) -> bool:
    return all(row in search.found.fates for row in search.groups.members(group))


def _drop_all_but_best(search: _Search, groups: Integers, links: list[Link], rule: str, told: Any) -> None:
    """Join linked groups; of every cluster of them the best row of each task stays; what is dropped for it names it."""
    for left, right, _ in links:
        search.clusters.link(left, right)
    linked = {group for link in links for group in link[:2]}
    merit = groups[_by_merit(search, groups)].tolist()
    for cluster in grouped((group for group in merit if group in linked), search.clusters.root):
        best = search.best(cluster[0])
        of_test = (best, cluster[0]) if search.is_test[best] else None
        own_rule = "duplicate_of_test" if of_test else rule
        kept: dict[tuple[str, int], tuple[int, int]] = {}
        for group in cluster:
            for row in search.left(group):
                better = of_test or next((kept[task] for task in search.tasks(row) if task in kept), None)
                if group == cluster[0] or better is None:
                    for task in search.tasks(row):
                        kept.setdefault(task, (row, group))
                else:
                    _drop(search, [row], own_rule, f"{search.id_of(better[0])} {told(group, better[1])}")
