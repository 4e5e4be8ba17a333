"""What a topology consists of, before anything of it exists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Interface:
    """One end of a veth pair inside ``node``; ``addresses`` are in CIDR notation, both families.

    Without ``arp`` the device asks nobody for addresses, as a tun device does: both ends then
    have the same MAC.
    """

    node: str
    name: str
    mac: str
    addresses: tuple[str, ...] = ()
    mtu: int = 1500
    arp: bool = True


@dataclass(frozen=True, slots=True)
class Link:
    """A veth pair between two interfaces, possibly of one node."""

    left: Interface
    right: Interface


@dataclass(frozen=True, slots=True)
class Route:
    """A route of a node's main table; ``to`` is a prefix, ``via`` (on-link) may be empty."""

    node: str
    to: str
    device: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent neighbour entry: no packet waits for ARP or neighbour discovery."""

    node: str
    device: str
    address: str
    mac: str


@dataclass(frozen=True, slots=True)
class Node:
    """One network namespace and the sysctls that verdicts depend on."""

    name: str
    role: str
    sysctls: tuple[tuple[str, str], ...] = ()


Fact = tuple[str, str, str]
"""A placeholder's name, its IPv4 text and its IPv6 text."""


@dataclass(frozen=True, slots=True)
class Topology:
    """Namespaces, the veth pairs between them, and the facts that rules refer to by placeholder."""

    name: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    routes: tuple[Route, ...]
    neighbours: tuple[Neighbour, ...]
    facts: tuple[Fact, ...]

    def node_names(self) -> tuple[str, ...]:
        """List the node names, in building order."""
        return tuple(node.name for node in self.nodes)

    def facts_for(self, family: Literal["ipv4", "ipv6"]) -> dict[str, str]:
        """Return the placeholder texts of one address family."""
        return {name: v4 if family == "ipv4" else v6 for name, v4, v6 in self.facts}

    def interfaces(self, node: str) -> tuple[Interface, ...]:
        """List the interfaces of one node, in building order."""
        return tuple(i for link in self.links for i in (link.left, link.right) if i.node == node)
