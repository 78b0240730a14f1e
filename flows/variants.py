"""Variants: one base, many adapters. `params/variants/NAME.yaml` has only what differs from params.yaml.

Mappings are merged key by key, everything else takes the place of what was there. The whole is checked by the same
parser as params.yaml, and is what the run takes for params.yaml. Each variant is a model of its own in the registry,
with its own champion and releases; the base, and what was measured of it, are those of all.
"""

import contextlib
import difflib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, JsonValue

from tasks.errors import ParamsInvalid
from tasks.params import Params, load_params, parse_sections
from tasks.params_changes import with_values
from tasks.params_types import NAME
from tasks.paths import PARAMS
from tasks.yaml_files import Document, read_yaml

Kind = TypeVar("Kind", bound=BaseModel)
Values = dict[str, object]

VARIANTS = Path("params/variants")
SHARED = "base_model"
"""The section that a variant has in common with all others."""


def variant_names(root: Path) -> list[str]:
    """The variants that have an overlay."""
    return sorted(path.stem for path in (root / VARIANTS).glob("*.yaml") if NAME.fullmatch(path.stem))


def overlay_file(root: Path, variant: str) -> Path:
    """The overlay of a variant.

    Raises:
        ParamsInvalid: the name is none, there is no such overlay, or it is a link that leads out of the folder.
    """
    if not NAME.fullmatch(variant):
        raise ParamsInvalid(f"variant {variant!r}: a name is lower-case letters, digits, `-` and `_`, 64 at most")
    path = root / VARIANTS / f"{variant}.yaml"
    if not path.is_file():
        known = variant_names(root)
        near = difflib.get_close_matches(variant, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none yet'}"
        raise ParamsInvalid(f"variant {variant}: no {VARIANTS / path.name}; {hint}")
    if path.resolve().parent != root.resolve() / VARIANTS:
        raise ParamsInvalid(f"{VARIANTS / path.name}: a link that leads out of {VARIANTS}; put the file itself there")
    return path


def chosen_name(params_file: Path | None, variant: str | None) -> str:
    """What the parameters of a command are called in messages."""
    base = str(params_file or PARAMS)
    return base if variant is None else f"{VARIANTS / variant}.yaml over {base}"


def chosen_params(root: Path, params_file: Path | None = None, variant: str | None = None) -> Params:
    """The parameters that a command takes.

    Args:
        root: the user's repository.
        params_file: stands for params.yaml.
        variant: whose overlay lies over them; None for none.

    Raises:
        ParamsInvalid: with every problem of params.yaml, or else every one of the overlay, each with its line there.
    """
    below = params_file or root / PARAMS
    return load_params(below) if variant is None else _load_variant(root, below, variant)


def chosen_text(root: Path, params_file: Path | None = None, variant: str | None = None) -> str | None:
    """What a run takes for params.yaml; None where that is the user's own file as it is.

    Raises:
        ParamsInvalid: as `chosen_params`, where there is a variant.
    """
    below = params_file or root / PARAMS
    if variant is None:
        return None if params_file is None else params_file.read_text(encoding="utf-8")
    params = _load_variant(root, below, variant)
    over = read_yaml(overlay_file(root, variant)).value
    changes = dict(_changes(read_yaml(below).value, over))
    changes |= {"release.name": params.release.name, "release.repo_id": params.release.repo_id}
    return with_values(below.read_text(encoding="utf-8"), changes.items(), top=str(PARAMS))


def _load_variant(root: Path, below: Path, variant: str) -> Params:
    load_params(below)  # what is wrong from here on is the overlay's
    params = load_variant_sections(Params, root, below, variant)
    _refuse_shared_name(root, below, variant, params.release.name)
    return params


def load_variant_sections(kind: type[Kind], root: Path, below: Path, variant: str) -> Kind:
    """The sections that `kind` has, as a variant has them, whatever is wrong with the others.

    Raises:
        ParamsInvalid: there is no such variant, or with every problem of these sections.
    """
    path = overlay_file(root, variant)
    over = _read_overlay(root, path)
    merged = _named(_merged(read_yaml(below).value, over.value), over.value, variant)
    return parse_sections(kind, replace(over, value=merged), path.relative_to(root))


def _read_overlay(root: Path, path: Path) -> Document:
    over = read_yaml(path)
    if SHARED in over.value:
        where = f"{path.relative_to(root)}: line {over.line((SHARED,))}"
        raise ParamsInvalid(
            f"{where}: {SHARED}: all variants share the base model; remove it, or write a whole file of parameters and "
            "run it by --params"
        )
    return over


def release_names(root: Path) -> dict[str, str]:
    """The name in the registry of each variant whose overlay can be read, by variant."""
    below, found = read_yaml(root / PARAMS).value, dict[str, str]()
    for variant in variant_names(root):
        with contextlib.suppress(ParamsInvalid):
            over = read_yaml(overlay_file(root, variant)).value
            release = _named(_merged(below, over), over, variant).get("release")
            if isinstance(release, dict) and isinstance(release.get("name"), str):
                found[variant] = release["name"]
    return found


def _refuse_shared_name(root: Path, below: Path, variant: str, name: str) -> None:
    """Two models of one name would have one champion and one row of versions."""
    theirs = {other: taken for other, taken in release_names(root).items() if other != variant}
    owners = [f"variant {other}" for other, taken in theirs.items() if taken == name]
    if load_params(below).release.name == name:
        owners.append(str(PARAMS))
    if owners:
        raise ParamsInvalid(
            f"{VARIANTS / variant}.yaml: release.name: {name} is that of {owners[0]}; give the variant another, or "
            "leave it out"
        )


def _merged(below: Values, over: Values) -> Values:
    """`over` laid over `below`: mappings key by key, everything else as a whole."""
    found = dict(below)
    for key, value in over.items():
        under = below.get(key)
        found[key] = _merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return found


def _changes(below: Values, over: Values, above: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Every value that `over` puts into `below`, by its dotted key."""
    for key, value in over.items():
        under = below.get(key)
        if isinstance(under, dict) and isinstance(value, dict) and value.keys() <= under.keys():
            yield from _changes(under, value, f"{above}{key}.")
        elif isinstance(under, dict) and isinstance(value, dict):
            yield f"{above}{key}", _merged(under, value)  # type: ignore[misc]  # as below
        else:
            yield f"{above}{key}", value  # type: ignore[misc]  # a file's value: strings, numbers, lists, mappings


def _named(merged: Values, over: Values, variant: str) -> Values:
    """The merged values with `NAME-variant` for what the overlay does not name: the release, and its repository."""
    release, own = merged.get("release"), over.get("release", {})
    if not isinstance(release, dict) or not isinstance(own, dict):
        return merged
    derived = {
        key: f"{release[key]}-{variant}"
        for key in ("name", "repo_id")
        if key not in own and isinstance(release.get(key), str)
    }
    return {**merged, "release": {**release, **derived}}
