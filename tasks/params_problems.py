"""What is wrong with `params.yaml`, in words that say where and what to write instead."""

import difflib
from collections.abc import Mapping
from typing import get_args

from pydantic import BaseModel, ValidationError

from tasks.yaml_files import Document

TAGS = frozenset({"hub", "package", "template", "auto", "messages", "sharegpt", "alpaca", "prompt_completion"})
"""What pydantic puts into a location for the chosen member of a union; no key of the file."""


def describe_problems(document: Document, error: ValidationError, root: type[BaseModel]) -> list[str]:
    """A line for each problem of `error`: line, key, what is wrong, what was found, the nearest valid name.

    Args:
        document: the file that did not validate.
        error: what pydantic said of it.
        root: the model that it should have fitted.
    """
    names = sorted(known_names(root))
    return [_problem(document, issue, names) for issue in error.errors()]


def _problem(document: Document, issue: Mapping[str, object], names: list[str]) -> str:
    location = tuple(part for part in _location(issue) if part not in TAGS)
    key = ".".join(str(part) for part in location) or "(whole file)"
    message = str(issue["msg"]).removeprefix("Value error, ")
    found = "" if issue["type"] in {"missing", "value_error"} else f"; found {_shown(issue['input'])}"
    return f"  line {document.line(location)}: {key}: {message}{found}{_suggestion(location, issue, names)}"


def _location(issue: Mapping[str, object]) -> tuple[str | int, ...]:
    location = issue["loc"]
    return location if isinstance(location, tuple) else ()


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _suggestion(location: tuple[str | int, ...], issue: Mapping[str, object], names: list[str]) -> str:
    if issue["type"] != "extra_forbidden" or not location:
        return ""
    near = difflib.get_close_matches(str(location[-1]), names, n=1)
    return f"; did you mean `{near[0]}`?" if near else "; remove it"


def known_names(root: type[BaseModel]) -> set[str]:
    """Every key that `root` or a section below it has."""
    names: set[str] = set()
    waiting: list[object] = [root]
    seen: set[object] = set()
    while waiting:
        kind = waiting.pop()
        if kind in seen:
            continue
        seen.add(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, field in kind.model_fields.items():
                names.add(field.alias or name)
                waiting.append(field.annotation)
        else:
            waiting.extend(get_args(kind))
    return names
