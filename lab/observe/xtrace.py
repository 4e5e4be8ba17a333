"""TRACE lines of legacy iptables tables, received through nfnetlink_log.

``meta nftrace set 1`` makes legacy tables trace as well. Their lines come as log messages with a
prefix ``TRACE: table:chain:rule|return|policy:number`` and the mark *before* the rule's target.
Layout: include/uapi/linux/netfilter/nfnetlink_log.h.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from lab.kernel.netlink import Attributes, Netfilter, attribute, attributes, messages
from lab.observe.known import MANY, SOME, Known
from lab.observe.nftrace import Headers, headers
from lab.traffic.packets import inside

_CONFIG, _PACKET = (4 << 8) | 1, 4 << 8
_CFG_CMD, _CFG_MODE, _CFG_QTHRESH = 1, 2, 5
_BIND, _COPY_PACKET = 1, 2
_RANGE, _LEAST = 192, 20
_HEADER, _MARK, _PAYLOAD, _PREFIX = 1, 2, 9, 10
_GROUP = 0
_LOGGED, _LENGTH = struct.pack("=H", _PACKET), struct.Struct("=H")
_ATTRIBUTE = struct.Struct("=HH")
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_LINE = re.compile(r"TRACE: (\w+):(.+):(rule|return|policy):(\d+) ?")

# Where the packet's attribute begins, with the first byte of the packet, and the attribute that may
# stand before it: the time. What is before both repeats.
_PACKETS_AT = ((b"\x09\0\x45", 20), (b"\x09\0\x60", 40))
_TIME = struct.pack("=HH", 20, 3)
_FRONT = 20

Kind = Literal["rule", "return", "policy"]


class Line(NamedTuple):
    """One TRACE line without what is the packet's own; the same for many packets.

    ``number`` counts the chain's rules from 1, ``mark`` is before the target.
    """

    hook: str
    table: str
    chain: str
    kind: Kind
    number: int
    mark: int


Traced = tuple[Line, Headers]


def listen(receive_buffer: int, family: str) -> Netfilter:
    """Open the log of the current namespace, where TRACE lines go to from now on.

    The first request has the kernel load nfnetlink_log, which only then is a log to choose.
    """
    log = Netfilter(receive_buffer=receive_buffer)
    log.request(_CONFIG, 0, attribute(_CFG_CMD, struct.pack("=B", _BIND)), _GROUP)
    Path(f"/proc/sys/net/netfilter/nf_log/{2 if family == 'ipv4' else 10}").write_text(
        "nfnetlink_log"
    )
    body = attribute(_CFG_MODE, struct.pack("!IBB", _RANGE, _COPY_PACKET, 0))
    body += attribute(_CFG_QTHRESH, struct.pack("!I", 1))
    log.request(_CONFIG, 0, body, _GROUP)
    return log


def _known_line(front: bytes) -> Line | None:
    """Read all that stands before a message's time and packet; None where that is no line."""
    is_line = front[4:6] == _LOGGED and _is_whole(front)
    return _line(attributes(front, _FRONT)) if is_line else None


def _is_whole(front: bytes) -> bool:
    """Tell whether a message was cut between two attributes, and not where a value looks so."""
    offset = _FRONT
    while offset < len(front):
        length, _ = _ATTRIBUTE.unpack_from(front, offset)
        offset += max(length + 3 & ~3, _ATTRIBUTE.size)
    return offset == len(front)


_LINES = Known(_known_line, MANY)
_PACKETS = Known(lambda packet: headers(packet[:-20], packet[-20:]), SOME)


def decode_all(raw: Iterable[bytes]) -> Iterator[Traced]:
    """Read received log messages in order, leaving out what is not a TRACE line of the lab's."""
    for block in raw:
        start, packet = _split(block)
        timed = block[start - 20 : start - 16] == _TIME
        line = _LINES[block[: start - 20 if timed else start]] if packet else None
        found = _PACKETS[packet] if line else None
        if line is not None and found is not None and not found.outer:
            yield line, found
        else:
            yield from _one_by_one(block)


def _split(block: bytes) -> tuple[int, bytes]:
    """Return where the packet's attribute begins and the packet's headers, empty if not found."""
    for sign, size in _PACKETS_AT:
        start = block.find(sign, _FRONT) - 2
        if start > 0 and _LENGTH.unpack_from(block, start)[0] == len(block) - start:
            return start, block[start + 4 : start + size + 24]
    return 0, b""


def _one_by_one(block: bytes) -> Iterator[Traced]:
    for kind, payload in messages(block):
        if kind == _PACKET:
            found = attributes(payload, 4)
            line, packet = _line(found), found.get(_PAYLOAD, b"")
            identity = _identity(packet) if line and len(packet) >= _LEAST else None
            if line is not None and identity is not None:
                yield line, identity


def _identity(packet: bytes) -> Headers | None:
    size = (packet[0] & 0xF) * 4 if packet[0] >> 4 == 4 else 40
    found = headers(packet[:size], packet[size : size + 20])
    if found is not None and found.outer:
        carried = inside(packet[size:], packet[9 if packet[0] >> 4 == 4 else 6])
        return found._replace(packet=carried)
    return found


def _line(found: Attributes) -> Line | None:
    named = _named(found.get(_PREFIX, b""))
    if named is None or _HEADER not in found:
        return None
    mark = struct.unpack("!I", found[_MARK])[0] if _MARK in found else 0
    return Line(_HOOKS[found[_HEADER][2]], *named, mark)


@lru_cache(maxsize=4096)
def _named(prefix: bytes) -> tuple[str, str, Kind, int] | None:
    match = _LINE.fullmatch(prefix.rstrip(b"\0").decode())
    if not match:
        return None
    kind: Kind = match[3]  # type: ignore[assignment]
    return match[1], match[2], kind, int(match[4])
