"""Frames from outside, as bytes built by scapy and sent by a packet socket."""

from __future__ import annotations

import fcntl
import socket
import struct
from functools import lru_cache
from typing import Any

from lab.boundary.acts import PAYLOAD, Frame
from lab.boundary.stage import Stage

_SO_MARK, _SOL_PACKET, _QDISC_BYPASS, _SIOCGIFHWADDR = 36, 263, 20, 0x8927
_PIECE = 24
"""Bytes of a fragment: the 8 of the UDP header and a 64-byte payload make three."""


def send(stage: Stage, act: Frame) -> None:
    """Send one frame, or its fragments in the order that was asked for."""
    home = stage.network.home
    with stage.network.namespaces[act.to_node].inside(home):
        destination = hardware_address(act.to_device)
    with stage.network.namespaces[act.node].inside(home):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sock, stage.network.namespaces[act.node].inside(home):
        if act.mark:
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, act.mark.to_bytes(4, "little"))
        if act.bypass:
            sock.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
        sock.bind((act.device, 0))
        for content in contents(act, hardware_address(act.device), destination):
            sock.send(content)
            stage.settle()


def hardware_address(device: str) -> str:
    """Return the MAC address of a device of the current namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, struct.pack("256s", device.encode()))
    return answer[18:24].hex(":")


@lru_cache(maxsize=64)
def contents(act: Frame, source: str, destination: str) -> tuple[bytes, ...]:
    """Build the frames of an act."""
    from scapy.layers.l2 import Ether

    head = Ether(src=source, dst=destination)
    if not act.fragments:
        return (bytes(head / _network(act) / _transport(act)),)
    pieces = _fragments(act)
    return tuple(bytes(head / pieces[number]) for number in act.fragments)


def _network(act: Frame) -> Any:
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    if ":" in act.source:
        return IPv6(src=act.source, dst=act.destination, hlim=act.ttl)
    return IP(src=act.source, dst=act.destination, ttl=act.ttl, id=0x5EED)


def _transport(act: Frame) -> Any:
    from scapy.layers.inet import ICMP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest

    if act.kind == "udp":
        return UDP(sport=act.source_port, dport=act.port) / PAYLOAD
    if act.kind == "tcp":
        return TCP(sport=act.source_port, dport=act.port, flags="S", seq=1)
    return ICMPv6EchoRequest(data=PAYLOAD) if ":" in act.source else ICMP() / PAYLOAD


def _fragments(act: Frame) -> list[Any]:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
    from scapy.packet import Raw

    six = ":" in act.source
    udp = UDP(sport=act.source_port, dport=act.port) / PAYLOAD.ljust(64, b".")
    whole = bytes(_network(act) / udp)[40 if six else 20 :]
    pieces: list[Any] = []
    for number in range(3):
        part = Raw(whole[number * _PIECE : (number + 1) * _PIECE])
        offset, more = number * _PIECE // 8, int(number < 2)
        if six:
            extension = IPv6ExtHdrFragment(nh=17, offset=offset, m=more, id=0x5EED)
            network: Any = IPv6(src=act.source, dst=act.destination, nh=44) / extension
        else:
            network = IP(src=act.source, dst=act.destination, proto=17, id=0x5EED,
                         flags=more, frag=offset)  # fmt: skip
        pieces.append(network / part)
    return pieces


def swapped(content: bytes) -> bytes:
    """Turn an IPv4 UDP packet around: addresses and ports; of a frame, MAC addresses too."""
    ethernet = b""
    if content[0] >> 4 != 4:
        ethernet, content = content[6:12] + content[:6] + content[12:14], content[14:]
    head, ports = content[:12], content[20:24]
    return ethernet + head + content[16:20] + content[12:16] + ports[2:] + ports[:2] + content[24:]
