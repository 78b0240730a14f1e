"""The harness over both benchmarks of this project, with a model that knows nothing."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks import evaluate, paths
from tasks.benchmark_tasks import load_tasks
from tasks.digests import digest_path
from tasks.errors import NotApproved, ParamsInvalid
from tasks.evaluate import FOLDERS, find_subject, run_benchmark, which_model
from tasks.evaluate_model import HarnessModel
from tasks.evaluate_parsing import parse_samples, parse_scores
from tasks.evaluation_cache import EVALUATIONS
from tasks.files import read_json, write_json
from tasks.params import Benchmark, Params, load_params
from tasks.records import BaseRecord, ChampionModel, Evaluation, Sample, Score
from tests.contract.imports import ROOT
from tests.tiny_workspace import make_workspace
from tests.unit.tiny_model import make_model, make_tokenizer

ITEMS = '{"text": "please route this ticket", "word": "billing", "wrong": "repair"}\n' * 2 + (
    '{"text": "repair this", "word": "repair", "wrong": "billing"}\n'
)
METRICS = "metric_list: [{{metric: {0}, aggregation: {1}, higher_is_better: {2}}}]\n"
KINDS = {
    "choice": "output_type: multiple_choice\ndoc_to_text: '{{text}}'\ndoc_to_choice: ['{{word}}', '{{wrong}}']\n"
    "doc_to_target: 0\n" + METRICS.format("acc", "mean", "true"),
    "likelihood": "output_type: loglikelihood\ndoc_to_text: '{{text}}'\ndoc_to_target: ' {{word}}'\n"
    "metric_list:\n  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}\n"
    "  - {metric: acc, aggregation: mean, higher_is_better: true}\n",
    "rolling": "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}} {{word}}'\n"
    "metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]\n",
    "generated": "output_type: generate_until\ndoc_to_text: '{{text}}'\ndoc_to_target: '{{word}}'\n"
    "generation_kwargs: {until: ['this'], max_gen_toks: 6, do_sample: false}\n"
    "filter_list:\n  - {name: first, filter: [{function: regex, regex_pattern: '(\\w+)'}, {function: take_first}]}\n"
    "  - {name: whole, filter: [{function: take_first}]}\n" + METRICS.format("exact_match", "mean", "true"),
}


def benchmark(name: str, num_fewshot: int = 0) -> Benchmark:
    return Benchmark(name=name, role="report", num_fewshot=num_fewshot)


def settings(*names: str, **changes: Any) -> Params:
    params = load_params()
    chosen = {"benchmarks": [benchmark(name) for name in names]} if names else {}
    evaluate = params.evaluate.model_copy(update={"limit": None, "batch_size": 2} | chosen | changes)
    return params.model_copy(update={"evaluate": evaluate, "quantization": None})


def know_nothing() -> HarnessModel:
    return HarnessModel(pretrained=make_model().eval(), tokenizer=make_tokenizer(), batch_size=2, max_length=256)


def measured(params: Params, name: str) -> tuple[list[Score], list[Sample]]:
    tasks = load_tasks(params.evaluate)
    (chosen,) = [item for item in params.evaluate.benchmarks if item.name == name]
    model = know_nothing()
    results = run_benchmark(model, chosen, tasks[name], params.evaluate)
    scores = parse_scores(name, results)
    return scores, parse_samples(name, results, scores, model.endings)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a tiny base, and one benchmark of each kind."""
    make_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for name, task in KINDS.items():
        define(name, task)
    return tmp_path


