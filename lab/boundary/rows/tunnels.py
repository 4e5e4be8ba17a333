"""Tunnels: the outer packet's mark from the inner one, and back [pure].

Every tunnel device is tried in the namespace it was made in (``here``) and moved to another one.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.boundary.acts import Datagram
from lab.boundary.row import Change, Row, see
from lab.boundary.rows.shared import marked
from lab.traffic.flow import Family


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of tunnel; ``options`` hold {near} and {far}, the underlay's addresses."""

    name: str
    options: str
    outer: str
    needs: str
    underlay: Family = "ipv4"
    six_inside: bool = False


_KINDS = (
    _Kind("vxlan", "type vxlan id 42 local {near} remote {far} dstport 4789 dev {device}",
          "udp dport 4789", "vxlan"),
    _Kind("vxlan over ipv6", "type vxlan id 42 local {near} remote {far} dstport 4789 dev {device}",
          "udp dport 4789", "vxlan", "ipv6"),
    _Kind("geneve", "type geneve id 42 remote {far}", "udp dport 6081", "geneve"),
    _Kind("gre", "type gre local {near} remote {far} ttl 64", "meta l4proto 47", "gre"),
    _Kind("gretap", "type gretap local {near} remote {far} ttl 64", "meta l4proto 47", "gretap"),
    _Kind("ipip", "type ipip local {near} remote {far} ttl 64", "meta l4proto 4", "ipip"),
    _Kind("sit", "type sit local {near} remote {far} ttl 64", "meta l4proto 41", "sit",
          six_inside=True),
    _Kind("ip6tnl", "type ip6tnl mode ipip6 local {near} remote {far} encaplimit none",
          "meta l4proto 4", "ip6tnl", "ipv6"),
    _Kind("ip6gre", "type ip6gre local {near} remote {far} encaplimit none", "meta l4proto 47",
          "ip6gre", "ipv6"),
    _Kind("fou ipip", "type ipip local {near} remote {far} ttl 64 encap fou encap-sport auto "
          "encap-dport 5555", "udp dport 5555", "fou"),
)  # fmt: skip

_TX = "iptunnel_xmit: skb_scrub_packet(skb, tunnel->net != dev_net(dev)), then the mark goes along"
_RX = "__iptunnel_pull_header scrubs only if the device is in another netns than the tunnel"


def _ends(kind: _Kind, near: str, far: str) -> str:
    """Build both ends, each in its node or moved from a to c and from b to d."""
    four = ("10.0.0.1", "10.0.0.2") if kind.underlay == "ipv4" else ("fd00::1", "fd00::2")
    inner = ("fd09::1/64", "fd09::2/64") if kind.six_inside else ("10.0.9.1/24", "10.0.9.2/24")
    sides = (("a", near, "v0", four, inner[0]), ("b", far, "v1", four[::-1], inner[1]))
    return "".join(_end(kind.options, *side) for side in sides)


def _end(options: str, made: str, node: str, device: str, ends: tuple[str, ...], inner: str) -> str:
    text = options.format(near=ends[0], far=ends[1], device=device)
    move = f"{made}: ip link set t0 netns {{{node}}}\n" if node != made else ""
    # the port that takes the outer packets belongs to the namespace of the underlay
    port = f"{made}: ip fou add port 5555 ipproto 4\n" if "encap fou" in options else ""
    return (
        f"{made}: ip link add t0 {text}\n{port}{move}"
        f"{node}: ip addr add {inner} dev t0{' nodad' if ':' in inner else ''}\n"
        f"{node}: ip link set t0 up\n"
    )


def _sending(kind: _Kind, moved: bool) -> Row:
    node = "c" if moved else "a"
    return Row(
        name=f"{kind.name}, {'device moved' if moved else 'device here'}, inner to outer",
        change=Change.ERASED if moved else Change.INHERITED,
        reason=_TX,
        source="net/ipv4/ip_tunnel_core.c#73",
        built=_ends(kind, node, "b"),
        sent=(Datagram(node, "fd09::2" if kind.six_inside else "10.0.9.2", 0x11),),
        readings=(
            see(f"{node} output", 0x11),
            see(f"{node} postrouting", 0x11),
            see("a tap v0 out", 0 if moved else 0x11),
        ),
        needs=(kind.needs,),
        family=kind.underlay,
    )


