"""Placeholders ``{{ name }}`` in native text: facts of the topology and of the entry."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lab.errors import EntryError

_PLACEHOLDER = re.compile(r"\{\{ *([a-z][\w.-]*) *\}\}")


def fill(text: str, facts: Mapping[str, str], where: str, first_line: int = 1) -> str:
    """Replace every placeholder; lines keep their number.

    An unknown name is an EntryError that names ``where``, the line and the known names.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in facts:
            line = first_line + text.count("\n", 0, found.start())
            known = ", ".join(sorted(facts))
            raise EntryError(f"{where}:{line}: unknown placeholder {found[1]!r}; known: {known}")
        return facts[found[1]]

    return _PLACEHOLDER.sub(value, text)


def names(text: str) -> set[str]:
    """List the placeholder names in a text."""
    return set(_PLACEHOLDER.findall(text))
