"""``tc`` lines as requests: clsact, and u32 filters that redirect what they match.

Layouts: include/uapi/linux/rtnetlink.h (struct tcmsg), pkt_cls.h and tc_act/tc_mirred.h.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator

from lab.kernel.netlink import attribute
from lab.rules.requests.request import REPLACE, Request, device, number, pairs, prefix

_NEWQDISC, _NEWFILTER = 36, 44
_KIND, _OPTIONS, _NESTED = 1, 2, 0x8000
_SELECTOR, _ACTIONS, _FIRST, _PARAMETERS = 5, 7, 1, 2
_NO_FAMILY = bytes(4)
_CLSACT = 0xFFFFFFF1
_SIDES = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_PROTOCOLS = {"ip": 0x0800, "ipv6": 0x86DD}
_FILTER = re.compile(
    r"dev (?P<at>\S+) (?P<side>\w+) pref (?P<pref>\S+) protocol (?P<protocol>\w+) u32 "
    r"match (?P<match>.+) action mirred (?P<way>\w+) redirect dev (?P<to>\S+)"
)
_TERMINAL, _STOLEN = 1, 4
_REDIRECT = {"egress": 1, "ingress": 3}
# Where the addresses stand in the header, in bytes.
_ADDRESSES = {
    ("ip", "src"): (socket.AF_INET, 12),
    ("ip", "dst"): (socket.AF_INET, 16),
    ("ip6", "src"): (socket.AF_INET6, 8),
    ("ip6", "dst"): (socket.AF_INET6, 24),
}


def replace_qdisc(words: list[str], family: int) -> Request:  # noqa: ARG001
    """Read what follows ``qdisc replace``: clsact on a device."""
    *said, kind = words
    if kind != "clsact":
        raise ValueError(kind)
    rest = struct.pack("=III", _CLSACT & 0xFFFF0000, _CLSACT, 0) + _named(kind)
    return Request(_NEWQDISC, _NO_FAMILY, device(pairs(said, ("dev",))["dev"]), rest, flags=REPLACE)


def add_filter(words: list[str], family: int) -> Request:  # noqa: ARG001
    """Read what follows ``filter add``: one match of u32, and the device it redirects to."""
    found = _FILTER.fullmatch(" ".join(words))
    if found is None:
        raise ValueError(words)
    preference, protocol = number(found["pref"]), socket.htons(_PROTOCOLS[found["protocol"]])
    if preference >> 16:
        raise ValueError(preference)
    start = struct.pack("=III", 0, _SIDES[found["side"]], preference << 16 | protocol)
    options = _selector(found["match"].split()) + _redirection(found["way"])
    rest = start + _named("u32") + attribute(_OPTIONS | _NESTED, options)
    # The index of the other device is the last of the action's parameters.
    return Request(_NEWFILTER, _NO_FAMILY, device(found["at"]), rest[:-4], device(found["to"]))


def _named(kind: str) -> bytes:
    return attribute(_KIND, kind.encode() + b"\0")


def _selector(words: list[str]) -> bytes:
    what, which, written = words
    keys = list(_keys(what, which, written))
    head = struct.pack("=BBBxHHhhI", _TERMINAL, 0, len(keys), 0, 0, 0, 0, 0)
    return attribute(_SELECTOR, head + b"".join(keys))


def _keys(what: str, which: str, written: str) -> Iterator[bytes]:
    """Yield what is compared: words of 32 bits, each with mask and place."""
    if what == "u32":
        value, mask = number(which), number(written)
        yield _key(value & mask, mask, 0)
        return
    family, at = _ADDRESSES[what, which]
    address, bits = prefix(written, family)
    if bits != len(address) * 8:
        raise ValueError(written)
    for start in range(0, len(address), 4):
        yield _key(int.from_bytes(address[start : start + 4], "big"), 0xFFFFFFFF, at + start)


def _key(value: int, mask: int, at: int) -> bytes:
    return struct.pack("!II", mask, value) + struct.pack("=ii", at, 0)


def _redirection(way: str) -> bytes:
    parameters = struct.pack("=IIiiiiI", 0, 0, _STOLEN, 0, 0, _REDIRECT[way], 0)
    options = attribute(_OPTIONS | _NESTED, attribute(_PARAMETERS, parameters))
    return attribute(_ACTIONS | _NESTED, attribute(_FIRST | _NESTED, _named("mirred") + options))
