"""What the data shows: labels that contradict each other."""

from collections.abc import Iterable, Iterator

from tasks.finding_changes import PreparedWith
from tasks.findings import Changes, Finding
from tasks.records import Conflict
from tasks.verdict_records import LabelNoise

LEAST_SHARE, LEAST_PAIRS = 0.01, 3
"""Fewer rows than this, of those that were compared, are the odd slip that every source has."""


def count_noise(conflicts: Iterable[Conflict], compared: int) -> LabelNoise:
    """The conflicts in numbers.

    Args:
        conflicts: of `dedup`, in their order.
        compared: how many rows `dedup` compared.
    """
    pairs = [(conflict.left, conflict.right) for conflict in conflicts]
    rows = {row for pair in pairs for row in pair}
    return LabelNoise(pairs=len(pairs), rows=len(rows), compared=compared, example=pairs[0] if pairs else None)


def label_findings(noise: LabelNoise | None, prepared: PreparedWith | None) -> Iterator[Finding]:
    """That rows which ask the same have different answers, where it is more than the odd slip."""
    if noise is None or noise.pairs < LEAST_PAIRS or noise.rows < LEAST_SHARE * noise.compared:
        return
    share = noise.rows / noise.compared if noise.compared else 1.0
    stay = prepared is not None and prepared.conflicting_answers == "keep"
    example = "" if noise.example is None else f", such as {' and '.join(noise.example)}"
    changes: list[Changes] = [{"dedup.conflicting_answers": "drop"}] if stay else []
    yield Finding(
        mode="noisy_data",
        evidence={"pairs": noise.pairs, "rows": noise.rows, "compared": noise.compared},
        sentence=f"{noise.pairs:,} pairs of rows ask the same and have different answers{example} ({noise.rows:,} "
        f"rows, {100 * share:.1f} % of those compared)",
        mitigation=f"mend the labels in the sources (`tunegate data why ID` shows a row); {_of_others(stay=stay)}",
        changes=tuple(changes),
    )


def _of_others(*, stay: bool) -> str:
    if stay:
        return "dedup.conflicting_answers drop leaves such rows out of the training"
    return "rows without a twin are likely to be wrong as often, and no rule can see those"