def _receiving(kind: _Kind, moved: bool) -> Row:
    node = "d" if moved else "b"
    return Row(
        name=f"{kind.name}, {'device moved' if moved else 'device here'}, outer to inner",
        change=Change.ERASED if moved else Change.INHERITED,
        reason=_RX,
        source="net/ipv4/ip_tunnel_core.c#134",
        built=_ends(kind, "a", node) + marked("b", "prerouting", 0x22, kind.outer),
        sent=(Datagram("a", "fd09::2" if kind.six_inside else "10.0.9.2"),),
        readings=(
            see("b prerouting -290", 0x22, match=kind.outer),
            see(f"{node} ingress t0", 0 if moved else 0x22),
            see(f"{node} prerouting -301", 0 if moved else 0x22),
        ),
        needs=(kind.needs,),
        family=kind.underlay,
    )


_GBP = _Kind("vxlan gbp", f"{_KINDS[0].options} gbp", "udp dport 4789", "vxlan")


def _group_policy(sent: int) -> Row:
    arrives = sent & 0x0048FFFF
    return Row(
        name=f"vxlan gbp, {sent:#x} by wire to another machine",
        change=Change.KEPT if arrives == sent else Change.REWRITTEN,
        reason="the bits 0x0048ffff travel in the header and overwrite the mark: "
        "skb->mark = md->gbp",
        source="drivers/net/vxlan/vxlan_core.c#1607, include/net/vxlan.h#116",
        built=_ends(_GBP, "c", "d") + marked("b", "prerouting", 0x22, _GBP.outer),
        sent=(Datagram("c", "10.0.9.2", sent),),
        readings=(see("c output", sent), see("d prerouting -301", arrives),
                  see("d socket 5000", arrives)),
        needs=("vxlan",),
    )  # fmt: skip


_KEYS = (  # private and public; they guard nothing
    (
        "dGhpcyBpcyBub3QgYSBzZWNyZXQ6IG5vZGUgYSAxMjM=",
        "/uhqnslQSXVS0dLDjRykmdgZtzDhTiTXo53P+SKeVEw=",
    ),
    (
        "dGhpcyBpcyBub3QgYSBzZWNyZXQ6IG5vZGUgYiAxMjM=",
        "JL9y3FPaBi4v4ofScQlHdjYj7aDITiCyCC8J1Ed/eDI=",
    ),
)


def _wireguard(node_a: str, node_b: str, fwmark: int = 0) -> str:
    sides = (("a", node_a, "10.0.9.1", "10.0.0.2"), ("b", node_b, "10.0.9.2", "10.0.0.1"))
    text = ""
    for number, (made, node, address, endpoint) in enumerate(sides):
        private, peer = _KEYS[number][0], _KEYS[1 - number][1]
        move = f"{made}: ip link set t0 netns {{{node}}}\n" if node != made else ""
        text += (
            f"{made}: ip link add t0 type wireguard\n"
            f"{made}: wireguard t0 {private} {peer} {endpoint} {fwmark:#x}\n{move}"
            f"{node}: ip addr add {address}/24 dev t0\n{node}: ip link set t0 up\n"
        )
    return text


_WIREGUARD_OUT = "wg_reset_packet: skb_scrub_packet(skb, true) always, then skb->mark = wg->fwmark"

