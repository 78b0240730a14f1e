import pytest

from tasks.data_profile import CompletionCounts, build_profile, power_of_two
from tasks.label_sets import LabelSets, completion_pattern
from tasks.params_data import Source, TemplateLayout
from tests.unit.rows import example


def counted(*completions: str, role: str = "train") -> CompletionCounts:
    counts = CompletionCounts()
    counts.add_examples([example("a", completion=completion, role=role) for completion in completions])
    return counts


@pytest.mark.parametrize(
    ("length", "bin_"), [(0, "0"), (1, "1-1"), (2, "2-3"), (63, "32-63"), (64, "64-127"), (127, "64-127")]
)
def test_lengths_are_counted_between_powers_of_two(length: int, bin_: str) -> None:
    assert power_of_two(length) == bin_


def test_the_profile_holds_shares_of_each_column_and_rows_by_partition() -> None:
    completions = counted(*["yes"] * 30, *["no"] * 10)
    profile = build_profile({"train": 3, "test": 1}, {"b": 1, "a": 3}, {40: 2, 63: 1, 64: 1}, completions)
    assert profile.rows == {"train": 3, "test": 1}
    assert profile.shares == {
        "source": {"a": 0.75, "b": 0.25},
        "completion": {"yes": 0.75, "no": 0.25},
        "tokens": {"32-63": 0.75, "64-127": 0.25},
    }


@pytest.mark.parametrize(("rows", "kept"), [(39, False), (40, True)])
def test_two_completions_are_labels_from_forty_rows_on(rows: int, *, kept: bool) -> None:
    profile = build_profile({}, {}, {}, counted(*["yes"] * (rows - 1), "no"))
    assert ("completion" in profile.shares) is kept
    assert profile.too_few_rows == (() if kept else ("completion",))


def test_with_too_few_rows_of_each_the_champions_answers_are_counted_and_all_others_as_one() -> None:
    counts = counted(*["yes"] * 40, *["no"] * 15, *"abcde")
    assert counts.labels() == {}
    assert counts.labels(["yes", "no"]) == {"yes": 40, "no": 15, "any other answer": 5}
    assert build_profile({}, {}, {}, counts, ["yes", "no"]).too_few_rows == ()


@pytest.mark.parametrize(("rows", "kept"), [(59, False), (60, True)])
def test_the_champions_answers_need_twenty_rows_each_too(rows: int, *, kept: bool) -> None:
    counts = counted(*["yes"] * (rows - 5), *"abcde")
    assert bool(counts.labels(["yes", "no"])) is kept


def test_too_many_answers_are_not_too_few_rows() -> None:
    profile = build_profile({}, {}, {}, counted(*map(str, range(201))), ["yes"])
    assert (profile.shares, profile.too_few_rows) == ({}, ())


@pytest.mark.parametrize(("values", "kept"), [(200, True), (201, False)])
def test_more_than_two_hundred_completions_are_no_labels(values: int, *, kept: bool) -> None:
    counts = CompletionCounts()
    for _ in range(20):
        counts.add(counted(*map(str, range(values))))
    assert (counts.labels().total() == 20 * values) is kept


@pytest.mark.parametrize(("chars", "kept"), [(200, True), (201, False)])
def test_a_long_completion_is_no_label(chars: int, *, kept: bool) -> None:
    assert bool(counted(*["x" * chars] * 20).labels()) is kept


def test_replay_says_nothing_about_labels() -> None:
    counts = counted(*["yes"] * 20)
    counts.add(counted("a long story", role="replay"))
    assert counts.labels() == {"yes": 20}


def test_parts_counted_apart_are_the_same_as_together() -> None:
    counts = counted(*["yes"] * 15)
    counts.add(counted(*["yes"] * 15, *["no"] * 20))
    assert counts.labels() == {"yes": 30, "no": 20}


LAYOUT = TemplateLayout(
    kind="template",
    system="",
    prompt="{text}",
    completion='{{"queue": "{queue}", "note": "{note}"}}',
    required=[],
    allowed={"queue": ["a.b", "c"]},
)


@pytest.mark.parametrize(
    ("completion", "known"),
    [
        ('{"queue": "a.b", "note": ""}', True),
        ('{"queue": "c", "note": "two\nlines"}', True),
        ('{"queue": "axb", "note": ""}', False),
        ('{"queue": "", "note": ""}', False),
        ('{"queue": "c", "note": "x"} ', False),
        ('{"queue": "c", "note": "x"}\nmore', False),
    ],
)
def test_a_label_is_known_when_the_template_can_make_it(completion: str, *, known: bool) -> None:
    assert (completion_pattern(LAYOUT).fullmatch(completion) is not None) is known


def source(layout: TemplateLayout) -> Source:
    return Source(
        name="tickets",
        role="train",
        path="data/sources/x.jsonl",
        sha256=None,
        repo_id=None,
        revision=None,
        weight=1.0,
        layout=layout,
    )


def test_the_template_s_own_signs_are_no_pattern() -> None:
    layout = LAYOUT.model_copy(update={"completion": "{queue} (sure?)"})
    assert completion_pattern(layout).fullmatch("c (sure?)")
    assert not completion_pattern(layout).fullmatch("c sure")


def test_a_source_without_a_set_of_labels_may_answer_anything() -> None:
    free = LAYOUT.model_copy(update={"allowed": {"text": ["x"]}})
    assert LabelSets([source(free)]).knows(example("a", completion="anything"))
    assert not LabelSets([source(LAYOUT)]).knows(example("a", completion="anything"))
