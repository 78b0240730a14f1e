"""How a person sees a plan: notes first, then the table of memory, then what it costs and what would make it fit."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.plan import GPU_SIZES_GB, MemoryRow, Plan

PARTS = ("weights", "constants", "adapter", "gradients", "optimizer")
MARK = "*"


def print_plan(plan: Plan, console: Console) -> None:
    """Everything beside the stages."""
    for note in plan.unusual:
        console.print(Text(f"note: {note}", style="yellow"))
    for problem in plan.impossible:
        console.print(Text(f"this machine cannot: {problem}", style="red"))
    if plan.unknown is not None:
        console.print(Text(f"memory: not known: {plan.unknown}"))
    else:
        console.print(memory_table(plan))
        console.print(Text(legend(plan), style="dim"))
    for line in costs(plan):
        console.print(Text(line))
    for line in advice(plan):
        console.print(Text(line, style="cyan"))


def memory_table(plan: Plan) -> Table:
    """A row for each method and device; the parameters' own is marked."""
    table = Table(
        title="memory of training, in GB, and the GPUs that it fits, by their GB", box=None, padding=(0, 2, 0, 0)
    )
    table.add_column("method", no_wrap=True)
    for name in (*PARTS, "activations", "checkpointed", "logits", "other", "peak"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in fit_columns(plan):
        table.add_column(name.removesuffix(" GB"), justify="center", no_wrap=True)
    for row in plan.memory:
        style = "bold" if row.is_chosen else ""
        table.add_row(*_cells(row, plan), style=style)
    return table


def fit_columns(plan: Plan) -> list[str]:
    """The places that a row may fit into: GPUs by size, and this machine."""
    return [*(f"{size} GB" for size in GPU_SIZES_GB), "here"] if plan.memory else []


def _cells(row: MemoryRow, plan: Plan) -> Iterator[str]:
    yield f"{row.method} on {row.device}{' ' + MARK if row.is_chosen else ''}"
    for name in PARTS:
        yield gigabytes(row.parts[name])
    yield gigabytes(row.activations)
    yield gigabytes(row.activations_checkpointed)
    yield gigabytes(row.parts["logits"])
    yield gigabytes(row.parts["other"])
    yield gigabytes(row.peak)
    for name in fit_columns(plan):
        yield {True: "yes", False: "no", None: ""}[row.fits.get(name)]


def legend(plan: Plan) -> str:
    """What the figures mean."""
    used = "with" if plan.is_checkpointed else "without"
    return (
        f"{MARK} as the parameters say; the peak is {used} checkpointing, for rows at max_length, every token with "
        "loss; parts do not peak together.\nGPU: computed and not measured, in bfloat16 unless compute.dtype says "
        "otherwise; CPU: in float32, held against measured peaks by benchmarks/plan.py."
    )


def costs(plan: Plan) -> Iterator[str]:
    """Trained weights, steps, time and disk, a line each."""
    if plan.weights is not None and plan.trained_weights is not None:
        share = plan.trained_weights / plan.weights
        yield f"trained: {plan.trained_weights:,} weights beside or of the base's {plan.weights:,} ({share:.2%})"
    examples = "an unknown number of" if plan.examples is None else f"{plan.examples:,}"
    counted = "not known" if plan.steps is None else f"{plan.steps:,}"
    yield f"steps:   {counted}, for {examples} examples ({plan.examples_from})"
    if plan.seconds is not None:
        yield f"time:    about {duration(plan.seconds)} of training here, {plan.seconds_from}"
    if plan.gpu_seconds is not None:
        yield f"         about {duration(plan.gpu_seconds)} on an A100 at 40 % of its bfloat16 peak, which is assumed"
    if plan.disk:
        sizes = ", ".join(f"{stage} {size(written)}" for stage, written in plan.disk.items())
        yield f"disk:    {sizes}; what stages write lies in the DVC cache too"


def advice(plan: Plan) -> Iterator[str]:
    """What would make it fit, a line for each place."""
    for line in plan.advice:
        changes = " and ".join(line.changes) or "nothing"
        if line.fits:
            yield f"to fit {line.place}: {changes}, which takes {gigabytes(line.peak)} GB"
        else:
            yield f"{line.place}: too small, {changes} still takes {gigabytes(line.peak)} GB; take a smaller base model"


def gigabytes(count: int) -> str:
    """Bytes in GB of 10^9, a dash for none."""
    return f"{count / 1e9:.2f}" if count else "-"


def size(count: int) -> str:
    """Bytes with the unit that suits them."""
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """Seconds with the unit that suits them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
