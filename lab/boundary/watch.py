"""Reading marks at the places of a row: nft sets at hooks, SO_RCVMARK at devices and sockets.

At every hook one chain adds each packet's mark to a dynamic set, which loses nothing. A chain that
reads the ctmark switches connection tracking on, so only rows that ask for the ctmark have one.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from lab.boundary.acts import PAYLOAD
from lab.boundary.row import Reading
from lab.errors import RuleRefused
from lab.kernel.nftables import Nft
from lab.traffic.flow import Family

_LATE = {"prerouting": -90, "input": 2, "forward": 2, "output": 2, "postrouting": 110}
_DEVICE_HOOKS = ("ingress", "egress")
_SET = re.compile(r"set s(\d+) \{[^}]*?elements = \{([^}]*)\}", re.DOTALL)
_SO_MARK, _SO_RCVMARK, _ALL_PROTOCOLS, _OUTGOING = 36, 75, 0x0300, 4
_WHOLE = 1 << 16

Key = tuple[str, int]
"""Node and port of a receiving socket."""


@dataclass(slots=True)
class Watched:
    """Everything that is read during one row, by the number of its reading."""

    sets: dict[int, tuple[Nft, str]] = field(default_factory=dict)
    taps: dict[int, tuple[socket.socket, bool]] = field(default_factory=dict)
    receivers: dict[Key, socket.socket] = field(default_factory=dict)
    noted: dict[str, list[int]] = field(default_factory=dict)
    """Marks by place, of sockets and packet sockets, in the order of arrival."""
    senders: dict[Key, tuple[str, int]] = field(default_factory=dict)
    """Who sent the last datagram that each receiver got."""


def table(readings: Iterable[tuple[int, Reading]], match: str, family: str) -> str:
    """Write the table of one family for one node."""
    texts = [_chain(number, reading, reading.match or match) for number, reading in readings]
    return f"table {family} probe {{\n{''.join(texts)}}}\n"


def family_of(reading: Reading) -> str:
    """Return the nft family of a place; empty if no hook is meant."""
    where = reading.where
    if where[0] == "bridge":
        return "bridge"
    return "netdev" if where[0] in _DEVICE_HOOKS else "inet" if where[0] in _LATE else ""


def _chain(number: int, reading: Reading, match: str) -> str:
    word = "ct mark" if reading.word == "ctmark" else "meta mark"
    return (
        f" set s{number} {{ typeof {word}; size 256; flags dynamic; }}\n"
        f" chain c{number} {{ type filter hook {_hook(reading)};\n"
        f"  {match} add @s{number} {{ {word} }}\n }}\n"
    )


def _hook(reading: Reading) -> str:
    where = reading.where
    if where[0] == "bridge":
        return f"{where[1]} priority {250 if where[1] == 'postrouting' else -100}"
    if where[0] in _DEVICE_HOOKS:
        return f'{where[0]} device "{where[1]}" priority 500'
    return f"{where[0]} priority {where[1] if len(where) > 1 else _LATE[where[0]]}"


def add_sets(
    watched: Watched, readings: Iterable[tuple[int, Reading]], match: str, context: Nft
) -> None:
    """Install the chains of one node's readings in the current namespace."""
    by_family: dict[str, list[tuple[int, Reading]]] = {}
    for number, reading in readings:
        by_family.setdefault(family_of(reading), []).append((number, reading))
    for family, wanted in by_family.items():
        if family:
            _, error = context.run(table(wanted, match, family))
            if error:
                raise RuleRefused(f"probe refused: {error}")
        for number, _ in wanted if family else ():
            watched.sets[number] = (context, family)


def open_tap(device: str) -> socket.socket:
    """Open a packet socket on a device of the current namespace."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    tap.setblocking(False)
    tap.setsockopt(socket.SOL_SOCKET, _SO_RCVMARK, 1)
    tap.bind((device, socket.ntohs(_ALL_PROTOCOLS)))
    return tap


def open_receiver(port: int, family: Family) -> socket.socket:
    """Open a socket for datagrams that is told their marks."""
    receiver = socket.socket(_address_family(family), socket.SOCK_DGRAM)
    receiver.setblocking(False)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVMARK, 1)
    receiver.bind(("", port))
    return receiver


def _address_family(family: Family) -> socket.AddressFamily:
    return socket.AF_INET6 if family == "ipv6" else socket.AF_INET


def drain(watched: Watched, readings: tuple[Reading, ...]) -> None:
    """Note what has arrived at the receivers and packet sockets so far."""
    for (node, port), receiver in watched.receivers.items():
        for content, mark, sender in _arrived(receiver):
            if content.startswith(PAYLOAD):
                watched.noted.setdefault(f"{node} socket {port}", []).append(mark)
                watched.senders[node, port] = sender[:2]
    for number, (tap, outgoing) in watched.taps.items():
        for content, mark, sender in _arrived(tap):
            if PAYLOAD in content and (sender[2] == _OUTGOING) == outgoing:
                watched.noted.setdefault(readings[number].at, []).append(mark)


def _arrived(sock: socket.socket) -> Iterable[tuple[bytes, int, tuple[str, int, int]]]:
    while True:
        try:
            content, control, _, sender = sock.recvmsg(_WHOLE, 256)
        except BlockingIOError:
            return
        except ConnectionError:  # an ICMP error came back
            continue
        marks = [struct.unpack("=I", value)[0] for level, kind, value in control
                 if (level, kind) == (socket.SOL_SOCKET, _SO_MARK)]  # fmt: skip
        yield content, marks[0] if marks else 0, sender


def read(watched: Watched, readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
    """Return the readings with the marks that were seen."""
    drain(watched, readings)
    found = _elements(watched)
    return tuple(
        _with(reading, found.get(number, []) or watched.noted.get(reading.at, []))
        for number, reading in enumerate(readings)
    )


def _with(reading: Reading, marks: list[int]) -> Reading:
    seen = tuple(marks) if reading.each else tuple(sorted(set(marks)))
    return Reading(reading.at, seen, reading.word, reading.match, reading.each)


def _elements(watched: Watched) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    tables = {(id(context), family): (context, family) for context, family in watched.sets.values()}
    for key, (context, family) in tables.items():
        output, _ = context.run(f"list table {family} probe")
        for number, elements in _SET.findall(output):
            owner = watched.sets.get(int(number))
            if owner and (id(owner[0]), owner[1]) == key:
                found[int(number)] = [int(element, 0) for element in elements.split(",")]
    return found
