"""Devices: where the driver, not the namespace, decides about the mark [pure]."""

from __future__ import annotations

from lab.boundary.acts import Datagram, Frame, Run, Tunnel, WriteBack
from lab.boundary.row import Change, Row, see
from lab.boundary.rows.shared import marked, marked_at, tracked

_SCRUB = "veth_xmit calls skb_scrub_packet(skb, !net_eq(…)): the mark goes when the netns changes"
_SCRUB_SOURCE = "include/linux/netdevice.h#4098, drivers/net/veth.c#322"


def _veth(to: str, family: str) -> Row:
    return Row(
        name=f"veth, other namespace, {family}",
        change=Change.ERASED,
        reason=_SCRUB,
        source=_SCRUB_SOURCE,
        sent=(Datagram("a", to, 0x11),),
        readings=(
            see("a output", 0x11),
            see("a postrouting", 0x11),
            see("a egress v0", 0x11),
            see("b ingress v1", 0),
            see("b prerouting -301", 0),
            see("b input", 0),
            see("b socket 5000", 0),
        ),
        needs=("netdev egress",),
        family="ipv6" if family == "ipv6" else "ipv4",
    )


_ONE_NAMESPACE = """\
c: ip link add v0 type veth peer name v1
c: ip addr add 10.0.0.1/24 dev v0
c: ip addr add 10.0.0.50/32 dev v1
c: ip link set v0 up
c: ip link set v1 up
c: sysctl net.ipv4.conf.all.accept_local 1
"""


def _inside(bypass: bool) -> Row:
    how = "past the qdisc" if bypass else "by packet socket"
    return Row(
        name=f"veth, same namespace, {how}",
        change=Change.KEPT,
        reason="skb_scrub_packet(skb, false) leaves the mark",
        source="net/core/skbuff.c#6154",
        built=_ONE_NAMESPACE,
        sent=(Frame("c", "v0", "c", "v1", "10.0.0.1", "10.0.0.50", 0x22, bypass=bypass),),
        readings=(
            see("c tap v0 out", 0x22) if not bypass else see("c tap v1 in", 0x22),
            see("c ingress v1", 0x22),
            see("c prerouting -301", 0x22),
            see("c input", 0x22),
            see("c socket 5000", 0x22),
        ),
    )


_POLICY = """\
c: ip neigh add 10.0.0.50 lladdr 02:fc:00:02:00:01 dev v0
c: ip rule add pref 0 iif lo lookup 100
c: ip rule del pref 0 lookup local
c: ip rule add pref 10 lookup local
c: ip route add 10.0.0.50 dev v0 table 100
"""

