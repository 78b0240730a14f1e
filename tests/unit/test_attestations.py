import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from tasks.attestations import (
    Making,
    Material,
    attested,
    bill_of_materials,
    file_materials,
    source_materials,
    statement,
)
from tasks.digests import digest_text
from tasks.params import load_params
from tasks.params_data import NamedLayout, Source
from tasks.publish_bundle import BOM, STATEMENT, Bundle, gather
from tests.contract.imports import ROOT
from tests.flows.tiny_line import base_record, evaluation
from tests.unit.test_publish_bundle import RELEASE, make_model

A, B = "a" * 64, "b" * 64


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return gather(RELEASE, *make_model(tmp_path / "source"), card="card\n")


@pytest.fixture
def making() -> Making:
    return Making(
        base=base_record(),
        params=load_params(ROOT / "params.yaml").model_dump(mode="json", by_alias=True),
        sources=(
            Material(name="tickets/data/sources/tickets.jsonl", digest={"sha256": A}),
            Material(name="alpaca", uri="https://huggingface.co/datasets/a/b", digest={"gitCommit": "1" * 40}),
        ),
        run_files=(Material(name="params.yaml", digest={"sha256": B}),),
        evidence=(Material(name="data/gate/verdict.json", digest={"sha256": A}),),
        packages={"torch": "2.13.0", "tunegate": "0.1.0"},
        scores=evaluation("candidate", 0.75),
    )


def test_the_statement_is_what_in_toto_and_slsa_define(bundle: Bundle, making: Making) -> None:
    text = json.dumps(statement(bundle, making))
    parsed = json_format.Parse(text, statement_pb2.Statement())  # refuses a field that it does not know
    Statement.copy_from_pb(parsed).validate()
    predicate = json.dumps(json.loads(text)["predicate"])
    provenance = json_format.Parse(predicate, provenance_pb2.Provenance())
    assert provenance.run_details.metadata.invocation_id == RELEASE.run
    assert provenance.build_definition.build_type == "urn:tunegate:run:v1"


def test_its_subject_is_every_file_of_the_model_with_its_digest(bundle: Bundle, making: Making) -> None:
    told: Any = statement(bundle, making)["subject"]
    assert {item["name"]: item["digest"]["sha256"] for item in told} == bundle.provenance.files


def test_it_names_code_base_data_parameters_environment_and_evidence(bundle: Bundle, making: Making) -> None:
    told: Any = statement(bundle, making)["predicate"]
    build, run = told["buildDefinition"], told["runDetails"]
    digests = {item["name"]: item["digest"] for item in build["resolvedDependencies"]}
    assert digests == {
        "code": {"gitCommit": RELEASE.commit},
        "params.yaml": {"sha256": B},
        "base/model.safetensors": {"sha256": "c" * 64},
        "tickets/data/sources/tickets.jsonl": {"sha256": A},
        "alpaca": {"gitCommit": "1" * 40},
    }
    assert build["internalParameters"] == {"base": "made/up", "licence": "apache-2.0"}
    assert build["externalParameters"]["params"]["lora"]["r"] == 16
    assert not {"release", "run"} & set(build["externalParameters"]["params"])
    assert {"name": "torch", "uri": "pkg:pypi/torch@2.13.0"} in run["builder"]["builderDependencies"]
    assert run["byproducts"] == [{"name": "data/gate/verdict.json", "digest": {"sha256": A}}]


def test_the_bill_of_materials_is_valid_cyclonedx(bundle: Bundle, making: Making) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    told = bill_of_materials(bundle, making)
    assert validator.validate_str(json.dumps(told)) is None
    assert validator.validate_str(json.dumps(told | {"components": [{"type": "weights", "name": "a"}]})) is not None
    other = making.model_copy(update={"base": base_record().model_copy(update={"license": "a licence of their own"})})
    assert validator.validate_str(json.dumps(bill_of_materials(bundle, other))) is None


def test_it_holds_the_model_with_its_scores_its_base_its_data_and_its_libraries(bundle: Bundle, making: Making) -> None:
    told: Any = bill_of_materials(bundle, making)
    model = told["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == (
        "machine-learning-model", RELEASE.name, RELEASE.version,
    )  # fmt: skip
    assert {item["name"]: item["hashes"][0]["content"] for item in model["components"]} == bundle.provenance.files
    assert model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"] == [
        {"type": "exact_match", "value": "0.75", "slice": "ticket_routing"}
    ]
    named = {(item["type"], item["name"]) for item in told["components"]}
    assert named == {
        ("machine-learning-model", "made/up"), ("data", "tickets/data/sources/tickets.jsonl"), ("data", "alpaca"),
        ("library", "torch"), ("library", "tunegate"),
    }  # fmt: skip
    assert told["components"][0]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    known = {item["bom-ref"] for item in (model, *told["components"])}
    assert {ref for item in told["dependencies"] for ref in (item["ref"], *item["dependsOn"])} <= known


def test_the_same_run_gives_the_same_bytes_and_both_are_published(bundle: Bundle, making: Making) -> None:
    first, second = attested(bundle, making), attested(bundle, making)
    assert first.digests == second.digests
    assert set(first.texts) - set(bundle.texts) == {STATEMENT, BOM}


def test_no_folder_of_the_machine_is_told(bundle: Bundle, making: Making) -> None:
    params = {"sources": [{"path": "/home/ada/tickets.jsonl"}], "base_model": {"origin": {"path": "/models/base"}}}
    text = json.dumps(statement(bundle, making.model_copy(update={"params": params})))
    assert "/home/ada" not in text
    assert "/models" not in text
    assert '"tickets.jsonl"' in text


def test_sources_are_named_by_the_digests_of_their_files(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / "data/sources/folder").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data/sources/folder" / name).write_text(name)
    layout = NamedLayout.model_validate({"kind": "auto", "system": "", "tools": "native"})
    given: dict[str, Any] = {"role": "train", "repo_id": None, "revision": None, "sha256": None, "weight": 1.0}
    sources = [
        Source(name="one", path="data/sources/folder/a.jsonl", layout=layout, **given),
        Source(name="all", path="data/sources/folder", layout=layout, **given),
        Source(name="some", path="data/sources/folder/b*", layout=layout, **given),
        Source(name="pinned", path="/elsewhere/c.jsonl", layout=layout, **given | {"sha256": A}),
        Source(name="hub", path="d", layout=layout, **given | {"repo_id": "a/b", "revision": "1" * 40}),
    ]
    a, b = digest_text("a.jsonl"), digest_text("b.jsonl")
    found = source_materials(tmp_path, sources)
    assert [(item.name, next(iter(item.digest.values()))) for item in found] == [
        ("one/data/sources/folder/a.jsonl", a),
        ("all/data/sources/folder/a.jsonl", a),
        ("all/data/sources/folder/b.jsonl", b),
        ("some/data/sources/folder/b.jsonl", b),
        ("pinned/c.jsonl", A),
        ("hub", "1" * 40),
    ]


def test_a_file_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("a: 1\n")
    assert [item.name for item in file_materials(tmp_path, ("params.yaml", "dvc.lock"))] == ["params.yaml"]
