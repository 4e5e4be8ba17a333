"""Bridges: the packet goes from port to port, or to and from the host [pure]."""

from __future__ import annotations

from lab.boundary.acts import Datagram
from lab.boundary.row import Change, Row, see

_BRIDGE = """\
b: ip link add br0 type bridge
b: ip addr flush dev v1
b: ip link set v1 master br0
b: ip addr add 10.0.0.2/24 dev br0
b: ip link add v2 type veth peer name v3 netns {c}
b: ip link set v2 master br0 up
b: ip link set br0 up
c: ip addr add 10.0.0.3/24 dev v3
c: ip link set v3 up
a: ip neigh del 10.0.0.2 dev v0
"""
_BRIDGE_MARK = (
    "b: nft table bridge m { chain c { type filter hook prerouting priority -300; "
    "udp dport 5000 meta mark set 0x22; }; }\n"
)

ROWS = (
    Row(
        name="bridge, from port to port",
        change=Change.KEPT,
        reason="the bridge never touches the mark",
        source="net/bridge/br_forward.c: br_dev_queue_push_xmit",
        built=_BRIDGE + _BRIDGE_MARK,
        sent=(Datagram("a", "10.0.0.3"),),
        readings=(
            see("b bridge prerouting", 0x22),
            see("b bridge postrouting", 0x22),
            see("b egress v2", 0x22),
        ),
        needs=("bridge", "netdev egress"),
    ),
    Row(
        name="bridge, local delivery",
        change=Change.KEPT,
        reason="br_pass_frame_up hands the same packet to the bridge device",
        source="net/bridge/br_input.c: br_pass_frame_up",
        built=_BRIDGE + _BRIDGE_MARK,
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(
            see("b bridge prerouting", 0x22),
            see("b prerouting -301", 0x22),
            see("b socket 5000", 0x22),
        ),
        needs=("bridge",),
    ),
    Row(
        name="bridge, sent by its own host",
        change=Change.KEPT,
        reason="br_dev_xmit hands the same packet to the port",
        source="net/bridge/br_device.c: br_dev_xmit",
        built=_BRIDGE,
        sent=(Datagram("b", "10.0.0.1", 0x44),),
        readings=(
            see("b output", 0x44),
            see("b egress br0", 0x44),
            see("b bridge output", 0x44),
            see("b bridge postrouting", 0x44),
            see("b egress v1", 0x44),
        ),
        needs=("bridge", "netdev egress"),
    ),
    Row(
        name="bridge, iptables rules by br_netfilter",
        change=Change.KEPT,
        reason="the ip hooks see the bridged packet itself; both marks stay on it",
        source="net/bridge/br_netfilter_hooks.c: br_nf_pre_routing",
        built=_BRIDGE
        + "b: sysctl net.bridge.bridge-nf-call-iptables 1\n"
        + "b: iptables-legacy -t mangle -A PREROUTING -p udp --dport 5000 -j MARK --set-mark 0x55\n"
        + "b: iptables-legacy -t mangle -A FORWARD -p udp --dport 5000 "
        "-j MARK --set-xmark 0x100/0x100\n",
        sent=(Datagram("a", "10.0.0.3"),),
        readings=(see("b bridge postrouting", 0x155), see("b egress v2", 0x155)),
        needs=("bridge", "br_netfilter", "netdev egress"),
    ),
    Row(
        name="bridge, iptables rules where nobody set bridge-nf-call-iptables",
        change=Change.REWRITTEN,
        reason="the sysctl is 1 in every new namespace as soon as br_netfilter is there",
        source="net/bridge/br_netfilter_hooks.c: br_netfilter_sysctl_default",
        built=_BRIDGE + "b: iptables-legacy -t mangle -A FORWARD -p udp --dport 5000 "
        "-j MARK --set-mark 0x55\n",
        sent=(Datagram("a", "10.0.0.3"),),
        readings=(see("b bridge prerouting", 0), see("b bridge postrouting", 0x55)),
        needs=("bridge", "br_netfilter"),
    ),
    Row(
        name="bridge, marked by ebtables",
        change=Change.REWRITTEN,
        reason="the ip hooks of the bridge device see the same packet",
        source="net/bridge/netfilter/ebt_mark.c: ebt_mark_tg",
        built=_BRIDGE + "b: ebtables-nft -t nat -A PREROUTING -p IPv4 --ip-proto udp "
        "--ip-dport 5000 -j mark --set-mark 0x66 --mark-target CONTINUE\n",
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(
            see("b ingress v1", 0),
            see("b prerouting -301", 0x66),
            see("b socket 5000", 0x66),
        ),
        needs=("bridge", "ebtables mark"),
    ),
)
