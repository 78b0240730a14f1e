"""What is wrong with `params.yaml`, in words that say where and what to write instead."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tasks.yaml_files import Document

Location = tuple[str | int, ...]


def describe_problems(document: Document, error: ValidationError, root: type[BaseModel]) -> list[str]:
    """A line for each wrong place of the file: line, key, what is wrong, what was found, the nearest valid name.

    What the members of a union say of one value is one problem: its line names all that would have been right.

    Args:
        document: the file that did not validate.
        error: what pydantic said of `document.value`.
        root: the model that it should have fitted.
    """
    names = sorted(known_names(root))
    located = [(_location(document.value, issue), issue) for issue in error.errors()]
    meant = _misspelt(located)
    messages: dict[tuple[Location, str], list[str]] = {}
    for location, issue in located:
        if issue["type"] == "missing" and location in meant.values():
            continue
        wanted = [str(meant[location][-1])] if location in meant else names
        place = (location, _found(issue) + _suggestion(location, issue, wanted))
        messages.setdefault(place, []).append(issue["msg"].removeprefix("Value error, "))
    return [_problem(document, location, _joined(said) + rest) for (location, rest), said in messages.items()]


def _misspelt(located: Sequence[tuple[Location, ErrorDetails]]) -> dict[Location, Location]:
    """For each key that is unknown the missing one beside it that it looks like: one typo, not two problems."""
    missing = [location for location, issue in located if issue["type"] == "missing"]
    found: dict[Location, Location] = {}
    for location, issue in located:
        if issue["type"] != "extra_forbidden":
            continue
        beside = [str(other[-1]) for other in missing if other[:-1] == location[:-1]]
        if near := difflib.get_close_matches(str(location[-1]), beside, n=1):
            found[location] = (*location[:-1], near[0])
    return found


def _location(value: object, issue: ErrorDetails) -> Location:
    """The keys and indexes of the file in pydantic's location, which also names the chosen members of unions.

    A member may be called like a key beside it, so of all ways through the file the one that ends at the value that
    pydantic complains of is right. A missing key is in no file: the way ends at the mapping that lacks it.
    """
    full = issue["loc"]
    absent = full[-1:] if issue["type"] == "missing" else ()
    ways = _ways(value, full[: len(full) - len(absent)])
    keys, _ = max(ways, key=lambda way: (way[1] is issue["input"], way[0][-1:] == full[-1:]))
    return keys + absent


def _ways(node: object, location: Location) -> Iterator[tuple[Location, object]]:
    """Every way down from `node` by some parts of `location`, in order, and the value at its end."""
    if not location:
        yield (), node
        return
    part, rest = location[0], location[1:]
    children = _children(node)
    if part in children:
        yield from (((part, *keys), end) for keys, end in _ways(children[part], rest))
    yield from _ways(node, rest)


def _children(node: object) -> Mapping[object, object]:
    if isinstance(node, Mapping):
        return node
    return dict(enumerate(node)) if isinstance(node, list) else {}


def _problem(document: Document, location: Location, what: str) -> str:
    key = ".".join(str(part) for part in location) or "(whole file)"
    return f"  line {document.line(location)}: {key}: {what}"


def _joined(messages: list[str]) -> str:
    first, *others = dict.fromkeys(messages)
    return " or ".join([first, *(other.removeprefix("Input should be ") for other in others)])


def _found(issue: ErrorDetails) -> str:
    if issue["type"] in {"missing", "value_error"}:
        return ""
    text = repr(issue["input"])
    return f"; found {text if len(text) <= 60 else text[:57] + '...'}"


def _suggestion(location: Location, issue: ErrorDetails, names: list[str]) -> str:
    if issue["type"] != "extra_forbidden" or not location:
        return ""
    key = str(location[-1])
    near = [] if key in names else difflib.get_close_matches(key, names, n=1)
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
