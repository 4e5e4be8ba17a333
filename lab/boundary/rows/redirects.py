"""Redirects and copies: tc, eBPF, nft, TEE, NFQUEUE and XDP [pure]."""

from __future__ import annotations

from lab.boundary.acts import Answer, Datagram, Queue, Release
from lab.boundary.row import Change, Reading, Row, see
from lab.boundary.rows.shared import UDP, leg, marked

_LEG = leg("b", "v2", "c", "v3", 7)
_MIRRED = "b: tc qdisc add dev {on} clsact\nb: tc filter add dev {on} {hook} protocol ip prio 1 " \
          "u32 match ip dport 5000 0xffff action mirred {action} dev v2\n"  # fmt: skip


def _mirred(action: str, mark: int, *readings: Reading) -> Row:
    return Row(
        name=f"tc mirred, {action}",
        change=Change.KEPT,
        reason="the packet, or its clone, goes to the other device with its mark",
        source="net/sched/act_mirred.c: tcf_mirred_to_dev",
        built=_LEG + _MIRRED.format(on="v1", hook="egress", action=action)
        + ("b: sysctl net.ipv4.conf.all.accept_local 1\n" if "ingress" in action else ""),
        sent=(Datagram("b", "10.0.0.1", mark),),
        readings=(see("b output", mark), *readings),
        needs=("mirred",),
    )  # fmt: skip


MIRRED = (
    _mirred("egress redirect", 0x44, see("b tap v2 out", 0x44)),
    _mirred("egress mirror", 0x45, see("b tap v1 out", 0x45), see("b tap v2 out", 0x45)),
    _mirred("ingress redirect", 0x46, see("b prerouting -301", 0x46, match=f"iifname v2 {UDP}")),
    _mirred("ingress mirror", 0x47, see("b tap v1 out", 0x47),
            see("b prerouting -301", 0x47, match=f"iifname v2 {UDP}")),
)  # fmt: skip

_IF_UDP = "if udp and dport 5000"


def _bpf(name: str, program: str, *readings: Reading, kept: bool, why: str, source: str) -> Row:
    return Row(
        name=name,
        change=Change.KEPT if kept else Change.ERASED,
        reason=why,
        source=source,
        built=_LEG + f"b: bpf tc ingress v1: {program} {_IF_UDP}\nb: ip link set v2 up\n"
        "b: ip neigh add 10.0.7.2 lladdr 02:fc:00:02:00:09 dev v2\n",
        sent=(Datagram("a", "10.0.0.2"),),
        readings=readings,
        needs=("bpf",),
    )


_XMIT = "dev_queue_xmit on the veth device, whose driver then scrubs"

