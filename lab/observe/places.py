"""Which points of a node are read: before and after every priority at which something hooks in."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable

from lab.native.nft_text import base_chains
from lab.native.stages import SECURITY_NFT, XTABLES, stage
from lab.points import CONNTRACK, FIRST, HOOKS, LAST, Point
from lab.registry.software import Ruleset, Software

_ALWAYS = ("mangle", "filter")
_TRACKED = ("prerouting", "output")
_NETFILTER = HOOKS[1:-1]
_ENDS = (("prerouting", FIRST), ("input", LAST), ("output", FIRST), ("postrouting", LAST))


def points(node: str, software: Iterable[Software]) -> tuple[Point, ...]:
    """List the points to read on a node: before and after every stage that ``software`` uses.

    Between two stages nothing changes, so where an expectation looks there it is read nowhere
    else. Give all software of the scenario, so that one alone is read where all together are.
    """
    stages: dict[str, set[int]] = {hook: set() for hook in _NETFILTER}
    wanted: set[Point] = set()
    for table in _ALWAYS:
        _add_table(stages, table)
    for entry in software:
        for ruleset in entry.rulesets:
            _add(stages, ruleset)
        for flow in entry.flows:
            wanted |= {e.point for e in flow.expectations if e.point.node == node}
    for hook, priorities in stages.items():
        looked_at = {p.priority for p in wanted if p.hook == hook}
        wanted |= {Point(node, hook, p) for p in _between(hook, priorities, looked_at)}
    return tuple(sorted(wanted, key=Point.sort_key))


def _add(stages: dict[str, set[int]], ruleset: Ruleset) -> None:
    if ruleset.tool == "iptables":
        for line in ruleset.text.splitlines():
            if line.startswith("*"):
                _add_table(stages, line[1:].strip())
    elif ruleset.tool == "nft":
        for chain in base_chains(ruleset.text):
            nat = stage("nat", chain.hook) if chain.kind == "nat" else None
            if chain.hook in stages:
                stages[chain.hook].add(chain.priority if nat is None else nat)


def _add_table(stages: dict[str, set[int]], table: str) -> None:
    for hook, priority in XTABLES.get(table, {}).items():
        stages[hook].add(priority)
        if table == "security":
            stages[hook].add(SECURITY_NFT)


def ends(node: str) -> tuple[Point, ...]:
    """List where a packet comes into a node without rules, and where it ends or leaves."""
    return tuple(Point(node, hook, priority) for hook, priority in _ENDS)


def _between(hook: str, stages: set[int], wanted: set[int]) -> set[int]:
    """Return one priority before the first stage and one behind each, unless one is ``wanted``.

    The first of a tracked hook is always there: that is where packets begin to be traced.
    """
    tracked = hook in _TRACKED
    ordered = sorted(stages | ({CONNTRACK} if tracked else set()))
    first = FIRST if tracked else ordered[0] - 1
    read = {bisect(ordered, priority) for priority in wanted - stages}
    behind = {at + 1 for number, at in enumerate(ordered, 1) if number not in read}
    return behind | ({first} if tracked or 0 not in read else set())
