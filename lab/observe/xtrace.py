"""TRACE lines of legacy iptables tables, received through nfnetlink_log.

``meta nftrace set 1`` makes legacy tables trace as well. Their lines come as log messages with a
prefix ``TRACE: table:chain:rule|return|policy:number`` and the mark *before* the rule's target.
Layout: include/uapi/linux/netfilter/nfnetlink_log.h.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from lab.kernel.netlink import Netfilter, attribute, attributes, messages
from lab.observe.nftrace import Headers, headers
from lab.traffic.packets import inside

_CONFIG, _PACKET = (4 << 8) | 1, 4 << 8
_CFG_CMD, _CFG_MODE, _CFG_QTHRESH = 1, 2, 5
_BIND, _COPY_PACKET = 1, 2
_RANGE = 192
_HEADER, _MARK, _PAYLOAD, _PREFIX = 1, 2, 9, 10
_GROUP = 0
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_LINE = re.compile(r"TRACE: (\w+):(.+):(rule|return|policy):(\d+) ?")

Kind = Literal["rule", "return", "policy"]


@dataclass(frozen=True, slots=True)
class Line:
    """One TRACE line; ``number`` counts the chain's rules from 1, ``mark`` is before the target."""

    hook: str
    table: str
    chain: str
    kind: Kind
    number: int
    mark: int
    headers: Headers


def listen(receive_buffer: int, family: str) -> Netfilter:
    """Open the log of the current namespace, where TRACE lines go to from now on."""
    Path(f"/proc/sys/net/netfilter/nf_log/{2 if family == 'ipv4' else 10}").write_text(
        "nfnetlink_log"
    )
    log = Netfilter(receive_buffer=receive_buffer)
    log.request(_CONFIG, 0, attribute(_CFG_CMD, struct.pack("=B", _BIND)), _GROUP)
    body = attribute(_CFG_MODE, struct.pack("!IBB", _RANGE, _COPY_PACKET, 0))
    body += attribute(_CFG_QTHRESH, struct.pack("!I", 1))
    log.request(_CONFIG, 0, body, _GROUP)
    return log


def decode_all(raw: Iterable[bytes]) -> Iterator[Line]:
    """Read received log messages in order, leaving out what is not a TRACE line of the lab's."""
    for kind, payload in (message for block in raw for message in messages(block)):
        line = _decode(payload) if kind == _PACKET else None
        if line is not None:
            yield line


def _decode(payload: bytes) -> Line | None:
    found = attributes(payload, 4)
    named = _named(found.get(_PREFIX, b""))
    packet = found.get(_PAYLOAD, b"")
    if named is None or len(packet) < 20:
        return None
    size = (packet[0] & 0xF) * 4 if packet[0] >> 4 == 4 else 40
    identity = headers(packet[:size], packet[size : size + 20])
    if identity is None:
        return None
    if identity.outer:
        identity = identity._replace(packet=inside(packet[size:], packet[_protocol_at(packet)]))
    mark = struct.unpack("!I", found[_MARK])[0] if _MARK in found else 0
    hook = _HOOKS[found[_HEADER][2]]
    return Line(hook, *named, mark, identity)


@lru_cache(maxsize=4096)
def _named(prefix: bytes) -> tuple[str, str, Kind, int] | None:
    match = _LINE.fullmatch(prefix.rstrip(b"\0").decode())
    if not match:
        return None
    kind: Kind = match[3]  # type: ignore[assignment]
    return match[1], match[2], kind, int(match[4])


def _protocol_at(packet: bytes) -> int:
    return 9 if packet[0] >> 4 == 4 else 6
