"""Draw the cost of the data stages by rows: benchmarks/results/ingest.json -> docs/images/ingest.png."""

import json
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.ingest import STAGES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/ingest.json"
PICTURE = ROOT / "docs/images/ingest.png"


def draw(costs: list[dict[str, float | str]]) -> Figure:
    """Wall seconds by stage, stacked, and the peak memory of the largest stage."""
    sizes = sorted({float(cost["rows"]) for cost in costs})
    of = {(cost["rows"], cost["stage"]): cost for cost in costs}
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    time, memory = figure.subplots(1, 2)
    time.stackplot(
        sizes, *([float(of[size, stage]["wall_seconds"]) for size in sizes] for stage in STAGES), labels=STAGES
    )
    time.plot(sizes, [sum(float(of[size, stage]["wall_seconds"]) for stage in STAGES) for size in sizes], "k.", ms=5)
    time.set(xlabel="rows", ylabel="seconds", title="ingest to validated splits", xlim=(0, None), ylim=(0, None))
    time.legend(loc="upper left", fontsize=8, reverse=True)
    memory.plot(sizes, [max(float(of[size, stage]["peak_mb"]) for stage in STAGES) / 1000 for size in sizes], "o-")
    memory.set(xlabel="rows", ylabel="GB", title="peak memory, largest stage with its workers", xlim=(0, None))
    memory.set_ylim(0, 4)
    for axes in (time, memory):
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}k")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Draw what the benchmark wrote."""
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    costs = json.loads(RESULTS.read_text(encoding="utf-8"))["stages"]
    draw(costs).savefig(PICTURE, dpi=110, metadata={"Software": None})
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
