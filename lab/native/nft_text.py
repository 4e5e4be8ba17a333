"""nft ruleset text: its rules in order, and the base chains it registers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lab.native.lines import lines
from lab.points import PRIORITIES

_TABLE = re.compile(r"(?:(?:add|create) )?table (?:(?P<family>\w+) )?(?P<name>[\w-]+) ?\{?.*")
_CHAIN = re.compile(r"chain (?P<name>\S+) ?\{(?P<rest>.*)")
_COMMAND = re.compile(
    r"(?:add|insert|create) rule (?:(?P<family>ip6?|inet|netdev|bridge|arp) )?"
    r"(?P<table>\S+) (?P<chain>\S+) (?P<rule>.+)"
)
_BASE = re.compile(
    r"type (?P<type>\w+) hook (?P<hook>\w+)(?: devices? [^;]*?)?"
    r" priority (?P<base>[a-z]+|-?\d+)(?: ?(?P<sign>[+-]) ?(?P<offset>\d+))?"
)
_FORBIDDEN = re.compile(r"^\s*include\b", re.MULTILINE)
_BLOCK = re.compile(r"(?:set|map|flowtable|counter|quota|limit|ct|secmark|synproxy) .*\{$")


@dataclass(frozen=True, slots=True)
class NftRule:
    """One rule: the table and chain it goes to, its text and its line number (from 0).

    ``first`` tells that it is inserted before the rules already there.
    """

    family: str
    table: str
    chain: str
    text: str
    number: int
    source: str
    first: bool = False


@dataclass(frozen=True, slots=True)
class BaseChain:
    """Where a ruleset hooks into the packet path."""

    kind: str
    hook: str
    priority: int


def check(text: str) -> None:
    """Refuse what would make nft read other files. Raises ValueError."""
    if _FORBIDDEN.search(text):
        raise ValueError("'include' is not allowed: a ruleset must be complete in itself")


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

    Understands ``table … { chain … { rules } }`` with one rule per line (or ``;`` between rules)
    and ``add rule``/``insert rule`` commands. Blocks of other objects are passed over.
    """
    family = table = chain = ""
    depth_other = 0
    for line in lines(text, source):
        body = line.text
        if depth_other:
            depth_other += body.count("{") - body.count("}")
            continue
        if command := _COMMAND.fullmatch(body):
            yield NftRule(
                command["family"] or "ip",
                command["table"],
                command["chain"],
                command["rule"],
                line.number,
                line.source,
                body.startswith("insert"),
            )
            continue
        if not table and (found := _TABLE.fullmatch(body)):
            family, table = found["family"] or "ip", found["name"] if body.endswith("{") else ""
            continue
        if table and not chain and (found := _CHAIN.fullmatch(body)):
            chain, body = found["name"], found["rest"].strip()
        elif table and not chain and _BLOCK.fullmatch(body):
            depth_other = 1
            continue
        if chain:
            closed = _closes(body)
            for statement in _statements(body[:-1] if closed else body):
                yield NftRule(family, table, chain, statement, line.number, line.source)
            chain = "" if closed else chain
        elif body == "}":
            table = ""


def _closes(body: str) -> bool:
    return body.endswith("}") and body.count("}") > body.count("{")


def _statements(body: str) -> Iterator[str]:
    depth = 0
    quoted = False
    current = ""
    for character in body:
        quoted ^= character == '"'
        depth += (character == "{") - (character == "}")
        if character == ";" and not depth and not quoted:
            yield from _rule(current)
            current = ""
        else:
            current += character
    yield from _rule(current)


def _rule(text: str) -> Iterator[str]:
    stripped = text.strip()
    if stripped and not re.match(r"(type \w+ hook|policy |comment |#)", stripped):
        yield stripped
