"""nft ruleset text: its rules in order, and the base chains it registers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lab.native.lines import lines
from lab.points import PRIORITIES

_TABLE = re.compile(r"(?:(?:add|create) )?table (?:(?P<family>\w+) )?(?P<name>\S+)")
_CHAIN = re.compile(r"chain (?P<name>\S+)")
_COMMAND_START = re.compile(r"\s*(?:add|insert|create) rule ")
_NO_RULE = re.compile(r"type \w+ hook |policy |comment ")
_COMMAND = re.compile(
    r"(?:add|insert|create) rule (?:(?P<family>ip6?|inet|netdev|bridge|arp) )?"
    r"(?P<table>\S+) (?P<chain>\S+) (?:index (?P<index>\d+) )?(?P<rule>.+)"
)
_BASE = re.compile(
    r"type (?P<type>\w+) hook (?P<hook>\w+)(?: devices? [^;]*?)?"
    r" priority (?P<base>[a-z]+|-?\d+)(?: ?(?P<sign>[+-]) ?(?P<offset>\d+))?"
)
_PLACEHOLDER = re.compile(r"\{\{ *[\w.-]+ *\}\}")
_HIDDEN = re.compile(r"placeholder(\d+)_")
_FORBIDDEN = re.compile(r"(?:^|[;{}])\s*include\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class NftRule:
    """One rule: the table and chain it goes to, its text and its line number (from 0).

    ``position`` is the place before which it is inserted, from 1; 0 is the end of the chain.
    """

    family: str
    table: str
    chain: str
    text: str
    number: int
    source: str
    position: int = 0


@dataclass(frozen=True, slots=True)
class BaseChain:
    """Where a ruleset hooks into the packet path."""

    kind: str
    hook: str
    priority: int


def check(text: str) -> None:
    """Refuse what would make nft read other files. Raises ValueError with the line (from 1)."""
    if found := _FORBIDDEN.search(text):
        line = text.count("\n", 0, found.end()) + 1
        raise ValueError(
            f"line {line}: 'include' is not allowed: a ruleset must be complete in itself"
        )


def base_chains(text: str) -> tuple[BaseChain, ...]:
    """List the base chains a ruleset registers."""
    found = []
    for match in _BASE.finditer(text):
        base = match["base"]
        number = PRIORITIES[base] if base in PRIORITIES else int(base)
        offset = int(match["offset"] or 0)
        number += -offset if match["sign"] == "-" else offset
        found.append(BaseChain(match["type"], match["hook"], number))
    return tuple(found)


def rules(text: str, source: str = "") -> Iterator[NftRule]:
    """Yield the rules in the order nft adds them.

    Understands ``table … { chain … { rules } }``, on one line or many, and the commands
    ``add rule`` and ``insert rule``. Blocks of other objects are passed over.
    """
    sources = {line.number: line.source for line in lines(text, source)}
    hidden, shown = _hide_placeholders(text)
    for blocks, statement, number in _Reader(hidden):
        found = _rule(blocks, statement)
        if found is not None:
            *words, position = found
            family, table, chain, rule = (shown(word) for word in words)
            where = sources.get(number, source)
            yield NftRule(family, table, chain, rule, number, where, position)


def _hide_placeholders(text: str) -> tuple[str, Callable[[str], str]]:
    """Put words in the place of ``{{ name }}``, whose braces are no blocks, and a way back."""
    names: list[str] = []

    def hide(found: re.Match[str]) -> str:
        names.append(found[0])
        return f"placeholder{len(names) - 1}_"

    def show(words: str) -> str:
        return _HIDDEN.sub(lambda found: names[int(found[1])], words)

    return _PLACEHOLDER.sub(hide, text), show


def _rule(blocks: tuple[str, ...], statement: str) -> tuple[str, str, str, str, int] | None:
    if not blocks:
        command = _COMMAND.fullmatch(statement)
        if command is None:
            return None
        family, table, chain, rule = command.group("family", "table", "chain", "rule")
        return family or "ip", table, chain, rule, _position(statement, command["index"])
    table_header = _TABLE.fullmatch(blocks[0])
    chain_header = _CHAIN.fullmatch(blocks[1]) if len(blocks) == 2 else None
    if table_header is None or chain_header is None or _NO_RULE.match(statement):
        return None
    family, table = table_header["family"] or "ip", table_header["name"]
    return family, table, chain_header["name"], statement, 0


def _position(statement: str, index: str | None) -> int:
    """Tell before which rule a command puts its own, from 1; nft counts from 0."""
    if statement.startswith("insert"):
        return int(index or 0) + 1
    return int(index) + 2 if index else 0


class _Reader:
    """Statements of nft text, each with the blocks it stands in and its line (from 0)."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._blocks: list[str] = []
        self._words = ""
        self._start = 0
        self._line = 0
        self._depth = 0  # of braces that belong to the statement: sets and maps
        self._quoted = False

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], str, int]]:
        skipping = False
        for previous, character in zip("\n" + self._text, self._text + "\n", strict=True):
            skipping = (skipping or (character == "#" and not self._quoted)) and character != "\n"
            if not skipping:
                yield from self._take(character, previous)
            self._line += character == "\n"

    def _take(self, character: str, previous: str) -> Iterator[tuple[tuple[str, ...], str, int]]:
        self._quoted ^= character == '"'
        inside = self._depth > 0 or self._quoted
        if character == "\n" and (inside or previous == "\\"):
            self._words = self._words.rstrip("\\") + " "
        elif character in "\n;" and not inside:
            yield from self._end()
        elif character == "{" and not inside and not self._is_rule():
            self._blocks.append(" ".join(self._words.split()))
            self._words = ""
        elif character == "}" and not inside:
            yield from self._end()
            del self._blocks[-1:]
        else:
            self._add(character)

    def _add(self, character: str) -> None:
        if not self._quoted:
            self._depth += (character == "{") - (character == "}")
        if not self._words.strip():
            self._start = self._line
        self._words += character

    def _is_rule(self) -> bool:
        in_chain = len(self._blocks) == 2 and self._blocks[1].startswith("chain ")
        return in_chain or (not self._blocks and bool(_COMMAND_START.match(self._words)))

    def _end(self) -> Iterator[tuple[tuple[str, ...], str, int]]:
        statement = self._words.strip()
        self._words, self._depth = "", 0
        if statement:
            yield tuple(self._blocks), statement, self._start
