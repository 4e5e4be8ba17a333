"""``ip link``, ``address`` and ``neighbour`` lines as requests (include/uapi/linux/if_link.h)."""

from __future__ import annotations

import socket
import struct

from lab.kernel.netlink import attribute
from lab.rules.requests.request import Request, attributes, device, number, pairs, prefix

_NEWLINK, _GETLINK, _NEWADDR, _NEWNEIGH = 16, 18, 20, 28
_ADDRESS, _NAME, _MASTER, _INFO = 1, 3, 10, 18
_INFO_KIND, _INFO_DATA, _PEER = 1, 2, 1
_INFO_SLAVE_KIND, _INFO_SLAVE_DATA, _BRPORT_MODE = 4, 5, 4
_VXLAN_ID, _VXLAN_PORT = 1, 15
_VXLAN_ENDS = {socket.AF_INET: (2, 4), socket.AF_INET6: (16, 17)}  # remote, local
_UP, _NOARP = 0x1, 0x80
_IFA_ADDRESS, _IFA_LOCAL, _NODAD = 1, 2, 0x02
_NDA_DST, _NDA_LLADDR, _PERMANENT = 1, 2, 0x80
_SCOPES = {"link": 253}
_HOST = 254
_LINK_START, _LINK_REST = struct.Struct("=BxH"), struct.Struct("=II")
_NESTED = 0x8000


def add_link(words: list[str], family: int) -> Request:  # noqa: ARG001
    """Read what follows ``link add``: a veth pair, a bridge or a vxlan device."""
    divide = words.index("type")
    kind, *of_kind = words[divide + 1 :]
    data = {"veth": _peer, "bridge": _nothing, "vxlan": _vxlan}[kind](of_kind)
    info = attribute(_INFO_KIND, kind.encode())
    if data:
        info += attribute(_INFO_DATA | _NESTED, data)
    body = _named(words[:divide]) + attribute(_INFO | _NESTED, info)
    return Request(_NEWLINK, _link() + body)


def _link(flags: int = 0, change: int = 0) -> bytes:
    """Return the header of a link that has no index yet."""
    return _LINK_START.pack(0, 0) + struct.pack("=i", 0) + _LINK_REST.pack(flags, change)


def _named(words: list[str]) -> bytes:
    name, *others = words
    given = pairs(others, ("address",))
    hardware = _hardware(given["address"]) if "address" in given else b""
    return attributes((_ADDRESS, hardware), (_NAME, f"{device(name)}\0".encode()))


def _peer(words: list[str]) -> bytes:
    first, second, *named = words
    if (first, second) != ("peer", "name"):
        raise ValueError(words)
    return attribute(_PEER | _NESTED, _link() + _named(named))


def _nothing(words: list[str]) -> bytes:
    if words:
        raise ValueError(words)
    return b""


def _vxlan(words: list[str]) -> bytes:
    given = pairs(words, ("id", "local", "remote", "dstport"))
    family = socket.AF_INET6 if ":" in given["remote"] else socket.AF_INET
    remote, local = _VXLAN_ENDS[family]
    return attributes(
        (_VXLAN_ID, struct.pack("=I", number(given["id"]))),
        (remote, socket.inet_pton(family, given["remote"])),
        (local, socket.inet_pton(family, given["local"])),
        (_VXLAN_PORT, struct.pack("!H", number(given["dstport"]))),
    )


def set_link(words: list[str], family: int) -> Request:  # noqa: ARG001
    """Read what follows ``link set``: a device, and one thing about it."""
    name, *said = words
    start = _LINK_START.pack(0, 0)
    if said == ["up"]:
        rest, other = _LINK_REST.pack(_UP, _UP), ""
    elif said == ["arp", "off"]:
        rest, other = _LINK_REST.pack(_NOARP, _NOARP), ""
    elif said[:2] == ["type", "bridge_slave"]:
        rest, other = _LINK_REST.pack(0, 0) + _bridge_port(said[2:]), ""
    else:
        other = device(pairs(said, ("master",))["master"])
        rest = _LINK_REST.pack(0, 0) + struct.pack("=HH", 8, _MASTER)
    return Request(_NEWLINK, start, device(name), rest, other, flags=0)


def _bridge_port(words: list[str]) -> bytes:
    hairpin = {"off": 0, "on": 1}[pairs(words, ("hairpin",))["hairpin"]]
    data = attribute(_BRPORT_MODE, struct.pack("=B", hairpin))
    info = attribute(_INFO_SLAVE_KIND, b"bridge") + attribute(_INFO_SLAVE_DATA | _NESTED, data)
    return attribute(_INFO | _NESTED, info)


def show_link(words: list[str], family: int) -> Request:  # noqa: ARG001
    """Read what follows ``link show``: a device that must be there."""
    (name,) = words
    return Request(_GETLINK, _LINK_START.pack(0, 0), device(name), _LINK_REST.pack(0, 0), flags=0)


def add_address(words: list[str], family: int) -> Request:
    """Read what follows ``address add``."""
    written, *others = words
    flags = _NODAD if others[-1:] == ["nodad"] else 0
    given = pairs(others[:-1] if flags else others, ("dev", "scope"))
    address, bits = prefix(written, family)
    scope = _HOST if family == socket.AF_INET and address[0] == 127 else 0
    if "scope" in given:
        scope = _SCOPES[given["scope"]]
    header = struct.pack("=BBBB", family, bits, flags, scope)
    body = attributes((_IFA_LOCAL, address), (_IFA_ADDRESS, address))
    return Request(_NEWADDR, header, device(given["dev"]), body)


def add_neighbour(words: list[str], family: int) -> Request:
    """Read what follows ``neighbour add``; where nothing is said it is permanent."""
    written, *others = words
    given = pairs(others, ("lladdr", "dev", "nud"))
    if given.get("nud", "permanent") != "permanent":
        raise ValueError(words)
    address = socket.inet_pton(family, written)
    rest = struct.pack("=HBB", _PERMANENT, 0, 0)
    body = attributes((_NDA_DST, address), (_NDA_LLADDR, _hardware(given["lladdr"])))
    header = struct.pack("=B3x", family)
    return Request(_NEWNEIGH, header, device(given["dev"]), rest + body)


def _hardware(written: str) -> bytes:
    parts = bytes.fromhex(written.replace(":", ""))
    if len(parts) != 6 or written.count(":") != 5:
        raise ValueError(written)
    return parts