WIREGUARD = (
    Row(
        name="wireguard, device here, inner to outer",
        change=Change.ERASED,
        reason=_WIREGUARD_OUT,
        source="drivers/net/wireguard/queueing.h#81",
        built=_wireguard("a", "b"),
        sent=(Datagram("a", "10.0.9.2", 0x11),),
        readings=(
            see("a egress t0", 0x11),
            see("a egress v0", 0, match="udp dport 51820"),
        ),
        needs=("wireguard", "netdev egress"),
    ),
    Row(
        name="wireguard, with fwmark 0x5, inner to outer",
        change=Change.REWRITTEN,
        reason=_WIREGUARD_OUT,
        source="drivers/net/wireguard/socket.c#36",
        built=_wireguard("a", "b", 0x5),
        sent=(Datagram("a", "10.0.9.2", 0x11),),
        readings=(
            see("a egress t0", 0x11),
            see("a egress v0", 0x5, match="udp dport 51820"),
        ),
        needs=("wireguard", "netdev egress"),
    ),
    Row(
        name="wireguard, device moved, with fwmark 0x5, inner to outer",
        change=Change.REWRITTEN,
        reason="the socket stays where the device was made, and with it the fwmark",
        source="drivers/net/wireguard/socket.c#36",
        built=_wireguard("c", "b", 0x5),
        sent=(Datagram("c", "10.0.9.2", 0x11),),
        readings=(
            see("c egress t0", 0x11),
            see("a egress v0", 0x5, match="udp dport 51820"),
        ),
        needs=("wireguard", "netdev egress"),
    ),
    Row(
        name="wireguard, device moved, outer to inner",
        change=Change.ERASED,
        reason=_WIREGUARD_OUT,
        source="drivers/net/wireguard/queueing.h#81",
        built=_wireguard("a", "d") + marked("b", "prerouting", 0x22, "udp dport 51820"),
        sent=(Datagram("a", "10.0.9.2"),),
        readings=(
            see("b prerouting -290", 0x22, match="udp dport 51820"),
            see("d ingress t0", 0),
            see("d socket 5000", 0),
        ),
        needs=("wireguard",),
    ),
    Row(
        name="wireguard, device here, outer to inner",
        change=Change.ERASED,
        reason=_WIREGUARD_OUT,
        source="drivers/net/wireguard/queueing.h#81",
        built=_wireguard("a", "b") + marked("b", "prerouting", 0x22, "udp dport 51820"),
        sent=(Datagram("a", "10.0.9.2"),),
        readings=(
            see("b prerouting -290", 0x22, match="udp dport 51820"),
            see("b ingress t0", 0),
            see("b socket 5000", 0),
        ),
        needs=("wireguard",),
    ),
)


def _esp(out: str = "", into: str = "") -> str:
    keys = f"auth hmac(sha1) 0x{'11' * 20} enc cbc(aes) 0x{'22' * 16}"
    state = (
        "ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x100 reqid 1 mode tunnel "
        + keys
    )
    policy = "ip xfrm policy add src 10.0.9.1 dst 10.0.9.2 dir {} tmpl src 10.0.0.1 dst 10.0.0.2 " \
             "proto esp reqid 1 mode tunnel"  # fmt: skip
    return (
        f"a: ip addr add 10.0.9.1/32 dev lo\nb: ip addr add 10.0.9.2/32 dev lo\n"
        f"a: ip route add 10.0.9.2 via 10.0.0.2 src 10.0.9.1\n"
        f"a: {state}{out}\nb: {state}{into}\n"
        f"a: {policy.format('out')}\nb: {policy.format('in')}\n"
    )


def _outer_esp(mark: str, expected: int) -> Row:
    return Row(
        name=f"esp, inner to outer{mark and ', output-mark 0x900/0xff00'}",
        change=Change.REWRITTEN if mark else Change.INHERITED,
        reason="the packet itself is encrypted; only output-mark changes its mark",
        source="net/xfrm/xfrm_output.c#506",
        built=_esp(out=mark),
        sent=(Datagram("a", "10.0.9.2", 0x11, source="10.0.9.1"),),
        readings=(see("a output", 0x11), see("a egress v0", expected, match="meta l4proto esp")),
        needs=("esp", "netdev egress"),
    )


def _inner_esp(mark: str, expected: int) -> Row:
    return Row(
        name=f"esp, outer to inner{mark and ', output-mark 0xa00/0xff00'}",
        change=Change.REWRITTEN if mark else Change.INHERITED,
        reason="the packet itself is decrypted; only output-mark changes its mark",
        source="net/xfrm/xfrm_input.c#592",
        built=_esp(into=mark) + marked("b", "prerouting", 0x22, "meta l4proto esp"),
        sent=(Datagram("a", "10.0.9.2", source="10.0.9.1"),),
        readings=(
            see("b prerouting -290", 0x22, match="meta l4proto esp"),
            see("b input", expected),
            see("b socket 5000", expected),
        ),
        needs=("esp",),
    )