BPF = (
    _bpf("bpf_redirect to a veth pair", "mark = 0x23, redirect v2",
         see("b tap v2 out", 0x23), see("c ingress v3", 0),
         kept=False, why=_XMIT, source="net/core/filter.c: __bpf_tx_skb"),
    _bpf("bpf_redirect to ingress", "mark = 0x24, redirect-ingress v2",
         see("b ingress v2", 0x24), see("b tap v2 in", 0x24),
         kept=True, why="the packet is received again, unscrubbed",
         source="net/core/filter.c: __bpf_rx_skb"),
    _bpf("bpf_redirect_peer to another namespace", "mark = 0x22, redirect-peer v2",
         see("c ingress v3", 0x22), see("c prerouting -301", 0x22, match=UDP),
         kept=True, why="skb_scrub_packet(skb, false), though the netns changes",
         source="net/core/filter.c#2548"),
    Row(
        name="bpf_redirect_neigh to a veth pair",
        change=Change.ERASED,
        reason=_XMIT,
        source="net/core/filter.c: __bpf_redirect_neigh",
        built=_LEG + f"b: bpf tc ingress v1: mark = 0x25, redirect-neigh v2 {_IF_UDP}\n"
        "a: ip route add 10.0.7.0/24 via 10.0.0.2\n",
        sent=(Datagram("a", "10.0.7.2"),),
        readings=(see("b tap v2 out", 0x25), see("c ingress v3", 0)),
        needs=("bpf",),
    ),
    Row(
        name="bpf_clone_redirect to a veth pair",
        change=Change.ERASED,
        reason=_XMIT,
        source="net/core/filter.c: bpf_clone_redirect",
        built=_LEG + "b: clone v1 v2 0x26\n",
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(see("b prerouting -301", 0x26), see("b tap v2 out", 0x26),
                  see("c ingress v3", 0)),
        needs=("bpf",),
    ),
    Row(
        name="bpf at tc egress",
        change=Change.REWRITTEN,
        reason="clsact egress runs after nft's egress hook and before packet sockets",
        source="net/core/dev.c: sch_handle_egress",
        built=f"b: bpf tc egress v1: mark = 0x22 {_IF_UDP}\n",
        sent=(Datagram("b", "10.0.0.1", 0x11),),
        readings=(see("b egress v1", 0x11), see("b tap v1 out", 0x22)),
        needs=("bpf", "netdev egress"),
    ),
    Row(
        name="xdp metadata, to a mark by tc",
        change=Change.INHERITED,
        reason="cls_bpf copies the word in front of the frame to skb->mark",
        source="samples/bpf/xdp2skb_meta_kern.c",
        built="b: xdp v1 0xfeedface\nb: metadata v1\n",
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(see("b ingress v1", 0xFEEDFACE), see("b socket 5000", 0xFEEDFACE)),
        needs=("xdp", "bpf"),
    ),
    Row(
        name="xdp metadata alone",
        change=Change.IGNORED,
        reason="nothing but a program at tc reads the metadata",
        source="net/core/dev.c: bpf_prog_run_generic_xdp",
        built="b: xdp v1 0xfeedface\n",
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(see("b ingress v1", 0), see("b socket 5000", 0)),
        needs=("xdp",),
    ),
)  # fmt: skip

_TEE = (
    "b: iptables-legacy -t mangle -A PREROUTING -p udp --dport 5000 -j MARK --set-mark 0x22\n"
    "b: iptables-legacy -t mangle -A PREROUTING -p udp --dport 5000 -j TEE --gateway 10.0.7.2\n"
    "b: iptables-legacy -t mangle -A PREROUTING -p udp --dport 5000 -j MARK --set-mark 0x33\n"
)
_OTHER = 'oifname "v2" udp dport 5000'


def _copies(line: str) -> str:
    return f"b: nft {line}\n"


COPIES = (
    Row(
        name="iptables TEE",
        change=Change.KEPT,
        reason="the copy has the mark of that moment, not the later one",
        source="net/ipv4/netfilter/nf_dup_ipv4.c: nf_dup_ipv4",
        built=_LEG + _TEE,
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(see("b output", 0x22, match=_OTHER), see("b tap v2 out", 0x22)),
        needs=("TEE",),
    ),
    Row(
        name="nft dup, in the ip family",
        change=Change.KEPT,
        reason="pskb_copy copies the mark; the copy is untracked",
        source="net/ipv4/netfilter/nf_dup_ipv4.c: nf_dup_ipv4",
        built=_LEG + marked("b", "prerouting", 0x22)
        + _copies('table ip copies { chain c { type filter hook prerouting priority -150; '
                  'udp dport 5000 dup to 10.0.7.2 device "v2"; }; }'),
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(see("b prerouting", 0x22), see("b postrouting", 0x22, match=_OTHER),
                  see("b tap v2 out", 0x22)),
        needs=("nft dup",),
    ),
    Row(
        name="nft dup, at netdev ingress",
        change=Change.KEPT,
        reason="skb_clone copies the mark",
        source="net/netfilter/nf_dup_netdev.c: nf_dup_netdev_egress",
        built=_LEG + _copies('table netdev copies { chain c { type filter hook ingress device "v1" '
                             'priority 0; udp dport 5000 meta mark set 0x22 dup to "v2"; }; }'),
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(see("b ingress v1", 0x22), see("b tap v2 out", 0x22)),
        needs=("nft fwd",),
    ),
    Row(
        name="nft fwd, at netdev ingress",
        change=Change.KEPT,
        reason="the packet itself is sent by the other device",
        source="net/netfilter/nf_dup_netdev.c: nf_fwd_netdev_egress",
        built=_LEG + _copies('table netdev copies { chain m { type filter hook ingress device "v1" '
                             'priority -10; udp dport 5000 meta mark set 0x22; }; '
                             'chain c { type filter hook ingress device "v1" priority 510; '
                             'udp dport 5000 fwd to "v2"; }; }'),
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(see("b ingress v1", 0x22), see("b tap v2 out", 0x22)),
        needs=("nft fwd",),
    ),
)  # fmt: skip

