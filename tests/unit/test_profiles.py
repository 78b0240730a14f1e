"""The shipped profiles keep the promise in their names, and differ from the default only where they should."""

from pathlib import Path

import pytest

from flows.variants import chosen_params
from tasks.memory import estimate, setting_of
from tasks.model_shape import read_shape
from tasks.params import Params, load_params
from tests.contract.imports import ROOT

PROFILES = ROOT / "params"
FREE = {"base_model", "sources", "clean", "lora", "quantization", "train", "compute", "evaluate", "release", "run"}


def load(name: str) -> Params:
    return load_params(PROFILES / f"{name}.yaml")


@pytest.mark.parametrize(
    ("name", "shape", "gigabytes"),
    [
        ("8b-qlora-24gb", "llama-3.1-8b", 24),
        ("70b-qlora-80gb", "llama-3.1-70b", 80),
        ("8b-lora-bf16", "llama-3.1-8b", 40),
        ("8b-dora", "llama-3.1-8b", 40),
    ],
)
def test_a_profile_fits_the_gpu_that_it_names(name: str, shape: str, gigabytes: int) -> None:
    peak = estimate(read_shape(PROFILES / f"shapes/{shape}.json"), setting_of(load(name), is_cuda=True)).peak
    assert gigabytes * 10**9 / 4 < peak <= gigabytes * 10**9


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_profile_leaves_data_rules_and_gate_as_the_default_has_them(path: Path) -> None:
    profile, default = (
        load_params(path).model_dump(by_alias=True),
        load_params(ROOT / "params.yaml").model_dump(by_alias=True),
    )
    assert {name for name in profile if profile[name] != default[name]} <= FREE


def test_the_profiles_are_what_their_names_say() -> None:
    assert load("8b-qlora-24gb").train.method == load("70b-qlora-80gb").train.method == "qlora"
    bf16, dora, customer = load("8b-lora-bf16"), load("8b-dora"), chosen_params(ROOT, variant="customer")
    assert (bf16.train.method, bf16.compute.dtype, bf16.quantization) == ("lora", "bfloat16", None)
    assert dora.lora is not None
    assert dora.lora.use_dora
    default = load_params(ROOT / "params.yaml")
    assert customer.base_model == default.base_model
    assert customer.release.name == "support-router-customer"
    assert customer.sources[0].name != default.sources[0].name
    assert customer.lora is not None
    assert customer.lora.r == 8


@pytest.mark.parametrize("name", ["8b-qlora-24gb", "70b-qlora-80gb", "8b-lora-bf16", "8b-dora"])
def test_a_profile_invents_no_commit(name: str) -> None:
    origin = load(name).base_model.origin
    assert origin.source == "hub"
    assert origin.revision == "0" * 40
