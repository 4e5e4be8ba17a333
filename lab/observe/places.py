"""Which points of a node are read: behind every stage at which something is done to packets."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterable, Iterator
from functools import lru_cache

from lab.native.iptables_text import changes
from lab.native.nft_text import base_chains
from lab.native.stages import SECURITY_NFT, stage
from lab.points import COMES_IN, CONNTRACK, FIRST, HOOKS, LAST, Point
from lab.registry.software import Software

_NETFILTER = HOOKS[1:-1]
_ENDS = (("prerouting", FIRST), ("input", LAST), ("output", FIRST), ("postrouting", LAST))
_CTMARK = re.compile(r"\b(connmark|ct mark)\b", re.IGNORECASE)
Stage = tuple[str, int]
"""A hook and a priority at which something hooks in."""


def points(node: str, software: Iterable[Software]) -> tuple[Point, ...]:
    """List the points to read on a node: behind every stage at which ``software`` does anything.

    Between two stages nothing changes, nor from one hook to the next. So a packet is read before
    the first stage only where it comes in; and where an expectation looks between two stages, it
    is read nowhere else. Give all software of the scenario, so that one alone is read where all
    together are.
    """
    stages: dict[str, set[int]] = {hook: set() for hook in _NETFILTER}
    wanted: set[Point] = set()
    for entry in software:
        for ruleset in (r for r in entry.rulesets if r.node == node):
            for hook, priority in _stages(ruleset.tool, ruleset.text):
                stages[hook].add(priority)
        for flow in entry.flows:
            wanted |= {e.point for e in flow.expectations if e.point.node == node}
    for hook, priorities in stages.items():
        looked_at = {p.priority for p in wanted if p.hook == hook}
        wanted |= {Point(node, hook, p) for p in _between(hook, priorities, looked_at)}
    return tuple(sorted(wanted, key=Point.sort_key))


@lru_cache(maxsize=1024)
def _stages(tool: str, text: str) -> frozenset[Stage]:
    if tool not in ("iptables", "nft"):
        return frozenset()
    try:
        found = set(_of_tables(text) if tool == "iptables" else _of_chains(text))
    except ValueError:
        return frozenset()  # whoever installs it says what is wrong
    if _CTMARK.search(text):  # with which ctmark a packet comes is read before it is written
        found |= {(hook, CONNTRACK) for hook in COMES_IN}
    return frozenset(found)


def _of_tables(text: str) -> Iterator[Stage]:
    """Yield the stages of the built-in chains that get a rule, or a policy that drops."""
    for change in changes(text):
        hook = change.chain.lower()
        priority = stage(change.table, hook)
        if priority is None or change.only_names_built_in:
            continue
        yield hook, priority
        if change.table == "security":
            yield hook, SECURITY_NFT


def _of_chains(text: str) -> Iterator[Stage]:
    for chain in base_chains(text):
        nat = stage("nat", chain.hook) if chain.kind == "nat" else None
        if chain.hook in _NETFILTER:
            yield chain.hook, chain.priority if nat is None else nat


def ends(node: str) -> tuple[Point, ...]:
    """List where a packet comes into a node without rules, and where it ends or leaves."""
    return tuple(Point(node, hook, priority) for hook, priority in _ENDS)


def _between(hook: str, stages: set[int], wanted: set[int]) -> set[int]:
    """Return one priority behind each stage, unless one is ``wanted`` before the next.

    In every hook there is one. Where packets come in, they begin to be traced at the first.
    """
    ordered = sorted(stages)
    read = {bisect(ordered, priority) for priority in wanted - stages}
    behind = {at + 1 for number, at in enumerate(ordered, 1) if number not in read}
    if hook in COMES_IN and ordered[:1] != [CONNTRACK] and 0 not in read:
        return behind | {FIRST}
    return behind or (set() if wanted else {LAST})