_QUEUED = (
    "b: iptables-legacy -t mangle -A PREROUTING -p udp --dport 5000 -j MARK --set-mark 0x22\n"
    "b: iptables-legacy -t mangle -A PREROUTING -p udp --dport 5000 -j NFQUEUE --queue-num 0\n"
)


def _queued(mark: int) -> Row:
    after = mark or 0x22
    return Row(
        name=f"NFQUEUE, verdict {'with' if mark else 'without'} mark",
        change=Change.REWRITTEN if mark else Change.KEPT,
        reason="NFQA_MARK replaces the mark, its absence leaves it",
        source="net/netfilter/nfnetlink_queue.c: nfqnl_recv_verdict",
        built=_QUEUED,
        sent=(Queue("b"), Datagram("a", "10.0.0.2"), Release("b", mark)),
        readings=(
            see("b prerouting -90", after),
            see("b input", after),
            see("b socket 5000", after),
        )
        if not mark
        else (see("b prerouting -151", 0), see("b input", mark), see("b socket 5000", mark)),
        needs=("NFQUEUE",),
    )


QUEUES = (
    _queued(0),
    _queued(0x99),
    Row(
        name="NFQUEUE in mangle OUTPUT, verdict mark",
        change=Change.REWRITTEN,
        reason="reinjecting re-routes when the mark changed",
        source="net/netfilter/nf_queue.c: nf_reroute",
        built=leg("a", "w0", "c", "w1", 7) + "a: ip route add default via 10.0.7.2 table 77\n"
        "a: ip rule add fwmark 0x77/0xff lookup 77\n"
        "a: iptables-legacy -t mangle -A OUTPUT -p udp --dport 5000 -j NFQUEUE\n",
        sent=(Queue("a"), Datagram("a", "10.0.0.2"), Release("a", 0x77)),
        readings=(see("a output -301", 0), see("a tap w0 out", 0x77)),
        needs=("NFQUEUE",),
    ),
)

_BALANCED = "r: ipvsadm -A -f 5 -s rr\nr: ipvsadm -a -f 5 -r 10.0.2.1:0 -m\n"
_ANSWERED = "udp sport 5000"

IPVS = (
    Row(
        name="IPVS, service by fwmark",
        change=Change.KEPT,
        reason="the mark chooses the service at INPUT; the packet goes on with another destination",
        source="net/netfilter/ipvs/ip_vs_core.c: ip_vs_in_hook, ip_vs_xmit.c: ip_vs_nat_xmit",
        built=_BALANCED + marked("r", "prerouting", 0x5),
        sent=(Datagram("a", "10.0.1.254"),),
        readings=(
            see("r prerouting", 0x5),
            see("r output", 0x5),
            see("r tap rb out", 0x5),
        ),
        needs=("ipvs",),
        network="router",
    ),
    Row(
        name="IPVS, reply of a service by fwmark",
        change=Change.FRESH,
        reason="the reply belongs to the connection, and takes no mark from it",
        source="net/netfilter/ipvs/ip_vs_core.c: handle_response",
        built=_BALANCED + marked("r", "prerouting", 0x5),
        sent=(Datagram("a", "10.0.1.254"), Answer("b")),
        readings=(
            see("r prerouting", 0x5),
            see("b socket 5000", 0),
            see("r postrouting", 0, match=_ANSWERED),
        ),
        needs=("ipvs",),
        network="router",
    ),
)

ROWS = MIRRED + BPF + COPIES + QUEUES + IPVS
