"""Packets inside tunnels: followed through both layers, each with its own marks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import pytest

from lab.errors import RuleRefused
from lab.points import Point
from lab.record import Hit, Run, Timeline
from lab.registry.software import Software
from lab.scenario import VARIANTS, Variant
from lab.traffic.flow import FAMILIES, Family

pytestmark = pytest.mark.kernel

MACS = ("02:fc:00:00:99:01", "02:fc:00:00:99:02")
ENDS = {"node": ("{{ node.lan-ip }}", "{{ lan.ip }}"), "lan": ("{{ lan.ip }}", "{{ node.lan-ip }}")}
ADDRESSES: dict[Family, tuple[str, str]] = {
    "ipv4": ("10.99.0.1", "10.99.0.2"),
    "ipv6": ("fd00:99::1", "fd00:99::2"),
}
KINDS = {
    ("vxlan", "ipv4"): "type vxlan id 7 dstport 4789",
    ("vxlan", "ipv6"): "type vxlan id 7 dstport 4789",
    ("ipip", "ipv4"): "type ipip",
    ("ipip", "ipv6"): "type ip6tnl mode ip6ip6 encaplimit none",
    ("gre", "ipv4"): "type gre",
    ("gre", "ipv6"): "type ip6gre encaplimit none",
}
MATCHES = {"vxlan": "-p udp --dport 4789", "ipip": "-p {protocol}", "gre": "-p 47"}


def device(kind: str, family: Family, node: str) -> dict[str, object]:
    """Write the tunnel's end on one node; nobody has to ask for MAC addresses."""
    local, remote = ENDS[node]
    here, there = ADDRESSES[family] if node == "node" else ADDRESSES[family][::-1]
    mine, theirs = MACS if node == "node" else MACS[::-1]
    ethernet = kind == "vxlan"
    lines = [
        f"link add tun7 {f'address {mine} ' if ethernet else ''}{KINDS[kind, family]} "
        f"local {local} remote {remote}",
        "link set tun7 up",
        f"address add {here}/{24 if family == 'ipv4' else 64} dev tun7 nodad",
        *([f"neigh add {there} lladdr {theirs} dev tun7"] if ethernet else []),
    ]
    if node == "lan":
        via = f"via {there} " if ethernet else ""
        lines.append(f"route replace {{{{ pod-a.ip }}}} {via}dev tun7")
    return {"tool": "ip", "on": node, "text": "\n".join(lines), "family": [family]}


@pytest.fixture
def through(
    write_entry: Callable[..., Software], run_alone: Callable[..., Run]
) -> Callable[..., Run]:
    """Return what sends a pod's packets through a tunnel to the LAN host and back."""

    def run(kind: str, family: Family, variant: Variant, protocol: str = "udp") -> Run:
        match = MATCHES[kind].format(protocol="4" if family == "ipv4" else "41")
        rules = f"""\
*mangle
-A FORWARD -o tun7 -j MARK --set-xmark 0x5/0xff
-A OUTPUT {match} -j MARK --set-xmark 0x700/0xf00
COMMIT"""
        entry = write_entry(
            "tunnel",
            device(kind, family, "node"),
            device(kind, family, "lan"),
            {"tool": "iptables", "text": rules},
            **{
                "name": "in",
                "from": "pod-a",
                "to": ADDRESSES[family][1],
                "port": 6000,
                "protocol": protocol,
                "answered-by": "lan",
            },
        )
        return run_alone(entry, family, variant)

    return run


def marks(line: Timeline, point: str) -> dict[bool, set[int]]:
    """Return the marks read at a point, of the packet itself and of the tunnel's."""
    found: dict[bool, set[int]] = {}
    for reading in line.at(Point.parse(point)):
        found.setdefault(reading.outer, set()).add(reading.mark)
    return found


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["vxlan", "ipip", "gre"])
def test_every_packet_is_followed_inside_its_tunnel(
    through: Callable[..., Run], kind: str, family: Family, variant: Variant, protocol: str
) -> None:
    """The mark comes out of the device; rules of OUTPUT write on the tunnel's packet only."""
    try:
        run = through(kind, family, variant, protocol)
    except RuleRefused as problem:
        if "Unknown device type" not in str(problem):
            raise
        pytest.skip(f"this kernel has no {kind} device")
    (flow,) = run.flows
    assert run.lost == ()
    assert flow.fate.answered == flow.fate.sent
    requests = [line for line in flow.timelines if line.direction == "request"]
    assert len(requests) >= flow.fate.sent
    for line in requests:
        assert marks(line, "node forward mangle + 1") == {False: {0x5}}
        assert marks(line, "node output first") == {True: {0x5}}
        assert marks(line, "node postrouting mangle + 1") == {False: {0x5}, True: {0x705}}
        assert set(marks(line, "lan input filter + 1")) == {False, True}
        way = [(reading.point.node, reading.outer) for reading in line.readings()]
        ends = [("node", False), ("node", True), ("lan", True), ("lan", False)]
        assert [place for place, _ in groupby(way)][-4:] == ends
        rules = [run.rules[e.rule].written for e in line.events if isinstance(e, Hit)]
        assert any("0x700" in rule for rule in rules)
