import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager

from tasks import benchmark_items, benchmark_tasks, paths
from tasks.benchmark_items import read_items
from tasks.benchmark_tasks import Tasks, load_tasks
from tasks.errors import FileInvalid, ParamsInvalid, Unavailable
from tasks.params import Benchmark, load_params
from tasks.records import BenchmarkItem
from tasks.tables import read_records

ROOT = Path(__file__).parents[2]

CHOICE = """
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: gold
"""
NUMBER = """
output_type: multiple_choice
doc_to_text: "{{gold}}"
doc_to_choice: "{{[sentence.replace('_', one), sentence.replace('_', two)]}}"
doc_to_target: "{{rest}}"
"""
FREE = """
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
"""


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    paths.EVALS.mkdir(parents=True)
    return tmp_path


def define(name: str, task: str, docs: Sequence[Mapping[str, object]], split: str = "test_split: test") -> None:
    folder = paths.EVALS / name
    folder.mkdir()
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, docs)))
    data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/items.jsonl}}}}\n{split}\n"
    (folder / f"{name}.yaml").write_text(f"task: {name}\n{data}{task}\nmetric_list: [{{metric: acc}}]\n")


def load(name: str, *, num_fewshot: int = 0, include_path: tuple[str, ...] = ()) -> Tasks:
    evaluate = load_params(ROOT / paths.PARAMS).evaluate
    benchmark = Benchmark(name=name, role="report", num_fewshot=num_fewshot)
    return load_tasks(evaluate.model_copy(update={"benchmarks": [benchmark], "include_path": list(include_path)}))[name]


def items(name: str) -> list[tuple[int, str, str]]:
    return [(item.item, item.part, item.text) for item in read_items(name, load(name))]


QUESTIONS = [
    {"question": "Which tool cuts paper?", "choices": ["Candle", "Scissors"], "gold": 1},
    {"question": "Which part of the leg bends?", "choices": ["Knee", "Chin"], "gold": 0},
]


def test_items_are_counted_from_0_with_question_target_and_choices() -> None:
    define("choice", CHOICE, QUESTIONS)
    assert items("choice") == [
        (0, "question", "Which tool cuts paper?"),
        (0, "target", "Scissors"),
        (0, "choice", "Candle"),
        (0, "choice", "Scissors"),
        (1, "question", "Which part of the leg bends?"),
        (1, "target", "Knee"),
        (1, "choice", "Knee"),
        (1, "choice", "Chin"),
    ]


def test_validation_documents_stand_in_where_there_is_no_test_split() -> None:
    define("choice", CHOICE, QUESTIONS, split="validation_split: test")
    assert len({item for item, *_ in items("choice")}) == 2


def test_an_answer_in_free_text_is_the_target() -> None:
    define("free", FREE, [{"question": "Why is it so?", "answer": "It has always been"}])
    assert items("free") == [(0, "question", "Why is it so?"), (0, "target", "It has always been")]


def test_where_the_prompt_is_a_number_the_choices_are_the_question() -> None:
    define(
        "number", NUMBER, [{"sentence": "They say _ is tall", "one": "Ann", "two": "Bob", "gold": "1", "rest": " so"}]
    )
    assert items("number")[0] == (0, "question", "They say Ann is tall\nThey say Bob is tall")


def test_a_group_gives_its_tasks() -> None:
    define("choice", CHOICE, QUESTIONS)
    define("free", FREE, [{"question": "Why is it so?", "answer": "It has always been"}])
    (paths.EVALS / "both.yaml").write_text("group: both\ntask: [choice, free]\n")
    assert list(load("both")) == ["choice", "free"]
    assert [item for item, part, _ in items("both") if part == "question"] == [0, 1, 2]


def test_a_folder_of_the_user_is_read_beside_the_projects_own(tmp_path: Path) -> None:
    define("choice", CHOICE, QUESTIONS)
    (tmp_path / "mine").mkdir()
    (paths.EVALS / "choice").rename("mine/choice")
    for file in (tmp_path / "mine/choice").iterdir():
        file.write_text(file.read_text().replace("tasks/evals", "mine"))
    assert list(load("choice", include_path=("mine",))) == ["choice"]


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(FileInvalid, match=r"evaluate\.include_path: mine: no such folder"):
        load("choice", include_path=("mine",))


def test_examples_that_the_definition_forbids_are_not_ignored_silently() -> None:
    define("choice", CHOICE + "num_fewshot: 0\n", QUESTIONS)
    with pytest.raises(ParamsInvalid, match="choice: num_fewshot is 2, and the definition of choice fixes it at 0"):
        load("choice", num_fewshot=2)


def test_a_benchmark_that_the_harness_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    own = partial(TaskManager, include_defaults=False)  # the harness's own definitions take 10 s to read
    monkeypatch.setattr(benchmark_tasks, "TaskManager", lambda include_path, **_: own(include_path=include_path))
    with pytest.raises(ParamsInvalid, match=r"evaluate\.benchmarks: lm-eval knows no arc_easi; see tasks/evals"):
        load("arc_easi")


def test_data_that_cannot_be_fetched_are_named_and_never_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    define("choice", CHOICE, QUESTIONS)

    def unreachable(*_: object) -> None:
        raise ConnectionError("Couldn't reach 'somebody/choice' on the Hub")

    monkeypatch.setattr("lm_eval.tasks.TaskManager.load", unreachable)
    with pytest.raises(
        Unavailable, match=r"benchmark choice: its data cannot be fetched \(Couldn't reach.*HF_ENDPOINT"
    ):
        load("choice")


@pytest.mark.parametrize("content", ['{"question": "a"', ""])
def test_broken_data_are_named(content: str) -> None:
    define("choice", CHOICE, QUESTIONS)
    (paths.EVALS / "choice/items.jsonl").write_text(content)
    with pytest.raises(
        FileInvalid, match=r"benchmark choice: its items cannot be read \(\w+: .*mend tasks/evals/choice"
    ):
        items("choice")


def test_a_document_that_cannot_be_rendered_is_named() -> None:
    define("choice", CHOICE.replace("doc_to_choice: choices", 'doc_to_choice: "{{nowhere}}"'), QUESTIONS)
    with pytest.raises(FileInvalid, match=r"benchmark choice: its items cannot be read"):
        items("choice")


def test_an_item_without_text_is_named() -> None:
    define("free", FREE, [{"question": "Why is it so?", "answer": "a"}, {"question": " ", "answer": ""}])
    with pytest.raises(FileInvalid, match=r"benchmark free: items 1 of 2 have no text that training rows could be"):
        items("free")


def test_the_stage_writes_the_items_of_the_shipped_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ticket_routing", "general_knowledge"):
        shutil.copytree(ROOT / paths.EVALS / name, paths.EVALS / name)
    monkeypatch.setattr(benchmark_items, "load_params", lambda: load_params(ROOT / paths.PARAMS))
    benchmark_items.main()
    found = list(read_records(paths.BENCHMARK_ITEMS / paths.ITEMS, BenchmarkItem))
    assert Counter((item.benchmark, item.part) for item in found) == {
        ("ticket_routing", "question"): 224,
        ("general_knowledge", "question"): 180,
        ("general_knowledge", "target"): 180,
        ("general_knowledge", "choice"): 540,
    }
    first = json.loads((ROOT / paths.EVALS / "ticket_routing/items.jsonl").read_text().splitlines()[0])
    assert (found[0].item, found[0].text) == (0, first["text"])
