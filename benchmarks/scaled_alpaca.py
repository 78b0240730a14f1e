"""Alpaca and as many more rows like it as are wanted: real words in another order, so that no two rows are alike.

Alpaca is not part of the project (CC BY-NC 4.0); it is found through `TUNEGATE_REALDATA` or in `../shared/data`.
"""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
REALDATA = Path(os.environ.get("TUNEGATE_REALDATA", ROOT.parent / "shared/data"))
COLUMNS = ("instruction", "input", "output")


def realdata() -> Path:
    """The folder of real data sets.

    Raises:
        SystemExit: it is not there.
    """
    if not (REALDATA / "alpaca/alpaca_data.json").is_file():
        raise SystemExit(f"{REALDATA}: no alpaca/alpaca_data.json; set TUNEGATE_REALDATA")
    return REALDATA


def scaled_alpaca(rows: int, seed: int = 1) -> Iterator[dict[str, str]]:
    """`rows` rows: Alpaca's own in their order, then mixtures.

    A mixture draws two rows and shuffles the words of both, column by column: two mixtures share next to no word
    3-gram, while words, lengths and language are Alpaca's.
    """
    real = json.loads((realdata() / "alpaca/alpaca_data.json").read_text(encoding="utf-8"))
    yield from real[:rows]
    draw = random.Random(seed)  # noqa: S311  a benchmark's data
    for _ in range(rows - len(real)):
        one, other = draw.choice(real), draw.choice(real)
        yield {column: _mixed(one[column], other[column], draw) for column in COLUMNS}


def _mixed(one: str, other: str, draw: random.Random) -> str:
    words = one.split() + other.split()
    draw.shuffle(words)
    return " ".join(words[: max(len(one.split()), (len(words) + 1) // 2)])


def write_scaled(path: Path, rows: int) -> None:
    """Write `scaled_alpaca` as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in scaled_alpaca(rows))