VETH = (
    _veth("10.0.0.2", "ipv4"),
    _veth("fd00::2", "ipv6"),
    Row(
        name="veth, marked at the last moment",
        change=Change.ERASED,
        reason="the driver scrubs after every egress hook",
        source=_SCRUB_SOURCE,
        built=marked_at("a", "egress", "v0", 0x77),
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(see("a egress v0", 0x77), see("b ingress v1", 0), see("b socket 5000", 0)),
        needs=("netdev egress",),
    ),
    _inside(bypass=False),
    _inside(bypass=True),
    Row(
        name="veth, same namespace, by the IP stack",
        change=Change.KEPT,
        reason="the scrub leaves the mark in one netns and drops only the conntrack reference",
        source="net/core/skbuff.c#6154",
        built=_ONE_NAMESPACE.replace("peer name v1", "peer name v1 address 02:fc:00:02:00:01")
        + _POLICY,
        sent=(Datagram("c", "10.0.0.50", 0x22, device="v0", source="10.0.0.1"),),
        readings=(see("c output", 0x22), see("c ingress v1", 0x22), see("c prerouting", 0x22)),
    ),
    Row(
        name="veth, same namespace, ctmark",
        change=Change.KEPT,
        reason="nf_reset_ct in the scrub is unconditional, but the same table is asked again",
        source="net/core/skbuff.c#6154",
        built=_ONE_NAMESPACE.replace("peer name v1", "peer name v1 address 02:fc:00:02:00:01")
        + _POLICY
        + tracked("c", "output", 0xC1),
        sent=(Datagram("c", "10.0.0.50", device="v0", source="10.0.0.1"),),
        readings=(
            see("c output", 0xC1, word="ctmark"),
            see("c prerouting", 0xC1, word="ctmark"),
            see("c input", 0xC1, word="ctmark"),
        ),
    ),
    Row(
        name="loopback",
        change=Change.KEPT,
        reason="loopback_xmit does not scrub",
        source="drivers/net/loopback.c: loopback_xmit",
        sent=(Datagram("a", "127.0.0.1", 0x33),),
        readings=(
            see("a output", 0x33),
            see("a prerouting -301", 0x33),
            see("a socket 5000", 0x33),
        ),
    ),
    Row(
        name="loopback, ctmark",
        change=Change.KEPT,
        reason="loopback keeps the conntrack reference of the packet",
        source="drivers/net/loopback.c: loopback_xmit",
        built=tracked("a", "output", 0xC1),
        sent=(Datagram("a", "127.0.0.1", 0x33),),
        readings=(
            see("a output", 0xC1, word="ctmark"),
            see("a prerouting", 0xC1, word="ctmark"),
            see("a input", 0xC1, word="ctmark"),
        ),
    ),
    Row(
        name="neighbour queue",
        change=Change.KEPT,
        reason="the packet itself waits until its neighbour has answered",
        source="net/core/neighbour.c: __neigh_event_send",
        built="a: ip neigh del 10.0.0.2 dev v0\n",
        sent=(Datagram("a", "10.0.0.2", 0x11),),
        readings=(see("a output", 0x11), see("a egress v0", 0x11)),
        needs=("netdev egress",),
    ),
)


def _child(node: str, name: str, kind: str, address: str) -> str:
    moved = "" if node == "b" else f"b: ip link set {name} netns {{{node}}}\n"
    return (
        f"b: ip link add {name} link v1 type {kind}\n{moved}"
        f"{node}: ip addr add {address}/24 dev {name}\n{node}: ip link set {name} up\n"
    )


_MACVLAN = _child("c", "m0", "macvlan mode bridge", "10.0.0.3")
_BOTH = _MACVLAN + _child("d", "m1", "macvlan mode bridge", "10.0.0.4")
_RX = marked_at("b", "ingress", "v1", 0x22)

MACVLAN = (
    Row(
        name="macvlan, from the wire to a child elsewhere",
        change=Change.KEPT,
        reason="macvlan_handle_frame changes skb->dev and nothing else, though the netns changes",
        source="drivers/net/macvlan.c#531",
        built=_MACVLAN + _RX,
        sent=(Datagram("a", "10.0.0.3"),),
        readings=(
            see("b ingress v1", 0x22),
            see("c ingress m0", 0x22),
            see("c prerouting -301", 0x22),
            see("c socket 5000", 0x22),
        ),
        needs=("macvlan",),
    ),
    Row(
        name="macvlan, from a child elsewhere to the wire",
        change=Change.KEPT,
        reason="dev_queue_xmit_accel on the lower device, without a scrub",
        source="drivers/net/macvlan.c#563",
        built=_MACVLAN,
        sent=(Datagram("c", "10.0.0.1", 0x33),),
        readings=(see("c egress m0", 0x33), see("b egress v1", 0x33)),
        needs=("macvlan", "netdev egress"),
    ),
    Row(
        name="macvlan, from a child elsewhere to its sibling",
        change=Change.ERASED,
        reason="dev_forward_skb(lowerdev) scrubs, because the sender's netns is another one",
        source="drivers/net/macvlan.c#556",
        built=_BOTH,
        sent=(Datagram("c", "10.0.0.4", 0x34),),
        readings=(see("c egress m0", 0x34), see("b ingress v1", 0), see("d socket 5000", 0)),
        needs=("macvlan", "netdev egress"),
    ),
    Row(
        name="macvlan, from a child here to its sibling elsewhere",
        change=Change.KEPT,
        reason="the scrub compares with the lower device's netns, which is the sender's",
        source="drivers/net/macvlan.c#556",
        built=_child("b", "m2", "macvlan mode bridge", "10.0.0.5")
        + _child("d", "m1", "macvlan mode bridge", "10.0.0.4"),
        sent=(Datagram("b", "10.0.0.4", 0x35, device="m2"),),
        readings=(see("b egress m2", 0x35), see("d ingress m1", 0x35), see("d socket 5000", 0x35)),
        needs=("macvlan", "netdev egress"),
    ),
    Row(
        name="macvlan, broadcast to a sibling",
        change=Change.ERASED,
        reason="__dev_forward_skb scrubs each receiver's copy",
        source="drivers/net/macvlan.c: macvlan_broadcast_one",
        built=_BOTH,
        sent=(Datagram("c", "10.0.0.255", 0x33),),
        readings=(see("c egress m0", 0x33), see("d ingress m1", 0)),
        needs=("macvlan", "netdev egress"),
    ),
    Row(
        name="macvlan, broadcast to the wire",
        change=Change.KEPT,
        reason="the lower device sends the packet itself",
        source="drivers/net/macvlan.c#563",
        built=_BOTH,
        sent=(Datagram("c", "10.0.0.255", 0x33),),
        readings=(see("c egress m0", 0x33), see("b egress v1", 0x33)),
        needs=("macvlan", "netdev egress"),
    ),
)

