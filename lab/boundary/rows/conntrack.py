"""The ctmark: which entry holds it, and which packets see it [pure]."""

from __future__ import annotations

from lab.boundary.acts import ActiveFtp, Answer, Datagram
from lab.boundary.row import Change, Row, see
from lab.boundary.rows.shared import UDP, marked, tracked

_SHORT, _LONG = "udp length < 30", "udp length > 60"
_NAT = (
    "r: nft table ip translated { chain d { type nat hook prerouting priority -100; "
    "udp dport 5000 dnat to 10.0.2.1:6000; }; "
    "chain s { type nat hook postrouting priority 100; udp dport 6000 masquerade; }; }\n"
    "r: nft table ip marks { chain p { type filter hook prerouting priority -150; "
    "udp dport 5000 meta mark set 0x22 ct mark set 0xc5; }; }\n"
)
_REPLY = "udp sport 6000"

ROWS = (
    Row(
        name="ctmark, per namespace",
        change=Change.FRESH,
        reason="each netns has a table of its own, and nf_reset_ct drops the entry at the veth",
        source="net/netfilter/nf_conntrack_core.c: init_conntrack",
        built=tracked("a", "output", 0xA1) + tracked("r", "prerouting", 0xA2),
        sent=(Datagram("a", "10.0.2.1"),),
        readings=(
            see("a postrouting", 0xA1, word="ctmark"),
            see("r prerouting -190", 0, word="ctmark"),
            see("r forward", 0xA2, word="ctmark"),
            see("b input", 0, word="ctmark"),
        ),
        network="router",
    ),
    Row(
        name="ctmark, seen by the reply",
        change=Change.INHERITED,
        reason="both directions of a connection are one entry",
        source="net/netfilter/nf_conntrack_core.c: resolve_normal_ct",
        built=tracked("r", "prerouting", 0xA2),
        sent=(Datagram("a", "10.0.2.1"), Answer("b")),
        readings=(
            see("r forward", 0xA2, word="ctmark"),
            see("b socket 5000", 0),
            see("r prerouting -190", 0xA2, word="ctmark", match="udp sport 5000"),
        ),
        network="router",
    ),
    Row(
        name="ctmark, moved to another zone",
        change=Change.FRESH,
        reason="the zone belongs to the key: the same tuple in zone 5 is another entry",
        source="net/netfilter/nf_conntrack_core.c: resolve_normal_ct",
        built="b: nft table inet zones { chain p { type filter hook prerouting priority -300; "
        f"{UDP} {_LONG} ct zone set 5; }}; }}\n"
        + tracked("b", "prerouting", 0xF1, f"{UDP} {_SHORT}"),
        sent=(
            Datagram("a", "10.0.0.2", source_port=4000),
            Datagram("a", "10.0.0.2", source_port=4000, size=100),
        ),
        readings=(
            see("b input", 0xF1, word="ctmark", match=f"{UDP} {_SHORT}"),
            see("b input", 0, word="ctmark", match=f"{UDP} {_LONG}"),
        ),
    ),
    Row(
        name="ctmark, one entry per zone",
        change=Change.REWRITTEN,
        reason="two zones hold two ctmarks for the same addresses and ports",
        source="net/netfilter/nf_conntrack_core.c: resolve_normal_ct",
        built="b: nft table inet zones { chain p { type filter hook prerouting priority -300; "
        f"{UDP} {_LONG} ct zone set 1; }}; }}\n"
        "b: nft table inet m { chain p { type filter hook prerouting priority -100; "
        f"{UDP} {_SHORT} ct mark set 0xf0; {UDP} {_LONG} ct mark set 0xf1; }}; }}\n",
        sent=(
            Datagram("a", "10.0.0.2", source_port=4000),
            Datagram("a", "10.0.0.2", source_port=4000, size=100),
            Datagram("a", "10.0.0.2", source_port=4000),
        ),
        readings=(
            see("b input", 0xF0, word="ctmark", match=f"{UDP} {_SHORT}"),
            see("b input", 0xF1, word="ctmark", match=f"{UDP} {_LONG}"),
        ),
    ),
    Row(
        name="ctmark, through NAT",
        change=Change.INHERITED,
        reason="NAT changes the tuples, the entry stays one",
        source="net/netfilter/nf_nat_core.c: nf_nat_setup_info",
        built=_NAT,
        sent=(Datagram("a", "10.0.1.254"), Answer("b", 6000)),
        readings=(
            see("r forward", 0xC5, word="ctmark", match="udp dport 6000"),
            see("b socket 6000", 0),
            see("r forward", 0xC5, word="ctmark", match=_REPLY),
        ),
        network="router",
    ),
    Row(
        name="packet mark of the reply, through NAT",
        change=Change.FRESH,
        reason="the ctmark is never copied to a packet unless a rule does it",
        source="net/netfilter/nf_nat_core.c: nf_nat_setup_info",
        built=_NAT,
        sent=(Datagram("a", "10.0.1.254"), Answer("b", 6000)),
        readings=(
            see("r forward", 0x22, match="udp dport 6000"),
            see("b socket 6000", 0),
            see("r forward", 0, match=_REPLY),
        ),
        network="router",
    ),
    Row(
        name="packet mark of the reply, restored by a rule",
        change=Change.INHERITED,
        reason="meta mark set ct mark copies the word",
        source="net/netfilter/nft_ct.c: nft_ct_get_eval",
        built=_NAT
        + "r: nft table inet restored { chain p { type filter hook prerouting priority -140; "
        "ct direction reply meta mark set ct mark; }; }\n",
        sent=(Datagram("a", "10.0.1.254"), Answer("b", 6000)),
        readings=(
            see("r forward", 0xC5, word="ctmark", match="udp dport 6000"),
            see("b socket 6000", 0),
            see("r forward", 0xC5, match=_REPLY),
        ),
        network="router",
    ),
    Row(
        name="packet mark of the reply, restored by tc (act_connmark)",
        change=Change.INHERITED,
        reason="the action looks the entry up by itself, before every netfilter hook",
        source="net/sched/act_connmark.c: tcf_connmark_act",
        built=tracked("r", "prerouting", 0xC7) + "r: tc qdisc add dev rb clsact\n"
        "r: tc filter add dev rb ingress protocol ip prio 1 u32 match u32 0 0 action connmark\n",
        sent=(Datagram("a", "10.0.2.1"), Answer("b")),
        readings=(
            see("r forward", 0xC7, word="ctmark"),
            see("b socket 5000", 0),
            see("r ingress rb", 0xC7, match="udp sport 5000"),
        ),
        needs=("connmark",),
        network="router",
    ),
    Row(
        name="ctmark, of an FTP data connection",
        change=Change.INHERITED,
        reason="init_conntrack copies the mark of the connection that announced it, once",
        source="net/netfilter/nf_conntrack_core.c#1790",
        built='b: nft table ip h { ct helper f { type "ftp" protocol tcp; }; '
        "chain p { type filter hook prerouting priority 0; "
        'tcp dport 21 ct helper set "f"; tcp dport 21 ct mark set 0xf7; }; }\n',
        sent=(ActiveFtp("a", "b", "10.0.0.1", "10.0.0.2"),),
        readings=(
            see("b input", 0xF7, word="ctmark", match="tcp dport 21"),
            see("b postrouting", 0xF7, word="ctmark", match="tcp dport 51210"),
        ),
        needs=("ftp helper",),
    ),
    Row(
        name="ctmark, of an ICMP error",
        change=Change.INHERITED,
        reason="icmp_error attaches the error to the entry of the packet it is about",
        source="net/netfilter/nf_conntrack_proto_icmp.c: nf_conntrack_inet_error",
        built=tracked("r", "prerouting", 0xE7),
        sent=(Datagram("a", "10.0.2.1"),),
        readings=(
            see("r forward", 0xE7, word="ctmark"),
            see("r forward", 0xE7, word="ctmark", match="icmp type destination-unreachable"),
        ),
        network="router",
    ),
    Row(
        name="packet mark, of an ICMP error",
        change=Change.FRESH,
        reason="the error is a new packet",
        source="net/ipv4/icmp.c: __icmp_send",
        built=marked("b", "prerouting", 0x22),
        sent=(Datagram("a", "10.0.0.2"),),
        readings=(
            see("b input", 0x22),
            see("b output", 0, match="icmp type destination-unreachable"),
        ),
    ),
    Row(
        name="ctmark, when the first packet is dropped",
        change=Change.ERASED,
        reason="an entry that is not confirmed goes with its packet",
        source="net/netfilter/nf_conntrack_core.c: __nf_conntrack_confirm",
        built=tracked("r", "prerouting", 0xC1)
        + "r: nft table inet drops { chain f { type filter hook forward priority 10; "
        + f"{UDP} drop; }}; }}\n",
        sent=(
            Datagram("a", "10.0.2.1", source_port=4000),
            Datagram("a", "10.0.2.1", source_port=4000),
        ),
        readings=(
            see("r forward", 0xC1, word="ctmark"),
            see("r prerouting -190", 0, word="ctmark"),
        ),
        network="router",
    ),
    Row(
        name="notrack, packet mark of a rule that also sets the ctmark",
        change=Change.KEPT,
        reason="without an entry the ctmark is not written, and the rule goes on",
        source="net/netfilter/nft_ct.c: nft_ct_set_eval",
        built="r: nft table inet n { chain p { type filter hook prerouting priority -300; "
        f"{UDP} notrack; }}; chain m {{ type filter hook prerouting priority -150; "
        f"{UDP} ct mark set 0x33 meta mark set 0x22; }}; }}\n",
        sent=(Datagram("a", "10.0.2.1"),),
        readings=(
            see("r prerouting", 0x22),
            see("r forward", word="ctmark"),
            see("r forward", 0x22),
        ),
        network="router",
    ),
    Row(
        name="flowtable, packets after the first",
        change=Change.ERASED,
        reason="the fast path skips every hook, and with them the rules that mark",
        source="net/netfilter/nf_flow_table_ip.c: nf_flow_offload_ip_hook",
        built='r: nft table inet f { flowtable t { hook ingress priority 0; devices = { "ra", "rb" '
        "}; }; chain f { type filter hook forward priority 0; meta l4proto udp flow add @t; }; }\n"
        + marked("r", "prerouting", 0x22, f"{UDP}"),
        sent=(
            Datagram("a", "10.0.2.1", source_port=4000),
            Answer("b"),
            Datagram("a", "10.0.2.1", source_port=4000, size=100),
            Answer("b"),
            Datagram("a", "10.0.2.1", source_port=4000, size=100),
        ),
        readings=(
            see("r forward", 0x22),
            see("b socket 5000", 0),
            see("r tap rb out", 0, 0x22),
            see("b input", 0),
        ),
        needs=("flowtable",),
        network="router",
    ),
)
