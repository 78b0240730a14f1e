"""The completions of a source with a closed set of labels: those that its template makes of the allowed values."""

import re
from collections.abc import Mapping, Sequence
from string import Formatter

from tasks.params_data import Source, TemplateLayout
from tasks.records import Example


class LabelSets:
    """For every source whose template fills its completion from `allowed` values, the pattern of its completions."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._patterns: Mapping[str, re.Pattern[str]] = {
            source.name: completion_pattern(source.layout)
            for source in sources
            if isinstance(source.layout, TemplateLayout) and has_labels(source.layout)
        }

    def knows(self, example: Example) -> bool:
        """Whether the completion is one of its source's; a source without a set of labels may answer anything."""
        pattern = self._patterns.get(example.source)
        return pattern is None or pattern.fullmatch(example.completion) is not None


def has_labels(layout: TemplateLayout) -> bool:
    """Whether a column of the completion is restricted to some values."""
    return any(column in layout.allowed for _, column, _, _ in Formatter().parse(layout.completion) if column)


def completion_pattern(layout: TemplateLayout) -> re.Pattern[str]:
    """What a completion of the layout looks like; a column that is not restricted may hold anything."""
    parts = []
    for text, column, _, _ in Formatter().parse(layout.completion):
        parts.append(re.escape(text))
        if column is not None:
            values = layout.allowed.get(column)
            parts.append("(?s:.*)" if values is None else f"(?:{'|'.join(map(re.escape, values))})")
    return re.compile("".join(parts))
