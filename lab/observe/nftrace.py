"""nftables trace messages: which rule a packet matched, and its mark afterwards.

Layout: include/uapi/linux/netfilter/nf_tables.h, ``enum nft_trace_attributes``. The kernel sends
the packet's headers with the first message of every base chain only, and its id is no packet id:
it repeats. Messages of one packet in one base chain follow each other.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lab.kernel.netlink import attributes
from lab.record import Verdict

GROUP = 9
_TRACE = (10 << 8) | 17
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID = 1, 2, 3, 4, 5, 6
_NETWORK, _TRANSPORT, _IIF, _OIF, _MARK, _FAMILY, _POLICY = 8, 9, 10, 12, 14, 15, 16
_NAMES: dict[int, Verdict] = {
    0: "drop", 1: "accept", 2: "stolen", 3: "queue", 0xFFFFFFFF: "continue", 0xFFFFFFFE: "continue",
    0xFFFFFFFD: "jump", 0xFFFFFFFC: "goto", 0xFFFFFFFB: "return",
}
_TCP, _UDP = 6, 17


@dataclass(frozen=True, slots=True)
class Headers:
    """What identifies a packet, and where it comes from and goes to at that moment."""

    packet: bytes
    source: str
    destination: str
    source_port: int


@dataclass(frozen=True, slots=True)
class Message:
    """One trace message; ``headers`` come with the first of each base chain only."""

    kind: Literal["rule", "return", "policy"]
    family: int
    table: str
    chain: str
    handle: int
    mark: int
    verdict: Verdict
    identity: int
    iif: int
    oif: int
    headers: Headers | None


def decode(kind: int, payload: bytes) -> Message | None:
    """Read one message; None for other message types."""
    if kind != _TRACE:
        return None
    found = attributes(payload, 4)
    number = _word(found, _TYPE)
    return Message(
        kind="policy" if number == 1 else "return" if number == 2 else "rule",
        family=_word(found, _FAMILY),
        table=found[_TABLE][:-1].decode(),
        chain=found[_CHAIN][:-1].decode() if _CHAIN in found else "",
        handle=_word(found, _HANDLE),
        mark=_word(found, _MARK),
        verdict=_verdict(found),
        identity=_word(found, _ID),
        iif=_word(found, _IIF),
        oif=_word(found, _OIF),
        headers=headers(found[_NETWORK], found[_TRANSPORT])
        if _NETWORK in found and _TRANSPORT in found else None,
    )


def _word(found: dict[int, bytes], kind: int) -> int:
    value = found.get(kind)
    return 0 if value is None else int.from_bytes(value, "big")


def _verdict(found: dict[int, bytes]) -> Verdict:
    if _POLICY in found:
        return _NAMES.get(_word(found, _POLICY), "")
    code = attributes(found[_VERDICT]).get(1) if _VERDICT in found else None
    return _NAMES.get(int.from_bytes(code, "big"), "") if code else ""


def headers(network: bytes, transport: bytes) -> Headers | None:
    """Identify a packet by its network and transport headers; None if it is not the lab's."""
    if network[0] >> 4 == 4:
        protocol = network[9]
        source = socket.inet_ntop(socket.AF_INET, network[12:16])
        destination = socket.inet_ntop(socket.AF_INET, network[16:20])
    else:
        protocol = network[6]
        source = socket.inet_ntop(socket.AF_INET6, network[8:24])
        destination = socket.inet_ntop(socket.AF_INET6, network[24:40])
    start = 4 if protocol == _TCP else 8
    packet = transport[start : start + 12]
    if len(packet) < 12:
        return None
    return Headers(packet, source, destination, int.from_bytes(transport[:2], "big"))


def decode_all(raw: list[tuple[int, bytes]]) -> Iterator[Message]:
    """Read a list of received messages in order."""
    for kind, payload in raw:
        message = decode(kind, payload)
        if message is not None:
            yield message
