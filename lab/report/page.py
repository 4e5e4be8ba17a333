"""Lines for a terminal: title bars, labelled rows, wrapping, colour only where it is wanted."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterable
from typing import IO

from rich.console import Console
from rich.text import Text

PIPED = 0
"""The width that stands for no terminal: nothing is wrapped, so that the output is stable."""
_BAR = 80
_WIDEST = 140
LABEL = 15


def width(stream: IO[str]) -> int:
    """Return the columns to wrap at, or PIPED."""
    if not stream.isatty():
        return PIPED
    return max(40, min(shutil.get_terminal_size().columns, _WIDEST))


def wants_colour(stream: IO[str]) -> bool:
    """Tell whether to colour: a terminal that can, and no NO_COLOR (https://no-color.org)."""
    capable = stream.isatty() and os.environ.get("TERM", "") != "dumb"
    return capable and not os.environ.get("NO_COLOR")


def show(lines: Iterable[Text], stream: IO[str]) -> None:
    """Write lines as they are, in colour where it is wanted."""
    coloured = wants_colour(stream)
    console = Console(
        file=stream,
        force_terminal=coloured,
        color_system="standard" if coloured else None,
        highlight=False,
        markup=False,
        emoji=False,
        width=1 << 14,
    )
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True)


def plain(lines: Iterable[Text]) -> str:
    """Return lines as text without colour."""
    return "".join(f"{line.plain.rstrip()}\n" for line in lines)


def bar(title: str, columns: int, style: str = "") -> Text:
    """Draw a title between dashes."""
    return Text(f" {title} ".center(columns or _BAR, "-"), style)


def wrapped(text: str, columns: int, style: str = "", indent: int = 0) -> list[Text]:
    """Break a text at spaces; later lines are indented."""
    if columns == PIPED or len(text) <= columns:
        return [Text(text, style)]
    parts = textwrap.wrap(
        text,
        columns,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [Text(part, style) for part in parts]


def row(label: str, text: str, columns: int, style: str = "") -> list[Text]:
    """Lay out ``  label        text``, wrapped under the text."""
    room = max(columns - LABEL, 20) if columns else PIPED
    lines = wrapped(text, room, style, indent=2)
    heads = [f"  {label:<{LABEL - 2}}"] + [" " * LABEL] * (len(lines) - 1)
    return [
        Text().append(head, "bold").append_text(line)
        for head, line in zip(heads, lines, strict=True)
    ]
