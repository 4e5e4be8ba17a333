"""Everything an entry installs, as a flat list of statements to reason about [pure]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from lab.native.iptables_text import changes
from lab.native.lines import lines
from lab.native.nft_text import rules
from lab.registry.facts import facts
from lab.registry.placeholders import fill
from lab.registry.software import Ruleset, Software
from lab.topology import library
from lab.traffic.flow import Family


@dataclass(frozen=True, slots=True)
class Statement:
    """One rule, policy rule, route, program or sysctl: ``line`` is the line of ``file``.

    ``table`` is that of iptables or nft and empty for other tools.
    """

    software: str
    node: str
    tool: str
    table: str
    text: str
    file: str
    line: int


@cache
def statements(software: Software, family: Family) -> tuple[Statement, ...]:
    """List all that a software installs for an address family, with the facts filled in.

    The facts are those of the topology ``kubernetes-node``.
    """
    known = facts(software, library.find("kubernetes-node", software.pod_prefix or "veth"), family)
    found: list[Statement] = []
    for ruleset in software.rulesets:
        if family in ruleset.families:
            text = fill(ruleset.text, known, ruleset.file, ruleset.line)
            found += [
                Statement(
                    software.title,
                    ruleset.node,
                    ruleset.tool,
                    table,
                    body,
                    ruleset.file,
                    ruleset.line + number,
                )
                for table, body, number in _bodies(ruleset, text)
            ]
    return tuple(found)


def _bodies(ruleset: Ruleset, text: str) -> Iterator[tuple[str, str, int]]:
    if ruleset.tool == "iptables":
        for change in changes(text):
            if change.verb in ("append", "insert", "replace"):
                yield change.table, change.text, change.number
    elif ruleset.tool == "nft":
        for rule in rules(text):
            yield rule.table, rule.text, rule.number
    else:
        for line in lines(text):
            yield "", line.text, line.number
