"""Lines of native text with their numbers and sources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SOURCE = "#@"


@dataclass(frozen=True, slots=True)
class Line:
    """One meaningful line: its text, its number within the text (from 0) and its source."""

    text: str
    number: int
    source: str


def lines(text: str, source: str = "") -> Iterator[Line]:
    """Yield the lines that are neither empty nor comments.

    ``#@ path#L1`` gives the place of the lines after it; the repository and version come from
    ``source`` (``repository@version`` or ``repository@version:path``) unless it names its own.
    """
    origin = source.partition(":")[0] if "@" in source else ""
    current = source
    for number, raw in enumerate(text.split("\n")):
        stripped = raw.strip()
        if stripped.startswith(_SOURCE):
            place = stripped[len(_SOURCE) :].strip()
            current = place if "@" in place or not origin else f"{origin}:{place}"
        elif stripped and not stripped.startswith("#"):
            yield Line(stripped, number, current)


def placed(problem: str, file: str, first: int) -> str:
    """Turn ``line 3: …`` of a text into ``file:12: …``."""
    found = re.match(r"line (\d+): ", problem)
    if not found:
        return f"{file}: {problem}"
    return f"{file}:{first + int(found[1]) - 1}: {problem[found.end() :]}"
