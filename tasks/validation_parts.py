"""The columns of all examples, row group by row group, on all cores.

What derives them (recognisers, a tokenizer) takes seconds to import: the workers do it, and not this module.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tasks.data_profile import CompletionCounts
from tasks.label_sets import LabelSets
from tasks.params_data import CleanParams, EngineParams, Source
from tasks.records import Example, Partition
from tasks.tables import count_groups, count_rows, read_group
from tasks.validation_table import Columns
from tasks.workers import map_batches, with_progress

if TYPE_CHECKING:
    from tasks.validation_columns import Deriver


IMPORTED = ("tasks.clean_tools", "tasks.validation_columns")


class Part(NamedTuple):
    """One row group of a partition."""

    partition: Partition
    path: Path
    group: int


class Derived(NamedTuple):
    """The columns of a part's examples, and their completions counted."""

    rows: list[Columns]
    completions: CompletionCounts


def derive_all(
    files: dict[Partition, Path], clean: CleanParams, sources: Sequence[Source], tokenizer: Path, engine: EngineParams
) -> Iterator[Derived]:
    """The columns of all examples, part by part, in order.

    Args:
        files: the partitions.
        clean: the rules that are checked again.
        sources: their templates make the sets of labels.
        tokenizer: the folder of the base model's tokenizer.
        engine: where the work is done.
    """
    total = sum(count_rows(path) for path in files.values())
    derived = map_batches(_derive, list_parts(files), engine, _start, (clean, sources, tokenizer), IMPORTED)
    return with_progress(derived, "validate", total, lambda part: len(part.rows))


def list_parts(files: dict[Partition, Path]) -> list[Part]:
    """The row groups of the partitions.

    Raises:
        FileInvalid: a partition is missing, torn, or of another schema.
    """
    return [
        Part(partition, path, group)
        for partition, path in files.items()
        for group in range(count_groups(path, Example))
    ]


_worker: "list[Deriver]" = []


def _start(clean: CleanParams, sources: Sequence[Source], tokenizer: Path) -> None:
    from tasks.clean_tools import build_tools  # noqa: PLC0415  as the module says
    from tasks.validation_columns import Deriver  # noqa: PLC0415

    _worker[:] = [Deriver(build_tools(clean, tokenizer), LabelSets(sources))]


def _derive(part: Part) -> Derived:
    examples = read_group(part.path, part.group, Example)
    completions = CompletionCounts()
    completions.add_examples(examples)
    return Derived(_worker[0].columns(examples, part.partition), completions)