def define(name: str, task: str, items: str = ITEMS) -> None:
    folder = paths.EVALS / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.jsonl").write_text(items, encoding="utf-8")
    data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/items.jsonl}}}}\ntest_split: test\n"
    (folder / f"{name}.yaml").write_text(f"task: {name}\n{data}{task}", encoding="utf-8")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were loaded."""
    loaded: list[str] = []
    build: Callable[..., Any] = evaluate.build_model

    def counted(subject: Any, *rest: Any) -> Any:
        loaded.append(subject.which)
        return build(subject, *rest)

    monkeypatch.setattr(evaluate, "build_model", counted)
    return loaded


def test_every_benchmark_of_the_parameters_is_measured_item_by_item(capsys: pytest.CaptureFixture[str]) -> None:
    params = settings(limit=3)
    for item in params.evaluate.benchmarks:
        scores, samples = measured(params, item.name)
        assert [sample.item for sample in samples] == [0, 1, 2]
        assert all(score.samples == 3 for score in scores)
    assert "evaluate: 3/3 requests" in capsys.readouterr().out


def test_the_prompt_goes_through_the_chat_template() -> None:
    _, (first, *_) = measured(settings("general_knowledge", limit=3), "general_knowledge")
    assert first.prompt.startswith("system Answer the question. <end> user ")
    assert first.prompt.endswith(" <end> assistant ")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("choice", [("acc", "none", "mean")]),
        ("likelihood", [("acc", "none", "mean"), ("perplexity", "none", "log")]),
        ("rolling", [("bits_per_byte", "none", "mean"), ("word_perplexity", "none", "log")]),
        ("generated", [("exact_match", "first", "mean"), ("exact_match", "whole", "mean")]),
    ],
)
@pytest.mark.usefixtures("workspace")
def test_every_kind_of_benchmark_is_scored_item_by_item(name: str, expected: list[tuple[str, str, str]]) -> None:
    scores, samples = measured(settings(name), name)
    assert [(score.metric, score.filter_name, score.scale) for score in scores] == expected
    assert {len(score.per_sample) for score in scores} == {3}
    assert [sample.item for sample in samples] == [0, 1, 2]


@pytest.mark.usefixtures("workspace")
def test_what_was_measured_is_not_measured_again(loads: list[str]) -> None:
    first = evaluate.evaluate("base", settings("choice", "generated"))
    assert evaluate.evaluate("base", settings("choice", "generated")) == first
    assert loads == ["base"]


@pytest.mark.usefixtures("workspace")
def test_another_benchmark_has_only_that_measured(loads: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    alone, _ = evaluate.evaluate("base", settings("choice"))
    capsys.readouterr()
    both, _ = evaluate.evaluate("base", settings("choice", "rolling"))
    assert "evaluate base: choice was measured before, nothing to compute" in capsys.readouterr().out
    assert both.scores[: len(alone.scores)] == alone.scores
    assert loads == ["base", "base"]
    assert len(list((paths.state_folder() / EVALUATIONS).iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
@pytest.mark.usefixtures("workspace")
def test_a_damaged_result_is_measured_again(
    damage: bytes | None, loads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = evaluate.evaluate("base", settings("choice"))
    (kept,) = (paths.state_folder() / EVALUATIONS).iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-20] if damage is None else damage)
    assert evaluate.evaluate("base", settings("choice")) == first
    assert "a kept result is not used and will be measured again" in capsys.readouterr().out
    assert loads == ["base", "base"]
    assert kept.read_bytes() == whole


@pytest.mark.usefixtures("workspace")
def test_an_altered_result_is_measured_again(loads: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    first = evaluate.evaluate("base", settings("choice"))
    (kept,) = (paths.state_folder() / EVALUATIONS).iterdir()
    text = gzip.decompress(kept.read_bytes()).decode()
    assert '"value":' in text
    kept.write_bytes(gzip.compress(text.replace('"value":', '"value":1', 1).encode()))
    assert evaluate.evaluate("base", settings("choice")) == first
    assert "its content is not what was written" in capsys.readouterr().out
    assert loads == ["base", "base"]


@pytest.mark.parametrize(
    "change", [{"batch_size": 1}, {"max_length": 128}, {"limit": 2}, {"seed": 2}, {"apply_chat_template": False}]
)
@pytest.mark.usefixtures("workspace")
def test_another_setting_is_another_measurement(change: dict[str, Any], loads: list[str]) -> None:
    evaluate.evaluate("base", settings("choice"))
    evaluate.evaluate("base", settings("choice", **change))
    assert loads == ["base", "base"]


@pytest.mark.parametrize("what", ["items", "definition", "code"])
@pytest.mark.usefixtures("workspace")
def test_another_benchmark_under_the_same_name_is_another_measurement(what: str, loads: list[str]) -> None:
    evaluate.evaluate("base", settings("choice", "rolling"))
    if what == "items":
        define("choice", KINDS["choice"], ITEMS.replace("please route", "route"))
    elif what == "definition":
        define("choice", KINDS["choice"] + "description: please\n")
    else:
        (paths.EVALS / "choice/scoring.py").write_text("RIGHT = 1\n", encoding="utf-8")
    evaluate.evaluate("base", settings("choice", "rolling"))
    assert loads == ["base", "base"]
    assert len(list((paths.state_folder() / EVALUATIONS).iterdir())) == 3


@pytest.mark.usefixtures("workspace")
def test_a_quantised_base_is_another_model() -> None:
    plain = evaluate.evaluate("base", settings("choice"))[0]
    params = settings("choice").model_copy(update={"quantization": load_params(ROOT / paths.PARAMS).quantization})
    assert evaluate.evaluate("base", params)[0].weights_digest != plain.weights_digest


def test_candidate_and_champion_are_measured_by_the_same_settings(workspace: Path) -> None:
    for folder in (paths.ADAPTER, paths.CHAMPION_ADAPTER):
        shutil.copytree(workspace / "base", folder)  # method `full` writes a whole model
    write_champion()
    candidate, champion = (evaluate.evaluate(which, settings("choice"))[0] for which in ("candidate", "champion"))
    assert candidate.fingerprints == champion.fingerprints
    assert (champion.model, champion.weights_digest) == ("champion", candidate.weights_digest)


def test_the_merged_model_is_measured_in_the_weights_that_ship(workspace: Path) -> None:
    for folder in (paths.ADAPTER, paths.MERGED_MODEL):
        shutil.copytree(workspace / "base", folder)
        make_model(hidden_size=96).save_pretrained(folder)
    in_four_bits = settings("likelihood").model_copy(
        update={"quantization": load_params(ROOT / paths.PARAMS).quantization}
    )
    merged, base = (evaluate.evaluate(which, in_four_bits)[0] for which in ("merged", "base"))
    plain = evaluate.evaluate("candidate", settings("likelihood"))[0]
    assert (merged.model, merged.adapter_digest) == ("merged", digest_path(paths.MERGED_MODEL))
    assert merged.scores == plain.scores != base.scores


def write_champion(digest: str | None = None) -> None:
    base = read_json(paths.BASE_RECORD, BaseRecord)
    digest = digest or digest_path(paths.CHAMPION_ADAPTER)
    write_json(paths.CHAMPION_MODEL, ChampionModel(base=base, quantization=None, adapter_digest=digest))


def test_a_champion_of_other_bytes_is_not_measured(workspace: Path) -> None:
    shutil.copytree(workspace / "base", paths.CHAMPION_ADAPTER)
    write_champion("0" * 64)
    with pytest.raises(NotApproved, match=r"data/champion/adapter has digest \w{12}, the champion was released"):
        find_subject("champion", None)


@pytest.mark.usefixtures("workspace")
def test_the_stage_writes_scores_and_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "load_params", lambda: settings("choice"))
    monkeypatch.setattr("sys.argv", ["evaluate", "base"])
    evaluate.main()
    assert read_json(FOLDERS["base"] / paths.EVALUATION, Evaluation).model == "base"
    assert (FOLDERS["base"] / paths.SAMPLES).is_file()


@pytest.mark.parametrize("arguments", [[], ["best"], ["base", "candidate"]])
def test_the_command_line_names_one_model(arguments: list[str]) -> None:
    with pytest.raises(ParamsInvalid, match="expected one of `base`, `candidate`, `champion`, `merged`"):
        which_model(arguments)
