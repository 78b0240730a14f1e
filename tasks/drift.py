"""How far the data has moved from that of the champion's run: a population stability index for each column.

The index is the sum over all values of (new share - old share) * ln(new share / old share): Siddiqi, "Credit Risk
Scorecards" (2006); it is the symmetric Kullback-Leibler divergence. By custom less than 0.1 is no change to speak of,
and 0.25 or more a shift to look into (Siddiqi; Yurdakul, "Statistical properties of population stability index",
2018). An empty bin would make it infinite: no share counts as less than one in a thousand.
"""

import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from tasks.records import DataProfile

TABLE = "drift"
COLUMNS = ("source", "completion", "tokens")
LEAST_SHARE = 0.001
NO_SHARES = {"too many values to count": 1.0}
"""What stands for a column whose values are too many to be profiled: two such columns are alike, one alone is not."""
TOO_FEW_ROWS = "too few rows to compare"


def compare(new: DataProfile, old: DataProfile) -> dict[str, float]:
    """The population stability index of every profiled column; 0.0 where there are too few rows to compare."""
    left_out = not_compared(new, old)
    return {
        column: stability_index(new.shares.get(column, NO_SHARES), old.shares.get(column, NO_SHARES))
        if column not in left_out
        else 0.0
        for column in COLUMNS
    }


def not_compared(new: DataProfile, old: DataProfile) -> set[str]:
    """The columns that one of the two has too few rows for: what differs there may be chance."""
    return {*new.too_few_rows, *old.too_few_rows}


def stability_index(new: Mapping[str, float], old: Mapping[str, float]) -> float:
    """The population stability index of two sets of shares; 0.0 when they are the same, and the same both ways."""
    found = 0.0
    for value in sorted({*new, *old}):
        ours, theirs = (max(shares.get(value, 0.0), LEAST_SHARE) for shares in (new, old))
        found += (ours - theirs) * math.log(ours / theirs)
    return round(found, 6)


def moved_most(new: DataProfile, old: DataProfile, column: str, count: int = 5) -> tuple[str, ...]:
    """The values of a column whose shares differ most, with both shares."""
    ours, theirs = new.shares.get(column, NO_SHARES), old.shares.get(column, NO_SHARES)
    moved = sorted({*ours, *theirs}, key=lambda value: (-abs(ours.get(value, 0.0) - theirs.get(value, 0.0)), value))
    return tuple(
        f"{value}: {theirs.get(value, 0.0):.1%} of the champion's rows, {ours.get(value, 0.0):.1%} of these"
        for value in moved[:count]
    )


def write_table(path: Path, indices: Mapping[str, float]) -> None:
    """A table of one row with the index of every column, for the drift suite."""
    with closing(sqlite3.connect(path)) as connection:
        columns = ", ".join(f"{column} REAL" for column in COLUMNS)
        connection.execute(f"CREATE TABLE {TABLE} ({columns}) STRICT")
        marks = ", ".join("?" * len(COLUMNS))
        values = [indices.get(column) for column in COLUMNS]
        connection.execute(f"INSERT INTO {TABLE} VALUES ({marks})", values)  # noqa: S608  names of ours
        connection.commit()
