"""The topologies the lab ships."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from lab.errors import unknown
from lab.topology.plan import Fact, Interface, Link, Neighbour, Node, Route, Topology

# systemd's 50-default.conf sets rp_filter 2 on every interface; the rest are the kernel's
# defaults, set because a new namespace may copy them from the host (cilium#48706).
_COMMON = (
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "2"),
    ("net.ipv4.conf.all.src_valid_mark", "0"),
    ("net.ipv4.conf.default.src_valid_mark", "0"),
    ("net.ipv4.fwmark_reflect", "0"),
    ("net.ipv4.tcp_fwmark_accept", "0"),
    ("net.ipv6.fwmark_reflect", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.all.accept_dad", "0"),
)
_FORWARDING = (("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.all.forwarding", "1"))
_GATEWAY4, _GATEWAY6 = "169.254.1.1", "fe80::fc:1"


def kubernetes_node(pod_prefix: str) -> Topology:
    """One node, two pods, a LAN host, an outside client and a tailnet peer behind ``tailscale0``.

    ``pod_prefix`` names the pods' host-side interfaces (``cali``, ``lxc``, ``eni``, ``veth``).
    The outside client is the node's default gateway and also holds ``wan.ip``, an address beyond
    it, and ``relay.ip``, another one that VPN software claims as a route through its tunnel. The
    LAN host has no route to tailnet addresses: it answers them only when they are masqueraded,
    as a host behind a subnet router would.
    """
    pods = [_pod("pod-a", "a", 1, pod_prefix), _pod("pod-b", "b", 2, pod_prefix)]
    uplink = _link(
        "node",
        "eth0",
        "client",
        3,
        ("192.0.2.10/24", "2001:db8:2::10/64"),
        (
            "192.0.2.1/24",
            "2001:db8:2::1/64",
            "198.51.100.7/32",
            "2001:db8:51::7/128",
            "203.0.113.7/32",
            "2001:db8:71::7/128",
        ),
    )
    lan = _link(
        "node",
        "eth1",
        "lan",
        4,
        ("192.168.50.10/24", "fd00:50::10/64"),
        ("192.168.50.20/24", "fd00:50::20/64"),
    )
    tunnel = Link(
        Interface(
            "node",
            "tailscale0",
            _mac(5, 1),
            ("100.101.102.103/32", "fd7a:115c:a1e0::6667/128"),
            1280,
            arp=False,
        ),
        Interface(
            "peer", "eth0", _mac(5, 1), ("100.64.0.9/32", "fd7a:115c:a1e0::9/128"), 1280, arp=False
        ),
    )
    links = (pods[0], pods[1], uplink, lan, tunnel)
    return Topology(
        name="kubernetes-node",
        nodes=(
            Node("node", "the machine whose rules are judged", _COMMON + _FORWARDING),
            Node("pod-a", "a pod on the node", _COMMON),
            Node("pod-b", "another pod on the node", _COMMON),
            Node("client", "an outside client, gateway and server of the node", _COMMON),
            Node("lan", "a host on a second network of the node", _COMMON),
            Node("peer", "a tailnet peer behind tailscale0", _COMMON),
        ),
        links=links,
        routes=_routes(pods),
        neighbours=tuple(_neighbours(links)) + tuple(_gateways(pods)),
        facts=_facts(pods, pod_prefix),
    )


def _mac(number: int, side: int) -> str:
    return f"02:fc:00:00:{number:02x}:{side:02x}"


def _link(
    node: str,
    device: str,
    far: str,
    number: int,
    near_addresses: tuple[str, ...],
    far_addresses: tuple[str, ...],
) -> Link:
    return Link(
        Interface(node, device, _mac(number, 1), near_addresses),
        Interface(far, "eth0", _mac(number, 2), far_addresses),
    )


def _pod(name: str, letter: str, number: int, prefix: str) -> Link:
    device = prefix + letter.rjust(15 - len(prefix), "0")[-11:]
    addresses = (f"10.244.0.{10 + number}/32", f"fd00:10:244::{10 + number}/128")
    return _link("node", device, name, number, (), addresses)


def _routes(pods: list[Link]) -> tuple[Route, ...]:
    routes = [
        Route("node", "0.0.0.0/0", "eth0", "192.0.2.1"),
        Route("node", "::/0", "eth0", "2001:db8:2::1"),
        Route("peer", "0.0.0.0/0", "eth0"),
        Route("peer", "::/0", "eth0"),
    ]
    for pod in pods:
        routes += [Route("node", _host(a), pod.left.name) for a in pod.right.addresses]
        routes += [
            Route(pod.right.node, "0.0.0.0/0", "eth0", _GATEWAY4),
            Route(pod.right.node, "::/0", "eth0", _GATEWAY6),
        ]
    for far, node4, node6 in (
        ("client", "192.0.2.10", "2001:db8:2::10"),
        ("lan", "192.168.50.10", "fd00:50::10"),
    ):
        routes += [Route(far, net, "eth0", node4) for net in ("10.244.0.0/24", "172.30.0.0/16")]
        routes += [
            Route(far, net, "eth0", node6) for net in ("fd00:10:244::/64", "fd00:10:96::/112")
        ]
    return tuple(routes)


def _host(address: str) -> str:
    return address.partition("/")[0] + ("/128" if ":" in address else "/32")


def _neighbours(links: tuple[Link, ...]) -> list[Neighbour]:
    pairs = [
        (a, b) for link in links for a, b in ((link.left, link.right), (link.right, link.left))
    ]
    return [
        Neighbour(near.node, near.name, address.partition("/")[0], far.mac)
        for near, far in pairs
        if near.arp
        for address in far.addresses
    ]


def _gateways(pods: list[Link]) -> list[Neighbour]:
    return [
        Neighbour(pod.right.node, "eth0", gateway, pod.left.mac)
        for pod in pods
        for gateway in (_GATEWAY4, _GATEWAY6)
    ]


def _facts(pods: list[Link], prefix: str) -> tuple[Fact, ...]:
    a, b = (pod.left.name for pod in pods)
    return (
        ("ip", "ip", "ip6"),
        ("any", "0.0.0.0/0", "::/0"),
        ("loopback", "127.0.0.1", "::1"),
        ("node.ip", "192.0.2.10", "2001:db8:2::10"),
        ("node.lan-ip", "192.168.50.10", "fd00:50::10"),
        ("node.tailnet-ip", "100.101.102.103", "fd7a:115c:a1e0::6667"),
        ("client.ip", "192.0.2.1", "2001:db8:2::1"),
        ("client.dev", "eth0", "eth0"),
        ("wan.ip", "198.51.100.7", "2001:db8:51::7"),
        ("relay.ip", "203.0.113.7", "2001:db8:71::7"),
        ("relay.net", "203.0.113.0/24", "2001:db8:71::/64"),
        ("wan.net", "198.51.100.0/24", "2001:db8:51::/64"),
        ("lan.ip", "192.168.50.20", "fd00:50::20"),
        ("lan.net", "192.168.50.0/24", "fd00:50::/64"),
        ("lan.dev", "eth1", "eth1"),
        ("peer.ip", "100.64.0.9", "fd7a:115c:a1e0::9"),
        ("peer.dev", "tailscale0", "tailscale0"),
        ("tailnet.net", "100.64.0.0/10", "fd7a:115c:a1e0::/48"),
        ("pod-a.ip", "10.244.0.11", "fd00:10:244::11"),
        ("pod-a.dev", a, a),
        ("pod-b.ip", "10.244.0.12", "fd00:10:244::12"),
        ("pod-b.dev", b, b),
        ("pods.net", "10.244.0.0/24", "fd00:10:244::/64"),
        ("pods.prefix", prefix, prefix),
        ("services.net", "172.30.0.0/16", "fd00:10:96::/112"),
    )


TOPOLOGIES: dict[str, Callable[[str], Topology]] = {"kubernetes-node": kubernetes_node}


@lru_cache(maxsize=64)
def find(name: str, pod_prefix: str = "veth") -> Topology:
    """Return the topology of that name; an unknown one is a UsageError that lists the known."""
    if name not in TOPOLOGIES:
        raise unknown("topology", name, TOPOLOGIES)
    return TOPOLOGIES[name](pod_prefix)
