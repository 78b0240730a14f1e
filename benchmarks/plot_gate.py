"""Draw the gate's power by items: benchmarks/results/gate.json -> docs/images/gate_power.png."""

import json
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.gate import EQUAL_FLIPS, GAIN_FLIPS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/gate.json"
PICTURE = ROOT / "docs/images/gate_power.png"

Rows = list[dict[str, float]]


def draw(power: dict[str, Rows]) -> Figure:
    """The share that is proved: of true gains by their size, of unchanged candidates by the number of items."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    gains, margins = figure.subplots(1, 2)
    for items in dict.fromkeys(row["items"] for row in power["gains"]):
        own = [row for row in power["gains"] if row["items"] == items]
        gains.plot(
            [100 * row["gain"] for row in own], [row["power"] for row in own], "o-", ms=4, label=f"{items} items"
        )
    gains.axhline(0.05, color="0.6", linestyle=":", linewidth=1.2)
    gains.set(xlabel="true gain over the base, points", title=f"a gain is proved ({GAIN_FLIPS:.0%} of items flip)")
    for margin in dict.fromkeys(row["margin"] for row in power["margins"]):
        own = [row for row in power["margins"] if row["margin"] == margin]
        label = f"{100 * margin:g} points"
        margins.plot([row["items"] for row in own], [row["power"] for row in own], "o-", ms=4, label=label)
    title = f"no loss above the margin is proved\nof an unchanged candidate ({EQUAL_FLIPS:.0%} of items flip)"
    margins.set(xlabel="items", title=title)
    for axes in (gains, margins):
        _finish(axes)
    return figure


def _finish(axes: Axes) -> None:
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("share of candidates")
    axes.legend(loc="lower right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw what the benchmark wrote."""
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    draw(json.loads(RESULTS.read_text(encoding="utf-8"))["power"]).savefig(
        PICTURE, dpi=110, metadata={"Software": None}
    )
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
