import io

import pytest
from rich.console import Console

from flows.display import LiveDisplay
from tests.flows.tiny_line import STAGES


@pytest.mark.parametrize("width", [80, 50])
def test_a_narrow_terminal_cuts_what_stages_say_and_never_their_names(width: int) -> None:
    page = io.StringIO()
    shown = LiveDisplay(Console(file=page, width=width, force_terminal=False))
    for stage in STAGES:
        shown.started(stage)
        shown.line(stage, "a long line of a stage " * 20)
        shown.ended(stage, "executed", 1234.0)
    shown.live.console.print(shown._table())
    lines = page.getvalue().splitlines()
    assert [line.split()[:4] for line in lines] == [[stage, "done", "1234", "s"] for stage in STAGES]
    assert all(line.rstrip().endswith("…") for line in lines)
