"""Templates: columns of anybody's file turned into one turn of the user and one of the assistant."""

import re
from collections.abc import Callable, Sequence
from string import Formatter

from tasks.conversations import Row, prompt_and_answer, shown_label, text_in
from tasks.errors import SourceInvalid
from tasks.params_data import TemplateLayout
from tasks.records import Message
from tasks.tool_calls import BrokenRow


def template_columns(template: str) -> tuple[str, ...]:
    """The columns that a template names, in order.

    Raises:
        SourceInvalid: something else than a column's name stands in braces, or a brace is alone.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise SourceInvalid(f"template {template!r}: {error}; write `{{{{` and `}}}}` for braces") from None
    for _, column, form, conversion in parts:
        if column is not None and (form or conversion or not re.fullmatch(r"[A-Za-z_][\w -]*", column)):
            raise SourceInvalid(
                f"template {template!r}: found {{{column}}} with more than a name, expected {{column}} alone; "
                "write `{{` and `}}` for braces"
            )
    return tuple(column for _, column, _, _ in parts if column is not None)


def columns_of(layout: TemplateLayout) -> tuple[str, ...]:
    """The columns that a layout reads.

    Raises:
        SourceInvalid: a template has more in its braces than a column's name.
    """
    named = (*template_columns(layout.prompt), *template_columns(layout.completion))
    return tuple(dict.fromkeys((*named, *layout.allowed, *layout.required)))


def template_parser(layout: TemplateLayout) -> Callable[[Row], tuple[Message, ...]]:
    """The function from a row to its two turns.

    Raises:
        SourceInvalid: a template has more in its braces than a column's name.
    """
    columns = columns_of(layout)

    def parse(row: Row) -> tuple[Message, ...]:
        values = {column: text_in(row, column) for column in columns}
        for column in layout.required:
            if not values[column].strip():
                raise BrokenRow("empty", f"{column}: blank, expected text")
        for column, allowed in layout.allowed.items():
            if values[column] not in allowed:
                raise BrokenRow("label_unknown", f"{column}: {shown_label(values[column])}, not one of {len(allowed)}")
        return prompt_and_answer(layout.prompt.format_map(values), layout.completion.format_map(values))

    return parse


def template_proposal(rows: Sequence[Row]) -> str | None:
    """A `layout:` entry for rows of text columns: the longest one asks, the one of the fewest values answers."""
    texts = [name for name in (rows[0] if rows else ()) if all(isinstance(row.get(name), str) for row in rows)]
    usable = [name for name in texts if re.fullmatch(r"[A-Za-z_][\w -]*", name)]
    if len(usable) < 2:
        return None
    prompt = max(usable, key=lambda name: sum(len(str(row[name])) for row in rows))
    rest = [name for name in usable if name != prompt]
    answer = min(rest, key=lambda name: len({row[name] for row in rows}))
    lines = ["kind: template", 'system: ""', f'prompt: "{{{prompt}}}"', f'completion: "{{{answer}}}"']
    return "\n".join(["layout:", *(f"  {line}" for line in [*lines, f"required: [{prompt}, {answer}]", "allowed: {}"])])
