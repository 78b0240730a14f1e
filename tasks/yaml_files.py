"""YAML as DVC reads it (ruamel, YAML 1.2), without the parts that make a file lie or explode.

The one owner of the YAML library: `2e-4` is a number and `no` is a string here, as they are for DVC.
"""

from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionStartEvent, ScalarEvent

from tasks.errors import ParamsInvalid

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20


@dataclass(frozen=True)
class Document:
    """A parsed file: plain values, and the line that each key stands on."""

    value: dict[str, object]
    _tree: CommentedMap

    def line(self, location: tuple[str | int, ...]) -> int:
        """The 1-based line of `location`, or of the nearest enclosing key that the file has."""
        node: object = self._tree
        line = 1
        for part in location:
            try:
                line = _line_of(node, part)
                node = node[part]  # type: ignore[index]  # a miss of any kind ends the walk
            except (KeyError, IndexError, TypeError):
                break
        return line


def _line_of(node: object, part: str | int) -> int:
    if isinstance(node, CommentedMap):
        return int(node.lc.key(part)[0]) + 1
    if isinstance(node, CommentedSeq):
        return int(node.lc.item(part)[0]) + 1
    raise TypeError(part)


def read_yaml(path: Path) -> Document:
    """Parse one YAML mapping.

    Raises:
        ParamsInvalid: the file is missing, too large, not UTF-8, no mapping, or uses anchors, tags or duplicate keys.
    """
    text = _read_text(path)
    try:
        _refuse_tricks(path, text)
        tree = YAML(typ="rt").load(text)
    except YAMLError as error:
        raise ParamsInvalid(f"{path}: not valid YAML: {_first_lines(error)}; mend that line") from None
    except (RecursionError, ValueError) as error:
        raise ParamsInvalid(f"{path}: not valid YAML: {error}") from None
    if not isinstance(tree, CommentedMap):
        raise ParamsInvalid(f"{path}: expected a mapping of sections, found {type(tree).__name__}")
    value = YAML(typ="safe", pure=True).load(text)
    return Document(value, tree)


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ParamsInvalid(f"{path}: no such file; run from the root of the workspace") from None
    except OSError as error:
        raise ParamsInvalid(f"{path}: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise ParamsInvalid(f"{path}: {len(raw)} bytes, expected at most {MAX_BYTES}")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ParamsInvalid(f"{path}: line {line}: not UTF-8 ({error.reason}); save it as UTF-8") from None


def _refuse_tricks(path: Path, text: str) -> None:
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        where = f"{path}: line {event.start_mark.line + 1}"
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
            raise ParamsInvalid(f"{where}: anchors and aliases are not allowed; write the value out")
        if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
            raise ParamsInvalid(f"{where}: the tag {event.tag} is not allowed; write a plain value")
        depth += _depth_change(event)
        if depth > MAX_DEPTH:
            raise ParamsInvalid(f"{where}: nested deeper than {MAX_DEPTH} levels")


def _depth_change(event: object) -> int:
    if isinstance(event, CollectionStartEvent):
        return 1
    return -1 if type(event).__name__ in {"MappingEndEvent", "SequenceEndEvent"} else 0


def _first_lines(error: YAMLError) -> str:
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)
