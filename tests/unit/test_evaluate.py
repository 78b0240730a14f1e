"""The harness over both benchmarks of this project, with a model that knows nothing."""

import pytest

from tasks.errors import ParamsInvalid
from tasks.evaluate import run_harness, which_model
from tasks.evaluate_model import HarnessModel
from tasks.evaluate_parsing import parse_samples, parse_scores
from tasks.params import Benchmark, EvaluateParams, load_params
from tests.unit.tiny_model import make_model, make_tokenizer


def settings(*benchmarks: Benchmark) -> EvaluateParams:
    evaluate = load_params().evaluate.model_copy(update={"limit": 3})
    return evaluate.model_copy(update={"benchmarks": list(benchmarks)}) if benchmarks else evaluate


def know_nothing() -> HarnessModel:
    return HarnessModel(pretrained=make_model().eval(), tokenizer=make_tokenizer(), batch_size=2, max_length=256)


def test_every_benchmark_of_the_parameters_is_measured_item_by_item(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate = settings()
    results = run_harness(know_nothing(), evaluate)
    for benchmark in evaluate.benchmarks:
        assert [sample.item for sample in parse_samples(benchmark.name, results)] == [0, 1, 2]
        assert all(score.samples == 3 for score in parse_scores(benchmark.name, results))
    assert "evaluate: 3/3 requests" in capsys.readouterr().out


def test_the_prompt_goes_through_the_chat_template() -> None:
    results = run_harness(know_nothing(), settings(Benchmark(name="general_knowledge", role="guard", num_fewshot=0)))
    (first, *_) = parse_samples("general_knowledge", results)
    assert first.prompt.startswith("system Answer the question. <end> user ")
    assert first.prompt.endswith(" <end> assistant ")


def test_a_benchmark_that_the_harness_does_not_know_is_named() -> None:
    with pytest.raises(ParamsInvalid, match="lm-eval knows no general_knowlege"):
        run_harness(know_nothing(), settings(Benchmark(name="general_knowlege", role="guard", num_fewshot=0)))


@pytest.mark.parametrize("arguments", [[], ["champion"], ["base", "candidate"]])
def test_the_command_line_names_one_of_two_models(arguments: list[str]) -> None:
    with pytest.raises(ParamsInvalid, match="expected `base` or `candidate`"):
        which_model(arguments)
