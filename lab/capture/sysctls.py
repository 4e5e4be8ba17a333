"""A host's own sysctls, as those of the node in every run, alone and together [pure]."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lab.capture import mapping as maps
from lab.capture.listed import Item
from lab.capture.mapping import Mapping
from lab.topology import library

_OF_DEVICE = re.compile(r"(?P<kind>net\.ipv[46]\.conf)\.(?P<device>[^.]+)\.(?P<name>\w+)")
_OTHERS = re.compile(r"net\.ipv[46]\.(?!conf\.)\w+")
_EVERYWHERE = ("all", "default", "lo")


def settings(items: Sequence[Item], mapping: Mapping, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the sysctls that have a place in the topology and differ from what it has anyway.

    Pods' interfaces are named with ``prefix``. Those of interfaces that nothing stands for are
    passed over.
    """
    topology = library.find("kubernetes-node", prefix)
    facts = topology.facts_for("ipv4")
    ours = {
        name: facts[maps.DEVICES[role].strip("{} ")]
        for name, role in mapping.devices
        if role in _ONE
    }
    ours |= {name: name for name in _EVERYWHERE}
    known = dict(next(node for node in topology.nodes if node.name == "node").sysctls)
    for item in items:
        ((name, value),) = item.normal
        found = _OF_DEVICE.fullmatch(name)
        if found and found["device"] in ours:
            name = f"{found['kind']}.{ours[found['device']]}.{found['name']}"
        elif not _OTHERS.fullmatch(name):
            continue
        if value != _usual(name, known):
            yield name, value


_ONE = ("uplink", "lan", "tunnel", "pod-a", "pod-b")


def _usual(name: str, known: dict[str, str]) -> str:
    """Return what a sysctl of the node is when nothing has set it."""
    if name in known:
        return known[name]
    found = _OF_DEVICE.fullmatch(name)
    if found is None:
        return "0"
    if found["name"] == "forwarding":
        return "1"
    usual = known.get(f"{found['kind']}.default.{found['name']}", "0")
    return "0" if found["device"] == "all" else usual
