"""The two small networks that rows start from [pure].

``pair``: a (v0, 10.0.0.1, fd00::1) - b (v1, 10.0.0.2, fd00::2).
``router``: a (v0, 10.0.1.1, fd01::1) - r (ra …254, rb …254) - b (v0, 10.0.2.1, fd02::1).
Both have two more namespaces, c and d, with nothing but their loopback device.
"""

from __future__ import annotations

from lab.boundary.row import Network
from lab.topology.plan import Interface, Link, Neighbour, Node, Route, Topology

# Kernel defaults, set because a new namespace may copy some of them from the one it comes from.
_COMMON = (
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.conf.all.src_valid_mark", "0"),
    ("net.ipv4.conf.default.src_valid_mark", "0"),
    ("net.ipv4.conf.all.accept_local", "0"),
    ("net.ipv4.fwmark_reflect", "0"),
    ("net.ipv4.tcp_fwmark_accept", "0"),
    ("net.ipv6.fwmark_reflect", "0"),
    ("net.ipv6.conf.all.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
)
_FORWARDING = (("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.all.forwarding", "1"))


def _end(node: str, name: str, number: int, *addresses: str) -> Interface:
    return Interface(node, name, f"02:fc:00:01:00:{number:02x}", addresses)


_A = _end("a", "v0", 1, "10.0.0.1/24", "fd00::1/64")
_B = _end("b", "v1", 2, "10.0.0.2/24", "fd00::2/64")
_ROUTED_A = _end("a", "v0", 3, "10.0.1.1/24", "fd01::1/64")
_RA = _end("r", "ra", 4, "10.0.1.254/24", "fd01::254/64")
_RB = _end("r", "rb", 5, "10.0.2.254/24", "fd02::254/64")
_ROUTED_B = _end("b", "v0", 6, "10.0.2.1/24", "fd02::1/64")


def _neighbours(link: Link) -> tuple[Neighbour, ...]:
    return tuple(
        Neighbour(near.node, near.name, address.partition("/")[0], far.mac)
        for near, far in ((link.left, link.right), (link.right, link.left))
        for address in far.addresses
    )


def _topology(name: str, links: tuple[Link, ...], routes: tuple[Route, ...] = ()) -> Topology:
    linked = dict.fromkeys(end.node for link in links for end in (link.left, link.right))
    return Topology(
        name=name,
        nodes=tuple(
            Node(node, "", _COMMON + (_FORWARDING if node == "r" else ()))
            for node in (*linked, "c", "d")
        ),
        links=links,
        routes=routes,
        neighbours=tuple(n for link in links for n in _neighbours(link)),
        facts=(),
    )


NETWORKS: dict[Network, Topology] = {
    "pair": _topology("pair", (Link(_A, _B),)),
    "router": _topology(
        "router",
        (Link(_ROUTED_A, _RA), Link(_RB, _ROUTED_B)),
        (
            Route("a", "0.0.0.0/0", "v0", "10.0.1.254"),
            Route("a", "::/0", "v0", "fd01::254"),
            Route("b", "0.0.0.0/0", "v0", "10.0.2.254"),
            Route("b", "::/0", "v0", "fd02::254"),
        ),
    ),
}
