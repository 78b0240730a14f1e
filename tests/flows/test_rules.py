import re

import pytest

from flows.rules import MEANINGS, meaning
from tests.flows.tiny_line import ROOT

CODE = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tasks").glob("*.py"))


@pytest.mark.parametrize("rule", MEANINGS)
def test_a_rule_with_a_meaning_is_a_rule_of_a_stage(rule: str) -> None:
    assert f'"{rule}"' in CODE


def test_the_guide_has_every_rule_of_ingest_in_its_table() -> None:
    guide = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    table = guide.split("| rule | what was found |", 1)[1].split("\n\n", 1)[0]
    told = [rule for line in table.splitlines()[2:] for rule in re.findall(r"`(\w+)`", line.split("|")[1])]
    in_code = re.findall(r'Broken(?:Row)?\(\s*"(\w+)"', CODE)
    assert sorted(told) == sorted({*in_code, "bad_tools"})  # handed on as an argument
    assert all(map(meaning, told))


def test_a_rule_that_is_not_listed_has_its_name_alone() -> None:
    assert meaning("made_up") == ""
