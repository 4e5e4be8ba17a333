"""nftables trace messages: which rule a packet matched, and its mark afterwards.

Layout: include/uapi/linux/netfilter/nf_tables.h, ``enum nft_trace_attributes``. The kernel sends
the packet's headers with the first message of every base chain only, and its id is no packet id:
it repeats. Messages of one packet in one base chain follow each other.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

from lab.kernel.netlink import attributes, messages
from lab.observe.known import MANY, SOME, Known
from lab.record import Verdict
from lab.traffic.packets import MAGIC

GROUP = 9
_KIND = (10 << 8) | 17
_LENGTH, _TRACE = struct.Struct("=I"), struct.pack("=H", _KIND)
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID = 1, 2, 3, 4, 5, 6
_LINK, _NETWORK, _TRANSPORT, _IIF, _OIF, _MARK, _FAMILY, _POLICY = 7, 8, 9, 10, 12, 14, 15, 16
_NAMES: dict[int, Verdict] = {
    0: "drop",
    1: "accept",
    2: "stolen",
    3: "queue",
    0xFFFFFFFF: "continue",
    0xFFFFFFFE: "continue",
    0xFFFFFFFD: "jump",
    0xFFFFFFFC: "goto",
    0xFFFFFFFB: "return",
}
_KINDS: dict[int, Literal["rule", "return", "policy"]] = {1: "policy", 2: "return", 3: "rule"}
_TCP, _UDP = 6, 17
_TUNNELS = (4, 41, 47)
_TAGGED = MAGIC.to_bytes(2, "big")
_ATTRIBUTE = struct.Struct("=HH")
_PAYLOAD, _ID_AT, _ID_END, _ID_HEADER = 16, 40, 44, struct.pack("=HH", 8, _ID)
# The packet's headers are as long as these for the lab's packets. Behind them may come the link
# layer's and, from Linux 6.16 on, what conntrack knows.
_TRANSPORT_HEADER = struct.pack("=HH", 24, _TRANSPORT)
_NETWORK_HEADERS = ((24, struct.pack("=HH", 24, _NETWORK)), (44, struct.pack("=HH", 44, _NETWORK)))


class Headers(NamedTuple):
    """What identifies a packet, and where it comes from and goes to at that moment.

    ``outer``: it is the packet of a tunnel; ``packet`` says nothing until it is known which packet
    it carries (``lab.observe.carried``). ``port`` is the destination's.
    """

    packet: bytes
    source: str
    destination: str
    source_port: int
    outer: bool = False
    port: int = 0


class Message(NamedTuple):
    """One trace message without what is the packet's own; the same for many packets."""

    kind: Literal["rule", "return", "policy"]
    family: int
    table: str
    chain: str
    handle: int
    mark: int
    verdict: Verdict
    iif: int
    oif: int


Traced = tuple[bytes, Message, Headers | None]
"""The packet's id, the message, and headers: these come with the first of each base chain only."""


def _message(key: bytes) -> Message | None:
    """Read all that is not one packet's own; None where it is no such message."""
    if key[4:6] != _TRACE or key[_ID_AT - 4 : _ID_AT] != _ID_HEADER:
        return None
    return _read(key[_PAYLOAD:_ID_AT] + bytes(_ID_END - _ID_AT) + key[_ID_AT:])[1]


def _packet(key: bytes) -> Headers | None:
    """Read a packet's network and transport attributes, as they stand in a message."""
    return headers(key[4:-24], key[-20:])


_MESSAGES, _PACKETS = Known(_message, MANY), Known(_packet, SOME)


def decode_all(raw: Iterable[bytes]) -> Iterator[Traced]:
    """Read received blocks in order, passing over other message types.

    The id stands at a fixed place and the headers at the end; what is left repeats, and is read
    once. An experiment receives thousands of these.
    """
    messages_, packets, length = _MESSAGES, _PACKETS, _LENGTH.unpack_from
    for block in raw:
        at = block.rfind(_TRANSPORT_HEADER, _ID_END)
        start = len(block) if at < 0 else _start_of_headers(block, at)
        message = messages_[block[:_ID_AT] + block[_ID_END:start]] if start else None
        if message is None or length(block)[0] != len(block):
            yield from _one_by_one(block)
        elif at < 0:
            yield block[_ID_AT:_ID_END], message, None
        else:
            yield block[_ID_AT:_ID_END], message, packets[block[start : at + 24]]


def _start_of_headers(block: bytes, transport: int) -> int:
    """Return where the network header's attribute begins, 0 where it is not before the other."""
    for size, header in _NETWORK_HEADERS:
        if block[transport - size : transport - size + 4] == header:
            return transport - size
    return 0


def _one_by_one(block: bytes) -> Iterator[Traced]:
    for kind, payload in messages(block):
        if kind == _KIND:
            yield _read(payload)


def _read(payload: bytes) -> Traced:
    found: list[bytes | None] = [None] * 32
    offset, size, unpack = 4, len(payload), _ATTRIBUTE.unpack_from
    while offset < size:
        length, kind = unpack(payload, offset)
        found[kind & 31] = payload[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    network, transport = found[_NETWORK], found[_TRANSPORT]
    message = Message(
        _KINDS.get(_word(found[_TYPE]), "rule"),
        _word(found[_FAMILY]),
        _text(found[_TABLE]),
        _text(found[_CHAIN]),
        _word(found[_HANDLE]),
        _word(found[_MARK]),
        _verdict(found[_VERDICT], found[_POLICY]),
        _word(found[_IIF]),
        _word(found[_OIF]),
    )
    known = headers(network, transport) if network and transport else None
    return found[_ID] or b"", message, known


def _word(value: bytes | None) -> int:
    return int.from_bytes(value, "big") if value else 0


@lru_cache(maxsize=4096)
def _text(value: bytes | None) -> str:
    return value[:-1].decode() if value else ""


@lru_cache(maxsize=256)
def _verdict(verdict: bytes | None, policy: bytes | None) -> Verdict:
    if policy is not None:
        return _NAMES.get(_word(policy), "")
    code = attributes(verdict).get(1) if verdict else None
    return _NAMES.get(_word(code), "") if code else ""


def headers(network: bytes, transport: bytes) -> Headers | None:
    """Identify a packet by its network and transport headers; None if too short to be the lab's."""
    if network[0] >> 4 == 4:
        protocol = network[9]
        source = socket.inet_ntop(socket.AF_INET, network[12:16])
        destination = socket.inet_ntop(socket.AF_INET, network[16:20])
    else:
        protocol = network[6]
        source = socket.inet_ntop(socket.AF_INET6, network[8:24])
        destination = socket.inet_ntop(socket.AF_INET6, network[24:40])
    port, to = int.from_bytes(transport[:2], "big"), int.from_bytes(transport[2:4], "big")
    if protocol in _TUNNELS:
        return Headers(b"", source, destination, 0, outer=True)
    start = 4 if protocol == _TCP else 8
    packet = transport[start : start + 12]
    if len(packet) < 12:
        return None
    outer = protocol == _UDP and packet[:2] != _TAGGED
    return Headers(packet, source, destination, port, outer, to)
