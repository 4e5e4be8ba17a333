"""On which line of a TOML file each key stands [pure].

``tomllib`` does not say; entries are plain enough to find it again: one key a line, tables with
headers of their own, long texts between triple quotes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\"-]+)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*(\"?)([\w.-]+)\1\s*=\s*(.*)")
_QUOTES = ("'''", '"""')


def key_lines(source: str) -> dict[str, int]:
    """Map paths such as ``flow[2].relies[0].at`` to line numbers, from 1."""
    found: dict[str, int] = {}
    counted: Counter[str] = Counter()
    path = ""
    for number, line in _outside_of_texts(source):
        if header := _HEADER.fullmatch(line):
            path = _table_path(header[1] == "[[", header[2].replace('"', ""), counted)
            found.setdefault(path, number)
        elif key := _KEY.fullmatch(line):
            found.setdefault(f"{path}.{key[2]}" if path else key[2], number)
    return found


def line_of(path: str, lines: Mapping[str, int]) -> int:
    """Return the line of a key, or of the nearest table around it where the key is missing."""
    while path not in lines and path:
        path = path.rpartition(".")[0]
    return lines.get(path, 1)


def _table_path(repeated: bool, name: str, counted: Counter[str]) -> str:
    """Give ``flow.relies`` its numbers: those of the last ``flow``, and its own."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        above = f"{'.'.join(parts[:end])}[]"
        if above in counted:
            parts[end - 1] += f"[{counted[above] - 1}]"
    path = ".".join(parts)
    if not repeated:
        return path
    counted[f"{path}[]"] += 1
    return f"{path}[{counted[f'{path}[]'] - 1}]"


def _outside_of_texts(source: str) -> Iterator[tuple[int, str]]:
    quote = ""
    for number, line in enumerate(source.split("\n"), 1):
        if quote:
            quote = "" if quote in line else quote
            continue
        yield number, line
        quote = next((q for q in _QUOTES if line.count(q) % 2), "")
