"""Packets as bytes, built by scapy, and the tag by which each is known everywhere.

A tag is twelve bytes: magic, flow number, direction, ordinal, and six zero bytes; it begins the
payload, where no NAT reaches it.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from lab.topology.hops import Hop
from lab.traffic.flow import Direction

_TAG = struct.Struct("!HHBB6x")
_UDP_HEADER = struct.Struct("!HHHH")
MAGIC = 0xF3A7
TAG_BYTES = _TAG.size
_TCP, _UDP = 6, 17
_CARRIERS = {_UDP: 30, 4: 0, 41: 0, 47: 4}
"""Bytes between the outer IP header's end and the packet inside."""
_LEAST = 28  # an IPv4 and a UDP header
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_DIRECTIONS: tuple[Direction, ...] = ("request", "reply")


def tag(flow: int, direction: Direction, ordinal: int) -> bytes:
    """Write the tag of one packet; ``ordinal`` counts from 0 per direction."""
    return _TAG.pack(MAGIC, flow, _DIRECTIONS.index(direction), ordinal)


def read_tag(packet: bytes) -> tuple[int, Direction, int] | None:
    """Read (flow, direction, ordinal) back; None where the bytes are no tag."""
    if len(packet) < _TAG.size:
        return None
    magic, flow, direction, ordinal = _TAG.unpack_from(packet)
    if magic != MAGIC or direction >= len(_DIRECTIONS):
        return None
    return flow, _DIRECTIONS[direction], ordinal


def inside(transport: bytes, protocol: int) -> bytes:
    """Return the 12 bytes that identify the packet in a tunnel's packet; empty if it has none.

    ``transport`` is what follows the outer IP header, of IP protocol ``protocol``: Ethernet in UDP
    (vxlan, geneve), IP in IP or GRE.
    """
    packet = transport[_CARRIERS.get(protocol, len(transport)) :]
    if len(packet) < _LEAST:
        return b""
    four = packet[0] >> 4 == 4
    size, inner = (20, packet[9]) if four else (40, packet[6])
    start = size + (4 if inner == _TCP else 8)
    found = packet[start : start + TAG_BYTES]
    known = inner == _TCP or read_tag(found) is not None
    return found if known and len(found) == TAG_BYTES else b""


def frame(hop: Hop, packet: bytes) -> bytes:
    """Put an IP packet into the Ethernet frame that carries it over its first hop."""
    return _ethernet(hop, _ETHERTYPES[packet[0] >> 4]) + packet


@lru_cache(maxsize=256)
def _ethernet(hop: Hop, kind: int) -> bytes:
    from scapy.layers.l2 import Ether

    return bytes(Ether(src=hop.source, dst=hop.target, type=kind))


def udp(source: str, destination: str, sport: int, dport: int, payload: bytes) -> bytes:
    """Build a UDP packet from the IP header on.

    scapy takes a millisecond for one, so it builds each kind once, from port 0 and with zeros in
    it; port and payload are filled in, and the checksum is brought up to date (RFC 1624).
    """
    blank = _blank_udp(source, destination, dport, len(payload))
    start = len(blank) - len(payload) - _UDP_HEADER.size
    _, _, length, checksum = _UDP_HEADER.unpack_from(blank, start)
    even = payload + bytes(len(payload) % 2)
    total = (~checksum & 0xFFFF) + sport + sum(struct.unpack(f"!{len(even) // 2}H", even))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    header = _UDP_HEADER.pack(sport, dport, length, ~total & 0xFFFF or 0xFFFF)
    return blank[:start] + header + payload


@lru_cache(maxsize=4096)
def _blank_udp(source: str, destination: str, dport: int, size: int) -> bytes:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6

    network = (
        IPv6(src=source, dst=destination) if ":" in source else IP(src=source, dst=destination)
    )
    return bytes(network / UDP(sport=0, dport=dport) / bytes(size))
