"""rtnetlink requests as bytes, encoded by pyroute2's message classes.

Its ``IPBatch`` drops the index of a veth peer, so the classes are used directly.
"""

from __future__ import annotations

import socket
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from lab.topology.plan import Interface

_NEWLINK, _NEWADDR, _NEWROUTE, _NEWNEIGH = 16, 20, 24, 28
_REQUEST_ACK, _CREATE = 0x05, 0x600
_UP, _NOARP = 0x1, 0x80
_NODAD, _PERMANENT, _ONLINK = 0x02, 0x80, 4
_MAIN, _STATIC, _UNICAST, _LINK_SCOPE = 254, 4, 1, 253


def veth(left: Interface, left_index: int, right: Interface, right_index: int, fd: int) -> bytes:
    """Create a pair whose right end lies in the namespace held by descriptor ``fd``."""
    peer = {"index": right_index, "attrs": [*_link(right), ("IFLA_NET_NS_FD", fd)]}
    kind = {
        "attrs": [
            ("IFLA_INFO_KIND", "veth"),
            ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", peer)]}),
        ]
    }
    attributes = [*_link(left), ("IFLA_LINKINFO", kind)]
    return _encode(ifinfmsg(), _NEWLINK, _CREATE, {"index": left_index}, attributes)


def up(index: int, *, arp: bool = True) -> bytes:
    """Bring an interface up, without ARP where it plays a tun device."""
    flags = _UP if arp else _UP | _NOARP
    fields = {"index": index, "flags": flags, "change": _UP | _NOARP}
    return _encode(ifinfmsg(), _NEWLINK, 0, fields, [])


def address(index: int, cidr: str) -> bytes:
    """Add an address; an IPv6 one is usable at once (no duplicate address detection)."""
    host, _, bits = cidr.partition("/")
    family = _family(host)
    attributes: list[tuple[str, Any]] = [("IFA_ADDRESS", host)]
    if family == socket.AF_INET:
        attributes.append(("IFA_LOCAL", host))
    else:
        attributes.append(("IFA_FLAGS", _NODAD))
    fields = {"family": family, "prefixlen": int(bits), "index": index}
    return _encode(ifaddrmsg(), _NEWADDR, _CREATE, fields, attributes)


def neighbour(index: int, host: str, mac: str) -> bytes:
    """Add a permanent neighbour."""
    fields = {"family": _family(host), "ifindex": index, "state": _PERMANENT}
    return _encode(ndmsg(), _NEWNEIGH, _CREATE, fields, [("NDA_DST", host), ("NDA_LLADDR", mac)])


def route(index: int, to: str, via: str = "") -> bytes:
    """Add a route of the main table; a gateway is taken as on-link."""
    prefix, _, bits = to.partition("/")
    family = _family(prefix)
    attributes: list[tuple[str, Any]] = [("RTA_OIF", index), ("RTA_TABLE", _MAIN)]
    if int(bits):
        attributes.append(("RTA_DST", prefix))
    if via:
        attributes.append(("RTA_GATEWAY", via))
    fields = {
        "family": family,
        "dst_len": int(bits),
        "table": _MAIN,
        "proto": _STATIC,
        "type": _UNICAST,
        "flags": _ONLINK if via else 0,
        "scope": 0 if via or family == socket.AF_INET6 else _LINK_SCOPE,
    }
    return _encode(rtmsg(), _NEWROUTE, _CREATE, fields, attributes)


def _link(end: Interface) -> list[tuple[str, Any]]:
    return [
        ("IFLA_IFNAME", end.name),
        ("IFLA_ADDRESS", end.mac),
        ("IFLA_MTU", end.mtu),
        # One queue is used anyway. The kernel would make one for each processor, and then wait
        # until nobody can still be using those (drivers/net/veth.c, veth_init_queues).
        ("IFLA_NUM_TX_QUEUES", 1),
        ("IFLA_NUM_RX_QUEUES", 1),
    ]


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _encode(
    message: Any, kind: int, flags: int, fields: dict[str, int], attributes: list[tuple[str, Any]]
) -> bytes:
    message["header"]["type"] = kind
    message["header"]["flags"] = _REQUEST_ACK | flags
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data)
