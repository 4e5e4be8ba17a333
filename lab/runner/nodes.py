"""Which nodes of an experiment are made anew for it, and which are hosts that are used again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Set

from lab.native.lines import lines
from lab.registry.facts import facts
from lab.registry.placeholders import fill
from lab.registry.software import Ruleset, Software
from lab.scenario import Experiment
from lab.topology.hosts import Equipment
from lab.topology.plan import Topology

_OF_A_DEVICE = re.compile(r"(?:address|addr|neighbour|neigh|route) add (?:\S.* )?dev (\S+).*")
_MADE = re.compile(r"link add (?:name |dev )?(\S+)")
_GOES, _STAYS, _OTHER = "goes with a link's device", "stays without them", "something else"


def ruled_nodes(experiment: Experiment, topology: Topology) -> list[str]:
    """List the nodes on which anybody of the scenario installs anything, the node itself first."""
    nodes = {r.node for s in experiment.beside for r in s.rulesets}
    return [n for n in topology.node_names() if n in nodes or n == "node"]


def new_nodes(experiment: Experiment, topology: Topology) -> list[str]:
    """List those of the ruled nodes that are made anew, the node itself first.

    On the others nobody writes a mark, and each network finds what it would make. Either all that
    is installed there are addresses, neighbours and routes of their links' devices, and gone with
    these; or all of it is ``equipment``.
    """
    ruled = ruled_nodes(experiment, topology)
    return [n for n in ruled if n == "node" or not _is_host(experiment, topology, n)]


def equipment(experiment: Experiment, topology: Topology) -> dict[str, Equipment]:
    """Map hosts to the lines of ip that last there, ruleset by ruleset: the far end of a tunnel."""
    hosts = set(ruled_nodes(experiment, topology)) - set(new_nodes(experiment, topology))
    found = {host: _lasting(experiment, topology, host) for host in hosts}
    return {host: texts for host, texts in found.items() if texts}


def _is_host(experiment: Experiment, topology: Topology, node: str) -> bool:
    kinds = {kind for kind, _ in _rulesets(experiment.beside, experiment, topology, node)}
    return kinds <= {_GOES} or kinds == {_STAYS}


def _lasting(experiment: Experiment, topology: Topology, node: str) -> Equipment:
    found = _rulesets(experiment.software, experiment, topology, node)
    return tuple(text for kind, text in found if kind == _STAYS)


def _rulesets(
    party: Iterable[Software], experiment: Experiment, topology: Topology, node: str
) -> list[tuple[str, str]]:
    """List the rulesets of some software on a node: their kind and their text."""
    devices = {end.name for end in topology.interfaces(node)}
    found = []
    for software in party:
        rulesets = [r for r in software.rulesets if r.node == node]
        known = facts(software, topology, experiment.family) if rulesets else {}
        for ruleset in rulesets:
            if experiment.family in ruleset.families:
                text = fill(ruleset.text, known, ruleset.file, ruleset.line)
                found.append((_kind(ruleset, text, devices), text))
    return found


def _kind(ruleset: Ruleset, text: str, devices: Set[str]) -> str:
    if ruleset.tool != "ip":
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
