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
_SHORT, _ID_AT, _ID_HEADER = 128, 24, struct.pack("=HH", 8, _ID)
# The last attributes of a message with headers, as long as these are for the lab's packets. There
# may be the link layer's behind them; then, from Linux 6.16 on, what conntrack knows: the state
# alone, or state, direction, id and status.
_LINK_HEADER = struct.pack("=HH", 18, _LINK)
_CT_STATE, _CT_STATUS = struct.pack("=HH", 8, 21), struct.pack("=HH", 8, 20)
_TRANSPORT_HEADER = struct.pack("=HH", 24, _TRANSPORT)
_NETWORK_HEADERS = {4: struct.pack("=HH", 24, _NETWORK), 6: struct.pack("=HH", 44, _NETWORK)}


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


def decode_all(raw: Iterable[bytes]) -> Iterator[Traced]:
    """Read received blocks in order, passing over other message types."""
    for block in raw:
        if _LENGTH.unpack_from(block)[0] == len(block):
            if block[4:6] == _TRACE:
                yield _decode(block[16:])
            continue
        for kind, payload in messages(block):
            if kind == _KIND:
                yield _decode(payload)


def _decode(payload: bytes) -> Traced:
    """Read one message.

    The id stands at a fixed place and the headers at the end; what is left repeats, and is read
    once. An experiment receives thousands of these.
    """
    if payload[_ID_AT - 4 : _ID_AT] != _ID_HEADER:
        return _read(payload)
    identity, front = payload[_ID_AT : _ID_AT + 4], payload[:_ID_AT]
    end = _end_of_headers(payload)
    if payload[end - 24 : end - 20] == _TRANSPORT_HEADER:
        transport = payload[end - 20 : end]
        if payload[end - 48 : end - 44] == _NETWORK_HEADERS[4]:
            found = headers(payload[end - 44 : end - 24], transport)
            return identity, _template(front, payload[_ID_AT + 4 : end - 48]), found
        if payload[end - 68 : end - 64] == _NETWORK_HEADERS[6]:
            found = headers(payload[end - 64 : end - 24], transport)
            return identity, _template(front, payload[_ID_AT + 4 : end - 68]), found
    if len(payload) > _SHORT:
        return _read(payload)
    return identity, *_short(front, payload[_ID_AT + 4 :])


def _end_of_headers(payload: bytes) -> int:
    """Pass over what follows the packet's headers: the link layer's, and what conntrack says."""
    end = len(payload)
    if payload[-8:-4] == _CT_STATUS and payload[-32:-28] == _CT_STATE:
        end -= 32
    elif payload[-8:-4] == _CT_STATE:
        end -= 8
    return end - 20 if payload[end - 20 : end - 16] == _LINK_HEADER else end


@lru_cache(maxsize=16384)
def _short(front: bytes, back: bytes) -> tuple[Message, Headers | None]:
    return _read(front + bytes(4) + back)[1:]


@lru_cache(maxsize=16384)
def _template(front: bytes, back: bytes) -> Message:
    return _read(front + bytes(4) + back)[1]


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


@lru_cache(maxsize=2048)
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
