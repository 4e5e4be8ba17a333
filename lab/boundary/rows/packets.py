"""One packet that becomes several or the reverse, and rules that do not run as they read [pure]."""

from __future__ import annotations

from lab.boundary.acts import Conversation, Datagram, Frame, Run
from lab.boundary.row import Change, Row, see
from lab.boundary.rows.shared import UDP
from lab.traffic.flow import Family

_TRACKING = (
    "r: nft table inet c { chain p { type filter hook prerouting priority 0; "
    "ct state new counter; }; }\n"
)
_ADDRESSES: dict[Family, tuple[str, str, str]] = {
    "ipv4": ("10.0.1.1", "10.0.2.1", "10.0.1.254"),
    "ipv6": ("fd01::1", "fd02::1", "fd01::254"),
}
_OF: dict[Family, str] = {"ipv4": "ip protocol udp", "ipv6": "ip6 saddr fd01::1 meta l4proto udp"}


def _by_offset(family: Family) -> str:
    if family == "ipv4":
        tests = [f"ip frag-off & 0x1fff == {n} ip protocol udp" for n in (0, 3, 6)]
    else:
        tests = [f"frag frag-off {n}" for n in (0, 3, 6)]
    rules = " ".join(f"{test} meta mark set {n:#x};" for n, test in enumerate(tests, 1))
    chain = f'type filter hook ingress device "ra" priority -500; {rules}'
    return f"r: nft table netdev m {{ chain i {{ {chain} }}; }}\n"


def _forwarded(family: Family, order: tuple[int, ...], tracked: bool) -> Row:
    source, destination, _ = _ADDRESSES[family]
    marks = (0x1,) if tracked else (0x1, 0x2, 0x3)
    letters = "".join(map(str, order))
    return Row(
        name=f"fragments {letters}, {'tracked' if tracked else 'untracked'}, {family}",
        change=Change.REWRITTEN if tracked else Change.KEPT,
        reason="reassembly keeps the mark of the fragment at offset 0, and gives it to all pieces"
        if tracked
        else "without reassembly each fragment is a packet of its own",
        source="net/ipv4/inet_fragment.c#544, net/ipv4/ip_output.c#568, net/ipv6/ip6_output.c#698",
        built=_by_offset(family) + (_TRACKING if tracked else ""),
        sent=(Frame("a", "v0", "r", "ra", source, destination, fragments=order),),
        readings=(
            see("r ingress ra", 0x1, 0x2, 0x3),
            see("r forward", *marks),
            see("r postrouting", *marks),
            see("r egress rb", *marks),
        ),
        match=_OF[family],
        needs=("netdev egress",),
        network="router",
        family=family,
    )


def _delivered(family: Family, order: tuple[int, ...]) -> Row:
    source, _, here = _ADDRESSES[family]
    return Row(
        name=f"fragments {''.join(map(str, order))}, to a socket, {family}",
        change=Change.REWRITTEN,
        reason="reassembly keeps the mark of the fragment at offset 0",
        source="net/ipv4/inet_fragment.c#544",
        built=_by_offset(family),
        sent=(Frame("a", "v0", "r", "ra", source, here, fragments=order),),
        readings=(see("r ingress ra", 0x1, 0x2, 0x3), see("r socket 5000", 0x1)),
        match=_OF[family],
        network="router",
        family=family,
    )


_ORDERS = ((0, 1, 2), (2, 1, 0), (1, 2, 0))
FRAGMENTS = tuple(
    row
    for family in _ADDRESSES
    for order in _ORDERS
    for row in (
        _forwarded(family, order, tracked=False),
        _forwarded(family, order, tracked=True),
        _delivered(family, order),
    )
)


def _in_nat(program: str, tracked: bool) -> Row:
    marking = "r: {} -t nat -A PREROUTING -p udp --dport 5000 -j MARK --set-mark 0x77\n"
    other = f"r: {program} -t nat -A POSTROUTING -o rb -j MASQUERADE\n"
    return Row(
        name=f"MARK in the nat table, {program}, "
        + ("first packet only" if tracked else "never without conntrack"),
        change=Change.REWRITTEN if tracked else Change.IGNORED,
        reason="nat chains see the first packet of a connection only"
        if tracked
        else "nothing has switched conntrack on, and nf_nat_inet_fn accepts untracked packets",
        source="net/netfilter/nf_nat_core.c#919",
        built=marking.format(program) + (other if tracked else ""),
        sent=(
            Datagram("a", "10.0.2.1", source_port=4000),
            Datagram("a", "10.0.2.1", source_port=4000),
        ),
        readings=(
            see("r prerouting -301", 0),
            see("r forward", *((0, 0x77) if tracked else (0,))),
        ),
        network="router",
    )


def _nft_at(name: str, mark: int) -> str:
    return (
        f"a: nft table inet {name} {{ chain o {{ type filter hook output priority -150; "
        f"{UDP} meta mark set {mark:#x}; }}; }}\n"
    )


def _xt(program: str, mark: int) -> str:
    return f"a: {program} -t mangle -A OUTPUT -p udp --dport 5000 -j MARK --set-mark {mark:#x}\n"


def _same_priority(first: str, second: str) -> Row:
    texts = [
        _nft_at(f"n{mark}", mark) if name == "nft" else _xt(name, mark)
        for mark, name in ((1, first), (2, second))
    ]
    return Row(
        name=f"same priority, {first} installed before {second}",
        change=Change.REWRITTEN,
        reason="a base chain goes in front of those of equal priority: "
        "the first one installed writes last",
        source="net/netfilter/core.c#154",
        built="".join(texts),
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(see("a output -301", 0), see("a output", 0x1)),
    )


OTHERS = (
    Row(
        name="fragments of a local datagram",
        change=Change.KEPT,
        reason="ip_copy_metadata: to->mark = from->mark",
        source="net/ipv4/ip_output.c#568",
        sent=(Datagram("a", "10.0.0.2", 0x11, size=4000),),
        readings=(see("a output", 0x11), see("a egress v0", 0x11), see("a tap v0 out", 0x11)),
        match="ip protocol udp",
        needs=("netdev egress",),
    ),
    Row(
        name="gso, segments of one write",
        change=Change.KEPT,
        reason="skb_segment copies the header of the packet to each piece",
        source="net/core/skbuff.c: skb_segment",
        built="a: offload v0 off\n",
        sent=(Conversation("a", "10.0.0.2", "b", 0x11, size=60000),),
        readings=(
            see("a output", 0x11, match="tcp dport 5000"),
            see("a tap v0 out", 0x11),
        ),
    ),
    Row(
        name="MLDv2 report of the kernel, MTU 1500",
        change=Change.REWRITTEN,
        reason="the mark shares its bytes with reserved_tailroom, which mld_newpack sets",
        source="include/linux/skbuff.h#1049, net/ipv6/mcast.c#1778",
        built="c: ip link add v0 type veth peer name v1\n",
        sent=(Run("c: ip link set v1 up\nc: ip link set v0 up\n"),),
        readings=(
            see("c output -301", 0, match="icmpv6 type nd-router-solicit"),
            see("c output -301", 0xD4, match="icmpv6 type mld2-listener-report"),
        ),
    ),
)

_BACKENDS = ("iptables-nft", "iptables-legacy")
ROWS = (
    FRAGMENTS
    + tuple(_in_nat(program, tracked) for program in _BACKENDS for tracked in (False, True))
    + tuple(
        _same_priority(first, second)
        for first in ("nft", *_BACKENDS)
        for second in ("nft", *_BACKENDS)
        if first == "nft" or first != second
    )
    + OTHERS
)
