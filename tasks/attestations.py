"""What a release is made of and how, in the forms that other tools read: SLSA provenance and a CycloneDX ML-BOM.

Both are files of the release, so that its signature covers them. Nothing in them depends on the clock or names a folder
of the machine: the same run gives the same bytes.

Sources: in-toto Statement v1 with the predicate https://slsa.dev/provenance/v1; CycloneDX 1.6.
"""

import json
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import JsonValue

from tasks.digests import digest_file
from tasks.params_data import Source
from tasks.publish_bundle import BOM, STATEMENT, Bundle
from tasks.records import BaseRecord, Evaluation, Record

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:tunegate:run:v1"
BUILDER = "urn:tunegate"
NOT_OF_THE_MODEL = frozenset({"release", "run"})
"""Sections of the parameters that say where a model goes and how it is driven, not what it is."""
FILES_OF_THE_RUN = ("params.yaml", "dvc.lock", "requirements.lock")
SPDX_OF = {"apache-2.0": "Apache-2.0", "mit": "MIT", "cc-by-4.0": "CC-BY-4.0", "cc0-1.0": "CC0-1.0"}
"""Licences as the Hub spells them, as SPDX does; any other is given by its name."""

Json = dict[str, JsonValue]


class Material(Record):
    """One thing that went in; `digest` is by algorithm, as in-toto names them: `sha256`, `gitCommit`."""

    name: str
    digest: dict[str, str]
    uri: str | None = None


class Making(Record):
    """What is known about how a release was made, besides the release itself."""

    base: BaseRecord
    params: dict[str, JsonValue]
    sources: tuple[Material, ...]
    run_files: tuple[Material, ...]
    evidence: tuple[Material, ...]
    packages: dict[str, str]
    scores: Evaluation


def attested(bundle: Bundle, making: Making) -> Bundle:
    """The bundle with both statements in it."""
    texts = {STATEMENT: _dumped(statement(bundle, making)), BOM: _dumped(bill_of_materials(bundle, making))}
    return bundle.model_copy(update={"texts": {**bundle.texts, **texts}})


def _dumped(value: Json) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def source_materials(place: Path, sources: Iterable[Source]) -> tuple[Material, ...]:
    """The files of every source with their digests, or the commit of one on the Hub.

    Of a pinned file the name is given and not its folder, which is of one machine.
    """
    found = []
    for source in sources:
        if source.repo_id is not None:
            uri = f"https://huggingface.co/datasets/{source.repo_id}"
            found.append(Material(name=source.name, uri=uri, digest={"gitCommit": str(source.revision)}))
        elif source.sha256 is not None:
            digest = {"sha256": source.sha256}
            found.append(Material(name=f"{source.name}/{Path(source.path).name}", digest=digest))
        else:
            found += file_materials(place, _files(place, source.path), f"{source.name}/")
    return tuple(found)


def _files(place: Path, path: str) -> list[str]:
    start = place / path
    files = [start] if start.is_file() else start.rglob("*") if start.is_dir() else place.glob(path)
    return sorted(file.relative_to(place).as_posix() for file in files if file.is_file())


def file_materials(place: Path, names: Iterable[str], prefix: str = "") -> tuple[Material, ...]:
    """Files of the workspace with their digests; those that are not there are left out."""
    return tuple(
        Material(name=f"{prefix}{name}", digest={"sha256": digest_file(place / name)})
        for name in names
        if (place / name).is_file()
    )


