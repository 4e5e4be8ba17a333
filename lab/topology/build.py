"""Build a topology: namespaces held by file descriptors, veth pairs, addresses and routes."""

from __future__ import annotations

import struct
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from lab.kernel.netns import Netns
from lab.kernel.route import Router
from lab.topology import encode
from lab.topology.hosts import Equipment, Host, Hosts, new_host
from lab.topology.plan import Interface, Link, Node, Topology
from lab.traffic.flow import Family

_LOOPBACK, _FIRST_INDEX = 1, 100
"""Between them is room for what modules of tunnels make in every namespace: tunl0 and others."""
_SOME_FD = 0x6C6162FD
"""Stands in an encoded batch for the descriptor of the namespace at a link's other end."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded rtnetlink requests for one node; ``indexes`` are its interfaces.

    ``far`` is the node at the other end of the link that they make, if any.
    """

    node: str
    content: bytes
    count: int
    indexes: tuple[int, ...] = ()
    far: str = ""


@dataclass(slots=True)
class Network:
    """A topology that exists: one namespace and one rtnetlink socket per node.

    Some nodes may be ``borrowed`` from ``hosts``, and go back there when all has ended well, each
    with its ``equipment`` if it has any.
    """

    topology: Topology
    family: Family
    home: Netns
    namespaces: dict[str, Netns] = field(default_factory=dict)
    routers: dict[str, Router] = field(default_factory=dict)
    hosts: Hosts | None = None
    borrowed: dict[Node, Host] = field(default_factory=dict)
    equipment: Mapping[str, Equipment] = field(default_factory=dict)
    ended_well: bool = False

    def device_names(self, node: str) -> dict[int, str]:
        """Map the interface indexes of a node to names."""
        numbered = _numbered(self.topology)
        return {_LOOPBACK: "lo"} | {n: i.name for i, n in numbered.items() if i.node == node}

    def equipped(self, node: str) -> bool:
        """Tell whether a node has come with its equipment."""
        return any(host.equipped for own, host in self.borrowed.items() if own.name == node)

    def close(self) -> None:
        """Let go of everything; the kernel destroys the namespaces that nobody borrowed."""
        names = {node.name for node in self.borrowed}
        own = [Host(n, self.routers[k]) for k, n in self.namespaces.items() if k not in names]
        for host in own:
            host.close()
        for node, host in self.borrowed.items():
            if self.hosts is not None and self.ended_well:
                devices = self.device_names(node.name).keys() - {_LOOPBACK}
                self.hosts.give_back(node, host, devices, self.equipment.get(node.name, ()))
            else:
                host.close()


def build(
    topology: Topology,
    family: Family,
    home: Netns,
    hosts: Hosts | None = None,
    ruled: Container[str] = (),
    equipment: Mapping[str, Equipment] | None = None,
) -> Network:
    """Make a topology; interfaces transmit when this returns.

    All namespaces are new, but for those of ``hosts`` if there are any, which stand for the nodes
    that are not ``ruled``: where nothing will be installed, or ``equipment`` only. The calling
    thread must be in ``home``, the lab's own namespace, and is there again afterwards. Raises
    OSError as the kernel says.
    """
    network = Network(topology, family, home, hosts=hosts, equipment=equipment or {})
    try:
        _namespaces(network, ruled)
        for batch in _batches(topology, family):
            network.routers[batch.node].send(_filled(batch, network), batch.count)
        for batch in _batches(topology, family):
            for index in batch.indexes:
                network.routers[batch.node].wait_until_up(index)
        if family == "ipv6":
            _wait_for_addresses(network)
    except BaseException:
        network.close()
        raise
    finally:
        home.enter()
    return network


def _filled(batch: Batch, network: Network) -> bytes:
    if not batch.far:
        return batch.content
    fd = network.namespaces[batch.far].fd
    return batch.content.replace(struct.pack("=I", _SOME_FD), struct.pack("=I", fd))


def _wait_for_addresses(network: Network) -> None:
    for link in network.topology.links:
        for end in (link.left, link.right):
            for address in end.addresses:
                if _is(address, "ipv6"):
                    router = network.routers[end.node]
                    router.wait_until_local(address.partition("/")[0])


def _namespaces(network: Network, ruled: Container[str]) -> None:
    for node in network.topology.nodes:
        if network.hosts is None or node.name in ruled:
            host = new_host(node, network.home)
        else:
            wanted = network.equipment.get(node.name, ())
            host = network.borrowed[node] = network.hosts.take(node, wanted)
        network.namespaces[node.name] = host.namespace
        network.routers[node.name] = host.router


def _numbered(topology: Topology) -> dict[Interface, int]:
    ends = [end for link in topology.links for end in (link.left, link.right)]
    return {end: _FIRST_INDEX + number for number, end in enumerate(ends)}


@lru_cache(maxsize=32)
def _batches(topology: Topology, family: Family) -> tuple[Batch, ...]:
    numbers = _numbered(topology)
    links = [_link_batch(link, numbers) for link in topology.links]
    return (
        *links,
        *(_node_batch(topology, node, family, numbers) for node in topology.node_names()),
    )


def _link_batch(link: Link, numbers: dict[Interface, int]) -> Batch:
    left, right = link.left, link.right
    content = encode.veth(left, numbers[left], right, numbers[right], _SOME_FD)
    return Batch(left.node, content, 1, far=right.node)


def _node_batch(
    topology: Topology, node: str, family: Family, numbers: dict[Interface, int]
) -> Batch:
    interfaces = topology.interfaces(node)
    index = {end.name: numbers[end] for end in interfaces}
    requests = [encode.up(_LOOPBACK)]
    for end in interfaces:
        requests.append(encode.up(numbers[end], arp=end.arp))
        requests += [encode.address(numbers[end], a) for a in end.addresses if _is(a, family)]
    requests += [
        encode.neighbour(index[n.device], n.address, n.mac)
        for n in topology.neighbours
        if n.node == node and _is(n.address, family)
    ]
    requests += [
        encode.route(index[r.device], r.to, r.via)
        for r in topology.routes
        if r.node == node and _is(r.to, family)
    ]
    return Batch(node, b"".join(requests), len(requests), tuple(index.values()))


def _is(address: str, family: Family) -> bool:
    return (":" in address) == (family == "ipv6")
