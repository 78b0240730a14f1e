import pytest

from tasks.gate_margins import items_for_margin, undecidable_margins
from tasks.params import load_params
from tests.contract.imports import ROOT
from tests.unit.evaluations import gate, rule


def test_a_narrow_margin_needs_more_items() -> None:
    assert [items_for_margin(margin, 0.05) for margin in (0.03, 0.05, 0.1)] == [301, 109, 28]


@pytest.mark.parametrize(("items", "warns"), [(108, True), (109, False)])
def test_a_margin_is_warned_of_where_an_unchanged_model_would_hardly_pass(items: int, warns: bool) -> None:
    found = list(undecidable_margins(gate(rule(max_loss_from_base=0.05)), {"routing": items}))
    assert len(found) == warns
    if warns:
        assert found[0].startswith("gate.rules routing exact_match: max_loss_from_base 0.05 can hardly be decided by")
        assert found[0].endswith("take 109 items or a wider margin")


def test_a_margin_of_nothing_asks_for_a_gain() -> None:
    (found,) = undecidable_margins(gate(rule(max_loss_from_champion=0.0)), {"routing": 9999})
    assert "max_loss_from_champion 0 passes only what is proved better" in found


def test_a_margin_counts_by_the_range_of_the_metric() -> None:
    asked = gate(rule(range=[0.0, 100.0], max_loss_from_base=5.0))
    assert list(undecidable_margins(asked, {"routing": 109})) == []
    assert len(list(undecidable_margins(asked, {"routing": 108}))) == 1


def test_the_margins_of_the_default_can_be_decided_by_its_items() -> None:
    default = load_params(ROOT / "params.yaml").gate
    assert list(undecidable_margins(default, {"ticket_routing": 224, "general_knowledge": 180})) == []
    assert list(undecidable_margins(default, {})) == []