_VLAN = (
    "a: ip link add v0.5 link v0 type vlan id 5\na: ip addr add 10.0.5.1/24 dev v0.5\n"
    "a: ip link set v0.5 up\nb: ip link add v1.5 link v1 type vlan id 5\n"
    "b: ip link set v1.5 netns {c}\nc: ip addr add 10.0.5.3/24 dev v1.5\nc: ip link set v1.5 up\n"
)

VLAN = (
    Row(
        name="8021q, from the wire to a child elsewhere",
        change=Change.KEPT,
        reason="vlan_do_receive changes skb->dev and nothing else",
        source="net/8021q/vlan_core.c#32",
        built=_VLAN + marked_at("b", "ingress", "v1", 0x22, "meta mark 0"),
        sent=(Datagram("a", "10.0.5.3"),),
        readings=(see("c ingress v1.5", 0x22), see("c socket 5000", 0x22)),
        needs=("vlan",),
    ),
    Row(
        name="8021q, from a child elsewhere to the wire",
        change=Change.KEPT,
        reason="vlan_dev_hard_start_xmit only changes skb->dev",
        source="net/8021q/vlan_dev.c#125",
        built=_VLAN,
        sent=(Datagram("c", "10.0.5.1", 0x33),),
        readings=(see("c egress v1.5", 0x33), see("b tap v1 out", 0x33)),
        needs=("vlan", "netdev egress"),
    ),
)

_CROSSES = "ipvlan_skb_crossing_ns is called for packets of and to its own host only"


def _ipvlan(mode: str) -> tuple[Row, ...]:
    # children share the MAC address of v1; those of layer 3 do not answer ARP
    known = "a: ip neigh add 10.0.0.3 lladdr 02:fc:00:01:00:02 dev v0 nud permanent\n"
    first = _child("c", "i0", f"ipvlan mode {mode}", "10.0.0.3") + known
    second = _child("d", "i1", f"ipvlan mode {mode}", "10.0.0.4")
    seen_in = "b input" if mode == "l3s" else "c prerouting -301"
    sends = Change.KEPT if mode == "l2" else Change.ERASED
    leaves = 0x33 if mode == "l2" else 0
    return (
        Row(
            name=f"ipvlan {mode}, from the wire",
            change=Change.KEPT,
            reason=_CROSSES,
            source="drivers/net/ipvlan/ipvlan_core.c#300",
            built=first + _RX,
            sent=(Datagram("a", "10.0.0.3"),),
            readings=(see("b ingress v1", 0x22), see(seen_in, 0x22), see("c socket 5000", 0x22)),
            needs=("ipvlan",),
        ),
        Row(
            name=f"ipvlan {mode}, to the wire",
            change=sends,
            reason=_CROSSES if mode == "l2" else "l3 modes scrub and go through the host's OUTPUT",
            source="drivers/net/ipvlan/ipvlan_core.c#613",
            built=first,
            sent=(Datagram("c", "10.0.0.1", 0x33),),
            readings=(see("c egress i0", 0x33), see("b egress v1", leaves)),
            needs=("ipvlan", "netdev egress"),
        ),
        Row(
            name=f"ipvlan {mode}, to a sibling",
            change=Change.ERASED,
            reason="the packet is scrubbed between two children",
            source="drivers/net/ipvlan/ipvlan_core.c#653",
            built=first + second,
            sent=(Datagram("c", "10.0.0.4", 0x33),),
            readings=(see("c egress i0", 0x33), see("d socket 5000", 0)),
            needs=("ipvlan", "netdev egress"),
        ),
    )


