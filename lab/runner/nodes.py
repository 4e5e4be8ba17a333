"""Which nodes of an experiment are made anew for it, and which are hosts that are used again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from functools import lru_cache
from typing import NamedTuple

from lab.native.lines import lines
from lab.registry.facts import facts
from lab.registry.placeholders import fill
from lab.scenario import Experiment
from lab.topology.hosts import Equipment
from lab.topology.plan import Topology

_OF_A_DEVICE = re.compile(r"(?:address|addr|neighbour|neigh|route) add (?:\S.* )?dev (\S+).*")
_MADE = re.compile(r"link add (?:name |dev )?(\S+)")
_GOES, _STAYS, _OTHER = "goes with a link's device", "stays without them", "something else"


class Sorted(NamedTuple):
    """The nodes of an experiment, by what is done with them for it.

    On ``ruled`` ones anybody of the scenario installs anything, the node itself is the first. Of
    these ``anew`` are made anew. On the others nobody writes a mark, and each network finds what
    it would make: either all that is installed there are addresses, neighbours and routes of their
    links' devices, and gone with these; or all of it is ``equipment``, the far end of a tunnel.
    """

    ruled: list[str]
    anew: list[str]
    equipment: dict[str, Equipment]


def sort_nodes(experiment: Experiment, topology: Topology) -> Sorted:
    """Tell what is to be done with which node. Raises EntryError for an unknown placeholder."""
    nodes = {r.node for s in experiment.beside for r in s.rulesets} - {"node"}
    ruled = ["node", *(name for name in topology.node_names() if name in nodes)]
    anew = ["node"]
    equipment: dict[str, Equipment] = {}
    for node in ruled[1:]:
        rulesets = list(_rulesets(experiment, topology, node))
        kinds = {kind for _, kind, _ in rulesets}
        if kinds == {_STAYS}:
            equipment[node] = tuple(text for here, _, text in rulesets if here)
        elif not kinds <= {_GOES}:
            anew.append(node)
    return Sorted(ruled, anew, {node: texts for node, texts in equipment.items() if texts})


def _rulesets(
    experiment: Experiment, topology: Topology, node: str
) -> Iterator[tuple[bool, str, str]]:
    """Yield the scenario's rulesets on a node: whether installed, their kind and their text."""
    devices = frozenset(end.name for end in topology.interfaces(node))
    installed = {software.title for software in experiment.software}
    for software in experiment.beside:
        rulesets = [r for r in software.rulesets if r.node == node]
        known = facts(software, topology, experiment.family) if rulesets else {}
        for ruleset in rulesets:
            if experiment.family in ruleset.families:
                text = fill(ruleset.text, known, ruleset.file, ruleset.line)
                yield software.title in installed, _kind(ruleset.tool, text, devices), text


@lru_cache(maxsize=256)
def _kind(tool: str, text: str, devices: frozenset[str]) -> str:
    if tool != "ip":
        return _OTHER
    written = [line.text for line in lines(text)]
    matches = map(_OF_A_DEVICE.fullmatch, written)
    if all(match is not None and match[1] in devices for match in matches):
        return _GOES
    own = {match[1] for match in map(_MADE.match, written) if match}
    return _STAYS if all(_lasts(line, own, devices) for line in written) else _OTHER


def _lasts(line: str, own: Set[str], devices: Set[str]) -> bool:
    """Tell whether a line is a policy rule, or on a device that was made there and on no other.

    A route that names no device is lost with the one that leads to its gateway.
    """
    words = set(line.split())
    return devices.isdisjoint(words) and (line.startswith("rule add ") or not own.isdisjoint(words))
