"""iptables-restore and iptables-save text: which rule stands where in which chain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lab.native.lines import Line, lines

BUILTIN = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
_COUNTERS = re.compile(r"^\[\d+:\d+\] *")
_CHANGE = re.compile(
    r"-(?P<verb>[AIDRNFXP]) (?P<chain>\S+)(?: (?P<position>\d+))?(?: (?P<spec>.*))?"
)
_STARTS = re.compile(
    r"""(?<!--comment)(?<!-prefix)[ \t]["']?"""
    r"""(?:-[46bfhnvwx]*M|--mo(?:d(?:p(?:r(?:o(?:be?)?)?)?)?)?(?=[ \t="']|$))"""
)
"""``-M`` and ``--modprobe`` in all their spellings; the value of a comment or prefix is none."""
_LONG = {
    "--append": "-A",
    "--insert": "-I",
    "--delete": "-D",
    "--replace": "-R",
    "--new-chain": "-N",
    "--flush": "-F",
    "--delete-chain": "-X",
    "--policy": "-P",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One line that changes a chain: ``append``, ``insert`` before ``position`` (from 1), …."""

    verb: Literal["append", "insert", "delete", "replace", "declare", "flush", "other"]
    table: str
    chain: str
    position: int
    spec: str
    text: str
    number: int
    source: str

    @property
    def only_names_built_in(self) -> bool:
        """Tell whether it declares a built-in chain with the policy that it has already."""
        built_in = self.verb == "declare" and self.chain in BUILTIN[self.table]
        return built_in and self.text.split()[1:2] in ([], ["-"], ["ACCEPT"])


_VERBS: dict[str, Literal["append", "insert", "delete", "replace", "declare", "flush", "other"]] = {
    "A": "append",
    "I": "insert",
    "D": "delete",
    "R": "replace",
    "N": "declare",
    "F": "flush",
}


def changes(text: str, source: str = "") -> Iterator[Change]:
    """Read restore text line by line.

    Raises ValueError, with the line's number (from 1) and what was expected, on anything that
    iptables-restore would not take as a table, chain or rule line.
    """
    table = ""
    for line in lines(text, source):
        body = _COUNTERS.sub("", line.text)
        if body.startswith("*"):
            table = _table(body, line.number)
        elif body == "COMMIT":
            table = ""
        elif not table:
            raise ValueError(f"line {line.number + 1}: {body!r} stands outside a *table")
        elif body.startswith(":"):
            chain = body[1:].split()[0] if body[1:].split() else ""
            yield Change("declare", table, chain, 0, "", body, line.number, line.source)
        else:
            yield _change(table, body, line.number, line.source)
    if table:
        raise ValueError(f"table {table!r} is never committed; expected a line COMMIT")


def _table(body: str, number: int) -> str:
    if body[1:] not in BUILTIN:
        raise ValueError(
            f"line {number + 1}: unknown table {body[1:]!r}; known: {', '.join(BUILTIN)}"
        )
    return body[1:]


def _change(table: str, body: str, number: int, source: str) -> Change:
    if found := _STARTS.search(body):
        raise ValueError(
            f"line {number + 1}: {found[0].strip()!r} is not allowed: it names a program that "
            "iptables starts; leave it out"
        )
    first, _, rest = body.partition(" ")
    found = _CHANGE.fullmatch(f"{_LONG.get(first, first)} {rest}")
    if not found:
        raise ValueError(f"line {number + 1}: {body!r} is not a rule; expected e.g. '-A CHAIN …'")
    position = int(found["position"]) if found["position"] else 1
    spec = found["spec"] or ""
    verb = _VERBS.get(found["verb"], "other")
    return Change(verb, table, found["chain"], position, spec, body, number, source)


def listed(text: str) -> Iterator[Change]:
    """Read what ``iptables -S`` prints, of one table or of several after one another.

    It names no table; the policies that it begins with are those of one table's chains. Raises
    ValueError with the line's number (from 1).
    """
    for part in _listings(text):
        table = _listed_table([line.text for line in part])
        yield from (_change(table, line.text, line.number, line.source) for line in part)


def _listings(text: str) -> Iterator[list[Line]]:
    """Divide at the policies: each table begins with them."""
    part: list[Line] = []
    for line in lines(text):
        if line.text.startswith("-P ") and part and not part[-1].text.startswith("-P "):
            yield part
            part = []
        part.append(line)
    yield part


def _listed_table(part: list[str]) -> str:
    chains = {words[1] for line in part if (words := line.split())[0] == "-P" and len(words) > 1}
    for table, own in BUILTIN.items():
        if chains == set(own):
            return table
    return "mangle" if chains & {"PREROUTING", "POSTROUTING"} else "filter"


def saved(text: str) -> dict[tuple[str, str], list[str]]:
    """Read iptables-save output: (table, chain) to its rules in order."""
    found: dict[tuple[str, str], list[str]] = {}
    table = ""
    for raw in text.splitlines():
        if raw.startswith("*"):
            table = raw[1:].strip()
        elif raw.startswith(":"):
            found.setdefault((table, raw[1:].split()[0]), [])
        elif raw.startswith("-A "):
            found.setdefault((table, raw.split()[1]), []).append(raw)
    return found
