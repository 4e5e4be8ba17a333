"""Who sends what to whom, and what the owner of the flow relies on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lab.marks import Mark
from lab.points import Point

Field = Literal["mark", "ctmark"]
Direction = Literal["request", "reply"]
Packets = Literal["all", "first", "later"]
Family = Literal["ipv4", "ipv6"]

FAMILIES: tuple[Family, ...] = ("ipv4", "ipv6")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an owner relies on at one point: ``word & mask == value`` of the packet mark or ctmark.

    ``packets`` narrows it to the first packet of its direction or to those after it. ``outer``
    means the packet of a tunnel that carries the flow's.
    """

    point: Point
    field: Field
    mark: Mark
    direction: Direction = "request"
    packets: Packets = "all"
    outer: bool = False

    def covers(self, ordinal: int) -> bool:
        """Tell whether the ``ordinal``-th packet (from 0) of its direction is meant."""
        return self.packets == "all" or (self.packets == "first") == (ordinal == 0)

    def __str__(self) -> str:
        which = "" if self.packets == "all" else f" ({self.packets} packet)"
        carrier = " of the tunnel's packet" if self.outer else ""
        return f"{self.direction} {self.point}: {self.field}{carrier} {self.mark}{which}"


@dataclass(frozen=True, slots=True)
class Flow:
    """One conversation of ``count`` packets each way, and the fate its owner relies on.

    ``to`` is an address, with placeholders until the topology's facts are filled in. A UDP flow
    that starts outside the node enters as a scapy packet; TCP, and whatever starts on the node
    itself or carries a ``socket_mark``, is sent by a real socket. ``answered_by`` names the node
    whose socket answers; empty means that the owner relies on the flow being dropped, although a
    socket of the node ``listens`` waits for it.
    ``seen_from`` is the source address the answering socket must see (empty: not relied upon).
    ``transparent`` sockets (IP_TRANSPARENT) may send from, and be given by TPROXY, an address that
    is not their node's. ``uid`` is the user whose socket sends, for rules that match the owner.
    """

    name: str
    sender: str
    to: str
    port: int
    protocol: Literal["udp", "tcp"] = "udp"
    answered_by: str = ""
    listens: str = ""
    answer_port: int = 0
    seen_from: str = ""
    source_address: str = ""
    socket_mark: int = 0
    transparent: bool = False
    uid: int = 0
    count: int = 3
    families: tuple[Family, ...] = FAMILIES
    summary: str = ""
    source: str = ""
    expectations: tuple[Expectation, ...] = ()

    @property
    def listener(self) -> str:
        """Name the node on which a socket waits for the flow; empty if none does."""
        return self.answered_by or self.listens

    @property
    def by_socket(self) -> bool:
        """Tell whether a real socket sends it, not a scapy packet."""
        local = self.sender == "node" or bool(self.socket_mark) or self.transparent
        return self.protocol == "tcp" or local or bool(self.uid)

    def __str__(self) -> str:
        return f"{self.name}: {self.sender} -> {self.to} {self.protocol}/{self.port}"
