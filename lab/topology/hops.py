"""The device by which a packet leaves a node, and the MAC address it goes to, from the plan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_interface, ip_network

from lab.topology.plan import Interface, Topology


@dataclass(frozen=True, slots=True)
class Hop:
    """The link layer of a packet's first step: device, own MAC address and the next one's."""

    device: str
    source: str
    target: str


@lru_cache(maxsize=1024)
def first_hop(topology: Topology, node: str, destination: str) -> Hop | None:
    """Find the first hop from ``node``, by the longest prefix; None where the plan has no route."""
    devices = {interface.name: interface for interface in topology.interfaces(node)}
    found = max(_matching(topology, node, destination), default=None)
    if found is None:
        return None
    _, device, via = found
    interface = devices[device]
    target = _mac(topology, interface, via or destination)
    return Hop(device, interface.mac, target) if target else None


def _matching(topology: Topology, node: str, destination: str) -> list[tuple[int, str, str]]:
    address = ip_address(destination)
    routes = [(r.to, r.device, r.via) for r in topology.routes if r.node == node]
    connected = [
        (str(ip_interface(text).network), interface.name, "")
        for interface in topology.interfaces(node)
        for text in interface.addresses
    ]
    return [
        (prefix.prefixlen, device, via)
        for prefix, device, via in ((ip_network(to), d, v) for to, d, v in routes + connected)
        if address.version == prefix.version and address in prefix
    ]


def _mac(topology: Topology, interface: Interface, neighbour: str) -> str:
    if not interface.arp:
        return interface.mac
    return next(
        (
            n.mac
            for n in topology.neighbours
            if (n.node, n.device, n.address) == (interface.node, interface.name, neighbour)
        ),
        "",
    )
