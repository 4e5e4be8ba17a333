"""One party's part of a host's files, as rulesets whose lines stand where they stood [pure]."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lab.capture.listed import Item
from lab.capture.mapping import Mapping as Roles
from lab.capture.parse import COUNTERS, joined, plain
from lab.native.iptables_text import BUILTIN
from lab.registry.software import Ruleset
from lab.traffic.flow import FAMILIES, Family

_TABLE = re.compile(r"table (?P<name>\S+ \S+) \{")
_OBJECT = re.compile(r"\t(?P<kind>chain|set|map|\S+) (?P<name>\S+)(?: .*)?\{")
_POLICY = re.compile(r" policy drop;")
_NAMED = re.compile(r"@([\w.-]+)")
_JUMPS = re.compile(r"\b(?:jump|goto) ([\w./-]+)")


def iptables(where: str, text: str, items: Sequence[Item], mapping: Roles) -> Ruleset:
    """Return the lines of one iptables-save file that are ``items``, with the chains they need."""
    wanted = {item.line: item for item in items}
    tables = {item.table for item in items}
    chains = {(i.table, i.chain) for i in items} | {(i.table, i.jump) for i in items if i.jump}
    lines: list[str] = []
    table = ""
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if line.startswith("*"):
            table = line[1:]
        name = line[1:].split(" ")[0] if line.startswith(":") else ""
        made = bool(name) and name not in BUILTIN[table] and (table, name) in chains
        if number in wanted:
            lines.append(mapping.applied("iptables", plain(COUNTERS.sub("", line))))
        elif made:
            lines.append(f":{name} - [0:0]")
        else:
            kept = table in tables and (line.startswith("*") or line == "COMMIT")
            lines.append(line if kept else "")
    first = items[0]
    families = FAMILIES if first.family is None else (first.family,)
    return Ruleset("iptables", "\n".join(lines), "node", families, file=where, listed=True)


def nft(
    where: str, text: str, items: Sequence[Item], everyone: Sequence[Item], mapping: Roles
) -> Iterator[Ruleset]:
    """Yield what makes a party's tables, chains and sets, then its rules, one to a line.

    ``everyone`` holds the rules of all parties: those of others are left out.
    """
    lines = list(joined(text.split("\n")))
    yield _skeleton(where, lines, items, everyone, mapping)
    rules = [""] * len(lines)
    for item in (one for one in items if one.kind == "nft"):
        mapped = mapping.applied("nft", plain(item.text))
        rules[item.line - 1] = f"add rule {item.table} {item.chain} {mapped}"
    yield Ruleset("nft", "\n".join(rules), families=_families(items), file=where, listed=True)


def _families(items: Sequence[Item]) -> tuple[Family, ...]:
    found = {item.family for item in items}
    return tuple(f for f in FAMILIES if None in found or f in found)


def _skeleton(
    where: str,
    lines: Sequence[str],
    items: Sequence[Item],
    everyone: Sequence[Item],
    mapping: Roles,
) -> Ruleset:
    tables = {item.table for item in items}
    mine = {item.line for item in items}
    shared = tables & {item.table for item in everyone if item.line not in mine}
    needed = _needed(lines, items)
    rules = {item.line for item in everyone if item.kind == "nft"}
    defaults = {item.line for item in items if item.kind == "default"}
    kept, table, inner = [], "", ""
    for number, line in enumerate(lines, 1):
        if found := _TABLE.match(line):
            table, inner = found["name"], ""
        elif found := _OBJECT.match(line):
            inner = found["name"]
        wanted = table in tables and number not in rules
        if wanted and table in shared and inner:
            wanted = (table, inner) in needed
        if number not in defaults:
            line = _POLICY.sub("", line)
        kept.append(mapping.applied("nft", plain(line)) if wanted else "")
        if line == "\t}":
            inner = ""
        if line == "}":
            table = ""
    return Ruleset("nft", "\n".join(kept), families=_families(items), file=where)


def _needed(lines: Sequence[str], items: Sequence[Item]) -> set[tuple[str, str]]:
    """Return the chains and sets that rules stand in or name, and those that these maps name."""
    needed = {(i.table, i.chain) for i in items}
    for item in items:
        names = (*_NAMED.findall(item.text), *_JUMPS.findall(item.text))
        needed |= {(item.table, name) for name in names}
    table = inner = ""
    for line in lines:
        if found := _TABLE.match(line):
            table = found["name"]
        elif found := _OBJECT.match(line):
            inner = found["name"]
        elif (table, inner) in needed:
            needed |= {(table, name) for name in _JUMPS.findall(line)}
    return needed


def sets(items: Sequence[Item], declared: str, entry: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return lines that make the sets of ipset which rules name, and the names of empty ones.

    ``entry`` are an entry's own lines, which say what is in its sets; ``declared`` is what the
    host has, without members.
    """
    lines: list[str] = []
    empty: list[str] = []
    for name, flags in _used(items):
        known = [line for line in entry if line.split()[1:2] == [name]]
        if not known:
            empty.append(name)
            known = [x for x in declared.split("\n") if x.startswith(f"create {name} ")]
        lines += [f"{line} -exist" for line in known or [_made(name, flags, items[0])]]
    return lines, empty


def _used(items: Sequence[Item]) -> Iterator[tuple[str, str]]:
    found: dict[str, str] = {}
    for item in items:
        for part in item.normal:
            if part[0].endswith("--match-set") and len(part) > 2:
                found.setdefault(part[1], part[2])
    yield from found.items()


def _made(name: str, flags: str, item: Item) -> str:
    inet = "inet6" if item.family == "ipv6" else "inet"
    return f"create {name} hash:{','.join(['net'] * len(flags.split(',')))} family {inet}"
