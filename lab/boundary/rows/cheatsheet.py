"""Every way of marking in the ipftrace2 cheat sheet, where it shows first and last [pure].

https://github.com/YutaroHayakawa/ipftrace2, "Packet Marking Cheat Sheet". Packets come from a, b
marks them; the sender's ways are read on a.
"""

from __future__ import annotations

from lab.boundary.acts import Datagram, Run, Wait
from lab.boundary.row import Change, Reading, Row, see
from lab.traffic.flow import Family

BEEF = 0xDEADBEEF
_SOURCES: dict[Family, tuple[str, str]] = {
    "ipv4": ("10.0.0.1", "10.0.0.2"),
    "ipv6": ("fd00::1", "fd00::2"),
}
_FORWARDED: dict[Family, tuple[str, str]] = {
    "ipv4": ("10.0.1.1", "10.0.2.1"),
    "ipv6": ("fd01::1", "fd02::1"),
}


def _raw(program: str, family: Family) -> Row:
    source, destination = _FORWARDED[family]
    return Row(
        name=f"{program} -t raw -A PREROUTING by source",
        change=Change.ERASED,
        reason="visible from raw PREROUTING to the egress of the node, gone behind the veth pair",
        source="net/netfilter/xt_mark.c: mark_tg",
        built=f"r: {program} -t raw -A PREROUTING -s {source} -j MARK --set-mark {BEEF:#x}\n",
        sent=(Datagram("a", destination),),
        readings=(
            see("r prerouting -299", BEEF),
            see("r forward", BEEF),
            see("r egress rb", BEEF),
            see("b ingress v0", 0),
        ),
        needs=("netdev egress",),
        network="router",
        family=family,
    )


def _early(name: str, text: str, needs: tuple[str, ...], source: str, mark: int = BEEF) -> Row:
    return Row(
        name=name,
        change=Change.ERASED,
        reason="visible from netdev ingress, before every ip hook, to the egress of the node",
        source=source,
        built=text,
        sent=(Datagram("a", "10.0.2.1"),),
        readings=(
            see("r ingress ra", mark),
            see("r prerouting -301", mark),
            see("r forward", mark),
            see("r egress rb", mark),
            see("b ingress v0", 0),
        ),
        needs=(*needs, "netdev egress"),
        network="router",
    )


def _by_socket(family: Family) -> Row:
    return Row(
        name=f"SO_MARK, {family}",
        change=Change.ERASED,
        reason="visible from the first OUTPUT hook to the egress of the node",
        source="net/ipv4/ip_output.c: __ip_make_skb, net/ipv6/ip6_output.c: __ip6_make_skb",
        sent=(Datagram("a", _SOURCES[family][1], BEEF),),
        readings=(
            see("a output -400", BEEF),
            see("a egress v0", BEEF),
            see("b ingress v1", 0),
        ),
        needs=("netdev egress",),
        family=family,
    )


def _ping(family: Family) -> Row:
    to = _SOURCES[family][1]
    echo = "icmp type echo-request" if family == "ipv4" else "icmpv6 type echo-request"
    return Row(
        name=f"ping -m 1234, {family}",
        change=Change.ERASED,
        reason="ping sets SO_MARK",
        source="net/core/sock.c#1516",
        sent=(Run(f"a: ping -m 1234 -c 1 -W 1 {to}\n"),),
        readings=(see("a output -400", 1234), see("a egress v0", 1234), see("b ingress v1", 0)),
        match=echo,
        needs=("ping", "netdev egress"),
        family=family,
    )


def _limited(program: str) -> Row:
    burst, marked = Datagram("a", "10.0.0.2", count=5), (BEEF, 0, 0, 0, 0)
    again = program == "iptables-nft"  # wait for the next token once, it takes a second
    return Row(
        name=f"{program} -m limit --limit 1/s --limit-burst 1",
        change=Change.REWRITTEN,
        reason="one token a second: of a burst only the first packet is marked",
        source="net/netfilter/xt_limit.c: limit_mt",
        built=f"b: {program} -t raw -A PREROUTING -s 10.0.0.1 -p udp -m limit --limit 1/s "
        f"--limit-burst 1 -j MARK --set-mark {BEEF:#x}\n",
        sent=(burst, Wait(1.05), burst) if again else (burst,),
        readings=(
            see("b prerouting -301", 0),
            Reading("b socket 5000", marked * (1 + again), each=True),
        ),
    )


ROWS = (
    _raw("iptables-nft", "ipv4"),
    _raw("iptables-legacy", "ipv4"),
    _raw("ip6tables-nft", "ipv6"),
    _raw("ip6tables-legacy", "ipv6"),
    _early(
        "tc ingress u32 and skbedit",
        "r: tc qdisc add dev ra ingress\n"
        "r: tc filter add dev ra parent ffff: protocol ip prio 1 u32 match ip src 10.0.1.1 "
        f"action skbedit mark {BEEF:#x}\n",
        ("skbedit",),
        "net/sched/act_skbedit.c: tcf_skbedit_act",
    ),
    _early(
        "tc ingress cls_bpf, in the place of skbedit",
        f"r: bpf tc ingress ra: mark = {BEEF:#x} if ip saddr 10.0.1.1\n",
        ("bpf",),
        "net/core/filter.c: bpf_convert_ctx_access",
    ),
    _early(
        "nft netdev ingress, in the place of skbedit",
        'r: nft table netdev e { chain i { type filter hook ingress device "ra" priority -500; '
        f"ip saddr 10.0.1.1 meta mark set {BEEF:#x}; }}; }}\n",
        (),
        "net/netfilter/nft_meta.c: nft_meta_set_eval",
    ),
    _by_socket("ipv4"),
    _by_socket("ipv6"),
    _ping("ipv4"),
    _ping("ipv6"),
    _limited("iptables-nft"),
    _limited("iptables-legacy"),
    _early(
        "XDP metadata, and a program at tc ingress",
        f"r: xdp ra {BEEF:#x}\nr: metadata ra\n",
        ("xdp", "bpf"),
        "samples/bpf/xdp2skb_meta_kern.c",
    ),
    Row(
        name="XDP metadata alone",
        change=Change.IGNORED,
        reason="the mark stays 0 until a program at tc ingress copies the metadata",
        source="net/core/dev.c: bpf_prog_run_generic_xdp",
        built=f"b: xdp v1 {BEEF:#x}\n",
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(see("b ingress v1", 0), see("b socket 5000", 0)),
        needs=("xdp",),
    ),
)
