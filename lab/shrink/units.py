"""A scenario's rules as a flat list of lines that can be left out one by one [pure]."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from lab.native import nft_text
from lab.native.iptables_text import Change, changes
from lab.native.lines import lines
from lab.registry.software import Ruleset, Software

_DEFAULT = re.compile(r":\S+ (?!ACCEPT)[A-Z]+")
_TARGET = re.compile(r"(?:-j|--jump|-g|--goto) (\S+)")


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """One rule: which software, which of its rulesets, and the line's number in its text."""

    software: int
    ruleset: int
    line: int


def units(software: Iterable[Software]) -> tuple[Unit, ...]:
    """List every rule of every software in the order of installation."""
    return tuple(
        Unit(number, index, line)
        for number, entry in enumerate(software)
        for index, ruleset in enumerate(entry.rulesets)
        for line in _rule_lines(ruleset)
    )


def _rule_lines(ruleset: Ruleset) -> Iterator[int]:
    if ruleset.tool == "iptables":
        yield from (c.number for c in changes(ruleset.text) if _acts(c))
    elif ruleset.tool == "nft":
        yield from dict.fromkeys(rule.number for rule in nft_text.rules(ruleset.text))
    else:
        yield from (line.number for line in lines(ruleset.text))


def _acts(change: Change) -> bool:
    """Tell rules, and what becomes of packets by default, from lines that only make a chain."""
    return change.verb != "declare" or _DEFAULT.match(change.text) is not None


def only(software: Iterable[Software], kept: Iterable[Unit]) -> tuple[Software, ...]:
    """Return the software with no rules but ``kept``; chains that nothing needs go as well."""
    wanted = set(kept)
    return tuple(
        _trimmed(entry, {(u.ruleset, u.line) for u in wanted if u.software == number})
        for number, entry in enumerate(software)
    )


def _trimmed(entry: Software, kept: set[tuple[int, int]]) -> Software:
    used = _used_chains(entry, kept)
    rulesets = tuple(
        _trim(ruleset, {line for number, line in kept if number == index}, used)
        for index, ruleset in enumerate(entry.rulesets)
    )
    return replace(entry, rulesets=rulesets)


def _trim(ruleset: Ruleset, kept: set[int], used: set[tuple[str, str]]) -> Ruleset:
    spare = set(_rule_lines(ruleset)) - kept
    if ruleset.tool == "iptables":
        spare |= {
            change.number
            for change in changes(ruleset.text)
            if not _acts(change) and (change.table, change.chain) not in used
        }
    left = ["" if number in spare else text for number, text in enumerate(ruleset.text.split("\n"))]
    return replace(ruleset, text="\n".join(left))


def _used_chains(entry: Software, kept: set[tuple[int, int]]) -> set[tuple[str, str]]:
    """Return the chains in which a kept rule stands or to which one jumps."""
    used: set[tuple[str, str]] = set()
    for index, ruleset in enumerate(entry.rulesets):
        for change in changes(ruleset.text) if ruleset.tool == "iptables" else ():
            if change.verb != "declare" and (index, change.number) in kept:
                used.add((change.table, change.chain))
                used |= {(change.table, target) for target in _TARGET.findall(change.text)}
    return used