def _netkit(scrub: str) -> Row:
    kept = scrub == "none"
    return Row(
        name=f"netkit, other namespace, scrub {scrub}",
        change=Change.KEPT if kept else Change.ERASED,
        reason="netkit_prep_forward scrubs unless told not to",
        source="drivers/net/netkit.c#54",
        built=f"b: netkit n0 n1 {scrub}\nb: ip link set n1 netns {{c}}\n"
        "b: ip addr add 10.0.6.1/24 dev n0\nb: ip link set n0 up\n"
        "c: ip addr add 10.0.6.2/24 dev n1\nc: ip link set n1 up\n",
        sent=(Datagram("b", "10.0.6.2", 0x11),),
        readings=(see("b output", 0x11), see("c socket 5000", 0x11 if kept else 0)),
        needs=("netkit",),
    )


def _tunnel(kind: str) -> Row:
    neighbour = "b: ip neigh add 10.0.6.2 lladdr 02:fc:00:02:00:02 dev t0\n"
    configured = "b: ip addr add 10.0.6.1/24 dev t0\nb: ip link set t0 up\n" + (
        neighbour if kind == "tap" else ""
    )
    return Row(
        name=f"{kind}, through the program behind it",
        change=Change.ERASED,
        reason="read and write of the character device know no mark",
        source="drivers/net/tun.c: tun_get_user",
        sent=(
            Tunnel("b", "t0", "tap" if kind == "tap" else "tun"),
            Run(configured),
            Datagram("b", "10.0.6.2", 0x11, source="10.0.6.1", source_port=5000),
            WriteBack("b"),
        ),
        readings=(see("b output", 0x11), see("b prerouting -301", 0), see("b input", 0)),
        needs=("tun",),
    )


OTHERS = (
    _netkit("none"),
    _netkit("default"),
    _tunnel("tun"),
    _tunnel("tap"),
    Row(
        name="vrf, the ip hooks run twice",
        change=Change.KEPT,
        reason="vrf_l3_rcv runs PREROUTING again with the vrf as the input device",
        source="drivers/net/vrf.c: vrf_l3_rcv",
        built="b: ip link add f1 type vrf table 5\nb: ip link set f1 up\n"
        "b: ip link set v1 master f1\n"
        + marked("b", "prerouting", 0x22, "iifname v1 udp dport 5000"),
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(
            see("b prerouting", 0x22, match="iifname v1 udp dport 5000"),
            see("b prerouting -301", 0x22, match="iifname f1 udp dport 5000"),
            see("b input", 0x22),
        ),
        needs=("vrf",),
    ),
    Row(
        name="ifb",
        change=Change.KEPT,
        reason="the packet itself is redirected to ifb and comes back by ifb_ri_tasklet",
        source="drivers/net/ifb.c: ifb_ri_tasklet",
        built=_ONE_NAMESPACE
        + "c: ip link add f0 type ifb\nc: ip link set f0 up\nc: tc qdisc add dev v1 clsact\n"
        "c: tc filter add dev v1 ingress protocol ip prio 1 u32 match u32 0 0 "
        "action mirred egress redirect dev f0\n",
        sent=(Frame("c", "v0", "c", "v1", "10.0.0.1", "10.0.0.50", 0x22),),
        readings=(
            see("c tap v0 out", 0x22),
            see("c tap f0 out", 0x22),
            see("c prerouting -301", 0x22),
            see("c socket 5000", 0x22),
        ),
        needs=("ifb", "mirred"),
    ),
)  # fmt: skip

ROWS = VETH + MACVLAN + VLAN + OTHERS + tuple(
    row for mode in ("l2", "l3", "l3s") for row in _ipvlan(mode)
)  # fmt: skip
