"""Layouts: which one a file has by its columns, and the function from its rows to conversations."""

from collections.abc import Iterable, Sequence

from tasks.conversations import PARSERS, PROMPT_PAIRS, Conversation, Parser, Row, prompt_pair, with_system
from tasks.errors import SourceInvalid
from tasks.params_data import NamedLayout, TemplateLayout
from tasks.templates import columns_of, template_parser, template_proposal
from tasks.tool_calls import BrokenRow, written_out

COLUMNS: dict[str, tuple[tuple[str, ...], ...]] = {
    "messages": (("messages",),),
    "sharegpt": (("conversations",),),
    "alpaca": (("instruction", "output"),),
    "prompt_completion": PROMPT_PAIRS,
}
_NEEDED = [(frozenset(names), kind) for kind, choices in COLUMNS.items() for names in choices]
PREFERENCES = {
    "dpo": "a DPO preference layout (chosen, rejected)",
    "kto": "a KTO preference layout (an answer with a true or false label)",
}
READ_BY: dict[str, frozenset[str]] = {
    "messages": frozenset({"messages", "system", "tools"}),
    "sharegpt": frozenset({"conversations", "system", "tools"}),
    "alpaca": frozenset({"instruction", "input", "output", "system", "history"}),
    "prompt_completion": frozenset({"system", "history", "tools"}),
}
MEANINGFUL = (
    *(
        "messages",
        "conversations",
        "instruction",
        "input",
        "system",
        "tools",
        "functions",
        "history",
        "context",
        "chosen",
        "rejected",
    ),
    *("kto_tag", "image", "images", "audio", "audios", "video", "videos"),
)


def build_parser(layout: TemplateLayout | NamedLayout, kind: str) -> Parser:
    """The function from a row to its conversation; `kind` is the layout's, or what `recognise` found.

    Raises:
        SourceInvalid: a template has more in its braces than a column's name.
    """
    if isinstance(layout, TemplateLayout):
        fill, named = template_parser(layout), frozenset(columns_of(layout))
        return lambda row: Conversation(with_system(fill(row), layout.system), unread=frozenset(row.keys() - named))
    parse = PARSERS[kind]
    is_recognised, is_text = layout.kind == "auto", layout.tools == "text"

    def parsed(row: Row) -> Conversation:
        if is_recognised and (other := layout_of(row)) not in (kind, None):
            raise BrokenRow("other_layout", f"found {other}, expected {kind} as in the first rows")
        found = parse(row)
        messages, unread = with_system(found.messages, layout.system), _unread_columns(row, kind)
        if is_text:
            return Conversation(written_out(messages, found.tools), unread=unread)
        return Conversation(messages, found.tools, unread)

    return parsed


def layout_of(row: Row) -> str | None:
    """The layout that a row has by its columns, preference layouts included."""
    if "chosen" in row and "rejected" in row:
        return "dpo"
    if isinstance(row.get("label", row.get("kto_tag")), bool):
        return "kto"
    names = row.keys()
    for needed, kind in _NEEDED:
        if names >= needed:
            return kind
    return None


def recognise(rows: Sequence[Row], place: str) -> str:
    """The layout that most of the first `rows` have.

    Raises:
        SourceInvalid: a preference layout (DPO, KTO), or no known layout.
    """
    columns = ", ".join(shown_columns(dict.fromkeys(name for row in rows for name in row))) or "none"
    found = [layout_of(row) for row in rows]
    kind = max((*PREFERENCES, *COLUMNS), key=found.count)
    if not found.count(kind) * 2 > len(rows):
        known = "; ".join(f"{name}: {' or '.join(map(', '.join, choices))}" for name, choices in COLUMNS.items())
        raise SourceInvalid(
            f"{place}: layout not recognised, found columns: {columns}; expected {known}; or {_template_advice(rows)}"
        )
    if kind in PREFERENCES:
        raise SourceInvalid(
            f"{place}: recognised {PREFERENCES[kind]}; preference data cannot train this line, which needs one good "
            f"answer a row. Export the chosen answers as prompt and completion (found columns: {columns})"
        )
    return kind


def shown_columns(names: Iterable[str], most: int = 12) -> list[str]:
    """Names of columns as a message may show them: the first ones, cut."""
    ordered = list(names)
    shown = [name if len(name) <= 40 else f"{name[:37]}..." for name in ordered[:most]]
    return [*shown, f"and {len(ordered) - most} more"] if len(ordered) > most else shown


def _template_advice(rows: Sequence[Row]) -> str:
    if proposal := template_proposal(rows):
        indented = "\n".join(f"      {line}" for line in proposal.splitlines())
        return f"make a conversation of your columns with a template, such as\n{indented}"
    return "set `layout.kind: template` with a prompt and a completion made of your columns"


def _unread_columns(row: Row, kind: str) -> frozenset[str]:
    """The columns of a row that its layout does not read; one known to hold a part of a conversation breaks the row."""
    unread = row.keys() - READ_BY[kind]
    if kind == "prompt_completion":
        unread -= set(prompt_pair(row))
    for name in MEANINGFUL:
        if name in unread and row[name]:
            raise BrokenRow("unknown_field", f"{name}: the layout {kind} has no place for it")
    return frozenset(unread)
