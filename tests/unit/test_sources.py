import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from data.sources import dirt, generate
from tasks.params import load_params
from tasks.params_data import TemplateLayout

ROOT = Path(__file__).resolve().parents[2]
EXPORT = ROOT / "data/sources/support_tickets.jsonl"
CARD = ROOT / "data/sources/README.md"
PERSONAL = re.compile(r"@example\.(com|org|net)|\d{3}[ -]\d{4}|\d{6}|\d{4}[ -]\d{4}|IBAN")


def parsed(path: Path) -> list[dict[str, Any]]:
    """The rows that parse into an object with text and both labels as strings; the others are the broken ones."""
    rows = []
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and all(isinstance(row.get(key), str) for key in ("text", "queue", "priority")):
            rows.append(row)
    return rows


def has_known_labels(row: dict[str, Any]) -> bool:
    return row["queue"] in dirt.QUEUES and row["priority"] in dirt.PRIORITIES


def grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2))}


def nearest(text: str, others: Iterable[set[tuple[str, ...]]]) -> float:
    own = grams(text)
    return max(len(own & other) / len(own | other) for other in others)


def test_the_shipped_files_are_what_the_generator_makes() -> None:
    assert generate.stale(generate.build()) == []


def test_a_check_names_the_file_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main(["--check"]) == 1
    assert "data/sources/support_tickets.jsonl: not what parts/ make" in capsys.readouterr().err


def test_the_export_has_at_least_1200_rows_of_8_queues_and_4_priorities() -> None:
    rows = [row for row in parsed(EXPORT) if has_known_labels(row)]
    assert len(EXPORT.read_bytes().splitlines()) == 1305
    assert len({row["queue"] for row in rows}) == 8
    assert len({row["priority"] for row in rows}) == 4


def test_broken_rows_and_unknown_labels_stay_below_what_ingest_allows() -> None:
    usable = sum(has_known_labels(row) for row in parsed(EXPORT))
    assert 1305 - usable == 17
    assert (1305 - usable) / 1305 < load_params(ROOT / "params.yaml").ingest.max_broken_share


def test_every_ticket_number_is_given_once() -> None:
    numbers = [row["ticket"] for row in parsed(EXPORT)]
    assert len(set(numbers)) == len(numbers)


def test_the_dirt_is_there_in_the_stated_amounts() -> None:
    texts = [row["text"] for row in parsed(EXPORT)]
    copies = sum(count - 1 for text, count in Counter(texts).items() if text.strip())
    assert sum(not text.strip() for text in texts) == dirt.DIRT["empty text"]
    assert sum(text.endswith("[...]") for text in texts) == dirt.DIRT["truncated text"]
    assert sum("<|" in text for text in texts) == dirt.DIRT["chat template token"]
    assert sum(bool(re.search("[âÃ]", text)) for text in texts) == dirt.DIRT["mojibake"]
    assert copies == dirt.DIRT["exact duplicate"] + dirt.DIRT["contradicting label"] + 1  # one broken row parses


def test_near_duplicates_are_near() -> None:
    tickets = generate.read_tickets("tickets_*.jsonl")
    soiled = dirt.soil(tickets)
    known = {ticket.text for ticket in tickets}
    start = len(tickets) + dirt.DIRT["exact duplicate"]
    near = soiled[start : start + dirt.DIRT["near duplicate"]]
    originals = [grams(text) for text in known]
    assert all(ticket.text not in known for ticket in near)
    assert min(nearest(ticket.text, originals) for ticket in near) >= 0.7


def test_mojibake_is_utf8_read_as_cp1252() -> None:
    damaged = [row["text"] for row in parsed(EXPORT) if re.search("[âÃ]", row["text"])]
    assert all(text.encode("cp1252").decode() != text for text in damaged)


def test_personal_data_is_invented_by_the_rules_of_test_data() -> None:
    addresses = re.findall(r"[\w.+-]+@([\w.]+\w)", EXPORT.read_text(encoding="utf-8", errors="replace"))
    assert len(addresses) >= 10
    assert set(addresses) == {"example.com", "example.org", "example.net"}


def test_no_label_of_the_mislabelled_source_is_right() -> None:
    truth = {ticket.text: ticket for ticket in generate.read_tickets("tickets_*.jsonl")}
    rows = parsed(ROOT / "data/sources/mislabelled_tickets.jsonl")
    assert len(rows) == 1112
    assert all(has_known_labels(row) for row in rows)
    assert not [row for row in rows if row["queue"] == truth[row["text"]].queue]
    assert not [row for row in rows if row["priority"] == truth[row["text"]].priority]


def test_held_out_tickets_are_200_or_more_and_balanced() -> None:
    rows = parsed(ROOT / "tasks/evals/ticket_routing/items.jsonl")
    assert len(rows) == 224
    assert Counter(row["queue"] for row in rows) == dict.fromkeys(dirt.QUEUES, 28)


def test_no_held_out_ticket_is_near_a_training_ticket() -> None:
    training = [grams(ticket.text) for ticket in generate.read_tickets("tickets_*.jsonl")]
    held_out = parsed(ROOT / "tasks/evals/ticket_routing/items.jsonl")
    assert max(nearest(row["text"], training) for row in held_out) < 0.5


def test_knowledge_items_are_150_or_more_with_a_right_choice_each() -> None:
    lines = (ROOT / "tasks/evals/general_knowledge/items.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == len({row["question"] for row in rows}) == 180
    assert all(0 <= row["gold"] < len(row["choices"]) == len(set(row["choices"])) for row in rows)


def test_knowledge_answers_are_spread_over_the_places() -> None:
    lines = (ROOT / "tasks/evals/general_knowledge/items.jsonl").read_text(encoding="utf-8").splitlines()
    assert Counter(json.loads(line)["gold"] for line in lines) == {0: 60, 1: 60, 2: 60}


def test_the_labels_that_params_allow_are_the_labels_of_the_data() -> None:
    layout = load_params(ROOT / "params.yaml").sources[0].layout
    assert isinstance(layout, TemplateLayout)
    assert sorted(layout.allowed["queue"]) == sorted(dirt.QUEUES)
    assert sorted(layout.allowed["priority"]) == sorted(dirt.PRIORITIES)


@pytest.mark.parametrize(("benchmark", "source"), [("ticket_routing", 0), ("general_knowledge", 1)])
def test_a_benchmark_asks_with_the_system_message_of_its_training_source(benchmark: str, source: int) -> None:
    text = (ROOT / f"tasks/evals/{benchmark}/{benchmark}.yaml").read_text(encoding="utf-8")
    task = YAML(typ="safe", pure=True).load(text.replace("!function ", ""))
    assert task["description"] == load_params(ROOT / "params.yaml").sources[source].layout.system


@pytest.mark.parametrize(("kind", "count"), dirt.DIRT.items())
def test_the_data_card_states_the_count_of_each_kind_of_dirt(kind: str, count: int) -> None:
    assert re.search(rf"^\| {kind} \| {count} \|", CARD.read_text(encoding="utf-8"), re.MULTILINE)