def statement(bundle: Bundle, making: Making) -> Json:
    """An in-toto statement about every file of the model, with SLSA's provenance as its predicate."""
    release = bundle.release
    base = [
        Material(name=f"base/{name}", uri=_base_uri(making.base), digest={"sha256": digest})
        for name, digest in sorted(making.base.files.items())
    ]
    code = Material(name="code", digest={"gitCommit": release.commit})
    packages: list[JsonValue] = [
        {"name": name, "uri": f"pkg:pypi/{name}@{version}"} for name, version in sorted(making.packages.items())
    ]
    params = {key: _without_folders(part) for key, part in making.params.items() if key not in NOT_OF_THE_MODEL}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [_descriptor(item) for item in _model_files(bundle)],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"params": params},
                "internalParameters": {"base": making.base.name, "licence": making.base.license},
                "resolvedDependencies": [
                    _descriptor(item) for item in (code, *making.run_files, *base, *making.sources)
                ],
            },
            "runDetails": {
                "builder": {
                    "id": BUILDER,
                    "version": {"tunegate": making.packages.get("tunegate", "")},
                    "builderDependencies": packages,
                },
                "metadata": {"invocationId": release.run},
                "byproducts": [_descriptor(item) for item in making.evidence],
            },
        },
    }


def _without_folders(value: JsonValue) -> JsonValue:
    """The value with only the last part of every absolute path: a folder of one machine is nobody's business."""
    if isinstance(value, dict):
        return {key: _without_folders(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_folders(part) for part in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def _model_files(bundle: Bundle) -> list[Material]:
    files = sorted(bundle.provenance.files.items())
    return [Material(name=name, digest={"sha256": digest}) for name, digest in files]


def _descriptor(item: Material) -> Json:
    told: Json = {"name": item.name, "digest": dict(item.digest)}
    return told if item.uri is None else {**told, "uri": item.uri}


def _base_uri(base: BaseRecord) -> str | None:
    """Where the base came from, as others can find it; a folder of one machine is no such place."""
    origin = base.origin
    if origin.get("source") == "hub":
        return f"https://huggingface.co/{origin.get('repo_id')}"
    if origin.get("source") == "package":
        return f"pkg:pypi/{origin.get('requirement', '').replace('==', '@')}"
    return None


def bill_of_materials(bundle: Bundle, making: Making) -> Json:
    """A CycloneDX ML-BOM: the model with its card, its base, its data and the libraries that made it."""
    release = bundle.release
    refs = {item.name: f"data:{item.name}" for item in making.sources}
    libraries: list[JsonValue] = [
        {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        for name, version in sorted(making.packages.items())
        for purl in (f"pkg:pypi/{name}@{version}",)
    ]
    data: list[JsonValue] = [
        {"type": "data", "bom-ref": refs[item.name], "name": item.name, **_hashes(item)} for item in making.sources
    ]
    base: Json = {
        "type": "machine-learning-model",
        "bom-ref": "base",
        "name": making.base.name,
        "licenses": [_licence(making.base.license)],
        "components": [_file(f"base/{name}", digest) for name, digest in sorted(making.base.files.items())],
    }
    model: Json = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": release.name,
        "version": release.version,
        "licenses": [_licence(making.base.license)],
        "modelCard": _model_card(making, refs),
        "components": [_file(name, digest) for name, digest in sorted(bundle.provenance.files.items())],
    }
    depends: list[JsonValue] = ["base", *refs.values()]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, bundle.provenance.approval.digest + release.run)}",
        "version": 1,
        "metadata": {"component": model},
        "components": [base, *data, *libraries],
        "dependencies": [{"ref": "model", "dependsOn": depends}],
    }


def _model_card(making: Making, refs: Mapping[str, str]) -> Json:
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "text-generation",
            "datasets": [{"ref": ref} for ref in refs.values()],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {"type": score.metric, "value": f"{score.value:.6g}", "slice": score.benchmark}
                for score in making.scores.scores
            ]
        },
    }


def _file(name: str, digest: str) -> Json:
    return {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": [{"alg": "SHA-256", "content": digest}]}


def _hashes(item: Material) -> Json:
    """CycloneDX has no hash that is a git commit: it stands in a property."""
    if "sha256" in item.digest:
        return {"hashes": [{"alg": "SHA-256", "content": item.digest["sha256"]}]}
    return {"properties": [{"name": f"tunegate:{key}", "value": value} for key, value in item.digest.items()]}


def _licence(name: str) -> Json:
    spdx = SPDX_OF.get(name.lower())
    return {"license": {"name": name} if spdx is None else {"id": spdx}}