ESP = (
    _outer_esp("", 0x11),
    _outer_esp(" output-mark 0x900 mask 0xff00", 0x911),
    _inner_esp("", 0x22),
    _inner_esp(" output-mark 0xa00 mask 0xff00", 0xA22),
)

# if_id 7 joins the states and policies to an xfrm interface, key 7 (a mark) to a vti device.
_BY_DEVICE = {
    "xfrm interface": ("type xfrm if_id 7", "if_id 7", "if_id 7"),
    "vti": ("type vti local {near} remote {far} key 7", "", "mark 7"),
}


def _secured(kind: str) -> str:
    """Build an ESP tunnel from a to b behind devices."""
    device, of_state, of_policy = _BY_DEVICE[kind]
    keys = f"auth hmac(sha1) 0x{'11' * 20} enc cbc(aes) 0x{'22' * 16}"
    pair = "src 10.0.0.1 dst 10.0.0.2"
    text = ""
    for node, way, near, far in (("a", "out", "1", "2"), ("b", "in", "2", "1")):
        link = device.format(near=f"10.0.0.{near}", far=f"10.0.0.{far}")
        policy = f"src 0.0.0.0/0 dst 0.0.0.0/0 dir {way} {of_policy} tmpl {pair} proto esp reqid 1"
        text += (
            f"{node}: ip link add t0 {link}\n{node}: ip addr add 10.0.9.{near}/24 dev t0\n"
            f"{node}: ip link set t0 up\n"
            f"{node}: ip xfrm state add {pair} proto esp spi 0x100 reqid 1 mode tunnel {keys} "
            f"{of_state}\n{node}: ip xfrm policy add {policy} mode tunnel\n"
        )
    return text


def _through(kind: str, needs: tuple[str, ...]) -> tuple[Row, Row]:
    built, esp = _secured(kind), "meta l4proto esp"
    return (
        Row(
            name=f"{kind}, inner to outer",
            change=Change.INHERITED,
            reason="the packet itself is encrypted; a vti's key is its mark in the look-up only",
            source="net/ipv4/ip_vti.c#104, net/xfrm/xfrm_interface_core.c#296",
            built=built,
            sent=(Datagram("a", "10.0.9.2", 0x11),),
            readings=(see("a output", 0x11), see("a egress v0", 0x11, match=esp)),
            needs=(*needs, "netdev egress"),
        ),
        Row(
            name=f"{kind}, outer to inner",
            change=Change.INHERITED,
            reason="the packet itself is decrypted, and scrubbed only for a device elsewhere",
            source="net/ipv4/ip_vti.c#104, net/xfrm/xfrm_interface_core.c#296",
            built=built + marked("b", "prerouting", 0x22, esp),
            sent=(Datagram("a", "10.0.9.2"),),
            readings=(
                see("b prerouting -290", 0x22, match=esp),
                see("b ingress t0", 0x22),
                see("b socket 5000", 0x22),
            ),
            needs=needs,
        ),
    )


ROWS = (
    tuple(
        row
        for kind in _KINDS
        for moved in (False, True)
        for row in (_sending(kind, moved), _receiving(kind, moved))
    )
    + tuple(_group_policy(mark) for mark in (0x11, 0x1FFFF, 0xDEADBEEF, 0x490011))
    + WIREGUARD
    + ESP
    + _through("xfrm interface", ("esp", "xfrm interface"))
    + _through("vti", ("esp", "vti"))
    + (
        Row(
            name="gre, option fwmark 0x5",
            change=Change.INHERITED,
            reason="the option feeds the route look-up only; the outer mark is the inner one's",
            source="net/ipv4/ip_tunnel.c#764",
            built=_ends(_Kind("gre", _KINDS[3].options + " fwmark 0x5", "", "gre"), "a", "b"),
            sent=(Datagram("a", "10.0.9.2", 0x11),),
            readings=(see("a output", 0x11), see("a tap v0 out", 0x11)),
            needs=("gre",),
        ),
    )
)
