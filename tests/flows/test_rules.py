import pytest

from flows.rules import MEANINGS, meaning
from tests.flows.tiny_line import ROOT

CODE = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tasks").glob("*.py"))


@pytest.mark.parametrize("rule", MEANINGS)
def test_a_rule_with_a_meaning_is_a_rule_of_a_stage(rule: str) -> None:
    assert f'"{rule}"' in CODE


def test_a_rule_that_is_not_listed_has_its_name_alone() -> None:
    assert meaning("made_up") == ""
