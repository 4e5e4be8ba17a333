"""nft text as nft's own grammar divides it: blocks, statements, and the lines they begin on [pure].

Unlike a reader of lines it takes whole tables on one line, anonymous sets over many lines and
commands (``add rule …``). A block that is never closed is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKENS = re.compile(r'"[^"\n]*"|#[^\n]*|\\\n|[{};\n]|[^"#{};\n\\]+|["\\]')
_FAMILY = r"(?:(?P<family>ip6?|inet|netdev|bridge|arp) )?"
_TABLE = re.compile(rf"(?:nft )?(?:add |create )?table {_FAMILY}(?P<table>[^\s{{}}]+)")
_INNER = re.compile(r"(?P<kind>chain|set|map) (?P<name>\S+)")
_OTHER = re.compile(r"(?:flowtable|counter|quota|limit|ct \w+|secmark|synproxy|meter|tunnel) \S+")
_CHAIN_COMMAND = re.compile(
    rf"(?:nft )?(?:add|create) (?P<kind>chain|set|map) {_FAMILY}(?P<table>\S+) (?P<name>\S+)"
)
_RULE_COMMAND = re.compile(
    rf"(?:nft )?(?:add|insert|create|replace) rule {_FAMILY}(?P<table>\S+) (?P<name>\S+)"
    r"(?: (?:handle|position|index) \d+)? (?P<rule>.+)"
)
_DEFINE = re.compile(r"(?:re)?define (\w+) ?= ?(.+)")
_VARIABLE = re.compile(r"\$(\w+)")
_QUOTED = re.compile(r"(?:nft )?'(.*)'")
_LONGEST_VALUE = 64
"""A variable with a longer value is left as it is: none of these is a mark."""


@dataclass(frozen=True, slots=True)
class Place:
    """The chain, set or map a statement stands in; ``kind`` is empty outside of every block."""

    family: str = "ip"
    table: str = ""
    kind: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: where it stands, its text on one line, its line (from 1)."""

    place: Place
    text: str
    line: int


def statements(text: str) -> Iterator[Statement]:
    """Yield the statements of a ruleset in their order, variables replaced.

    Raises ValueError that begins ``line N: `` where the text is broken or wants other files.
    """
    variables: dict[str, str] = {}
    for found in _divide(text):
        body = _VARIABLE.sub(lambda v: variables.get(v[1], v[0]), found.text)
        if defined := _DEFINE.fullmatch(body):
            if len(defined[2]) <= _LONGEST_VALUE:
                variables[defined[1]] = defined[2]
        elif not found.place.kind and body.startswith("include "):
            raise ValueError(
                f"line {found.line}: {body[:60]!r} is not followed; lint the output of "
                "'nft list ruleset', which is complete"
            )
        else:
            yield _command(found, body)


def _command(found: Statement, body: str) -> Statement:
    if quoted := _QUOTED.fullmatch(body):
        body = quoted[1]
    rule = _RULE_COMMAND.fullmatch(body) if not found.place.kind else None
    if rule is None:
        return Statement(found.place, body, found.line)
    place = Place(rule["family"] or "ip", rule["table"], "chain", rule["name"])
    return Statement(place, rule["rule"], found.line)


class _Divider:
    """Where the text has been read to: open blocks, and the statement that is being read."""

    def __init__(self) -> None:
        self.blocks: list[tuple[Place, int]] = []
        self.inline: list[int] = []
        self.words: list[str] = []
        self.line = self.begun = 1

    @property
    def place(self) -> Place:
        return self.blocks[-1][0] if self.blocks else Place()

    def add(self, token: str) -> None:
        if not self.words:
            self.begun = self.line
        self.words.append(token)

    def take(self) -> Iterator[Statement]:
        text = " ".join("".join(self.words).split())
        self.words.clear()
        if text:
            yield Statement(self.place, text, self.begun)

    def open(self) -> None:
        # Within a rule or a set every brace is one of elements, however many there are.
        inside = self.inline or self.place.kind
        place = None if inside else _block(self.place, " ".join("".join(self.words).split()))
        if place is None:
            self.inline.append(self.line)
            self.add("{")
        else:
            self.words.clear()
            self.blocks.append((place, self.line))

    def close(self) -> Iterator[Statement]:
        if self.inline:
            self.inline.pop()
            self.add("}")
            return
        yield from self.take()
        if not self.blocks:
            raise ValueError(f"line {self.line}: '}}' closes nothing; expected a '{{' before it")
        self.blocks.pop()


def _divide(text: str) -> Iterator[Statement]:
    reading = _Divider()
    for found in _TOKENS.finditer(text):
        token = found[0]
        if token == "{":
            reading.open()
        elif token == "}":
            yield from reading.close()
        elif token in (";", "\n") and not reading.inline:
            yield from reading.take()
        elif token in ('"', "\\"):
            raise ValueError(f"line {reading.line}: {token!r} that nothing ends; expected its pair")
        elif not token.startswith("#") and (reading.words or not token.isspace()):
            reading.add(" " if token in ("\n", "\\\n") else token)
        reading.line += token.count("\n")
    yield from reading.take()
    for line in [*reading.inline, *(line for _, line in reading.blocks)]:
        raise ValueError(f"line {line}: '{{' is never closed; expected '}}' before the end")


def _block(outer: Place, header: str) -> Place | None:
    """Return the place that a header opens, or None where the brace begins a set's elements."""
    if not outer.table:
        if table := _TABLE.fullmatch(header):
            return Place(table["family"] or "ip", table["table"])
        if command := _CHAIN_COMMAND.fullmatch(header):
            return Place(
                command["family"] or "ip", command["table"], command["kind"], command["name"]
            )
    elif not outer.kind:
        if inner := _INNER.fullmatch(header):
            return Place(outer.family, outer.table, inner["kind"], inner["name"])
        if _OTHER.fullmatch(header):
            return Place(outer.family, outer.table, "object", header)
    return None
