"""Marks between packets and sockets: replies of the kernel, accepted sockets, TPROXY [pure]."""

from __future__ import annotations

from lab.boundary.acts import Answer, Conversation, Datagram, Frame
from lab.boundary.row import Change, Row, see
from lab.boundary.rows.shared import marked
from lab.traffic.flow import Family

_SYN_ACK = "tcp sport 5000 tcp flags & (syn|ack) == (syn|ack)"
_DATA = "tcp sport 5000 tcp flags & psh == psh"
_ENDS: dict[Family, tuple[str, str]] = {
    "ipv4": ("10.0.0.1", "10.0.0.2"),
    "ipv6": ("fd00::1", "fd00::2"),
}
_REPLIES: dict[tuple[str, Family], tuple[str, str, str]] = {
    ("icmp", "ipv4"): ("echo reply", "icmp type echo-request", "icmp type echo-reply"),
    ("icmp", "ipv6"): ("echo reply", "icmpv6 type echo-request", "icmpv6 type echo-reply"),
    ("udp", "ipv4"): ("port unreachable", "udp dport 5999", "icmp type destination-unreachable"),
    ("udp", "ipv6"): ("port unreachable", "udp dport 5999", "icmpv6 type destination-unreachable"),
    ("tcp", "ipv4"): ("reset of a closed port", "tcp dport 5999", "tcp sport 5999"),
    ("tcp", "ipv6"): ("reset of a closed port", "tcp dport 5999", "tcp sport 5999"),
}


def _on(value: int) -> str:
    return "on" if value else "off"


def _reflected(kind: str, family: Family, value: int) -> Row:
    name, request, reply = _REPLIES[kind, family]
    source, destination = _ENDS[family]
    frame = Frame("a", "v0", "b", "v1", source, destination,
                  kind="icmp" if kind == "icmp" else "udp" if kind == "udp" else "tcp",
                  port=5999)  # fmt: skip
    return Row(
        name=f"fwmark_reflect {_on(value)}, {name}, {family}",
        change=Change.INHERITED if value else Change.FRESH,
        reason="IP_REPLY_MARK(net, mark) is the mark if fwmark_reflect is set, else 0",
        source="include/net/ip.h: IP4_REPLY_MARK",
        built=f"b: sysctl net.{family}.fwmark_reflect {value}\n"
        + marked("b", "prerouting", 0x22, request),
        sent=(frame,),
        readings=(
            see("b input", 0x22, match=request),
            see("b output", 0x22 if value else 0, match=reply),
        ),
        family=family,
    )


def _router_reply(name: str, value: int) -> Row:
    rule = {
        "ttl exceeded": ("", "icmp type time-exceeded", "udp"),
        "reject": ("udp dport 5999 reject", "icmp type destination-unreachable", "udp"),
        "reject with reset": ("tcp dport 5999 reject with tcp reset", "tcp sport 5999", "tcp"),
    }[name]
    request = f"{rule[2]} dport 5999"
    chain = f"type filter hook forward priority 10; {rule[0]};"
    rejecting = f"r: nft table inet rj {{ chain f {{ {chain} }}; }}\n"
    frame = Frame("a", "v0", "r", "ra", "10.0.1.1", "10.0.2.1", port=5999,
                  kind="tcp" if rule[2] == "tcp" else "udp",
                  ttl=1 if name == "ttl exceeded" else 64)  # fmt: skip
    return Row(
        name=f"fwmark_reflect {_on(value)}, {name} by a router",
        change=Change.INHERITED if value else Change.FRESH,
        reason="IP_REPLY_MARK(net, mark) is the mark if fwmark_reflect is set, else 0",
        source="include/net/ip.h: IP4_REPLY_MARK",
        built=f"r: sysctl net.ipv4.fwmark_reflect {value}\n"
        + marked("r", "prerouting", 0x22, request)
        + (rejecting if rule[0] else ""),
        sent=(frame,),
        readings=(
            see("r prerouting", 0x22, match=request),
            see("r output", 0x22 if value else 0, match=rule[1]),
        ),
        network="router",
    )


def _accepted(family: Family, value: int, listener: int) -> Row:
    mark = listener or (0x22 if value else 0)
    names = {True: f"tcp_fwmark_accept {_on(value)}, listener marked {listener:#x}, {family}",
             False: f"tcp_fwmark_accept {_on(value)}, {family}"}  # fmt: skip
    inherits = Change.REWRITTEN if listener else Change.INHERITED
    return Row(
        name=names[bool(listener)],
        change=inherits if mark else Change.FRESH,
        reason="inet_request_mark: the listener's own mark, else the SYN's if tcp_fwmark_accept",
        source="include/net/inet_sock.h#108",
        built=f"b: sysctl net.ipv4.tcp_fwmark_accept {value}\n"
        + marked("b", "prerouting", 0x22, "tcp dport 5000"),
        sent=(Conversation("a", _ENDS[family][1], "b", listener_mark=listener),),
        readings=(
            see("b input", 0x22, match="tcp dport 5000"),
            see("b output", mark, match=_SYN_ACK),
            see("b accepted", mark, word="socket mark"),
            see("b output", mark, match=_DATA),
        ),
        family=family,
    )


def _cookie(which: str, match: str, mark: int) -> Row:
    return Row(
        name=f"SYN cookies, tcp_fwmark_accept on, {which} marked",
        change=Change.INHERITED if mark else Change.FRESH,
        reason="nothing is kept of the SYN: the socket takes the mark of the ACK that returns "
        "the cookie",
        source="net/ipv4/syncookies.c: cookie_v4_check",
        built="b: sysctl net.ipv4.tcp_syncookies 2\nb: sysctl net.ipv4.tcp_fwmark_accept 1\n"
        + marked("b", "prerouting", 0x22, match),
        sent=(Conversation("a", "10.0.0.2", "b"),),
        readings=(
            see("b input", 0x22, match=match),
            see("b accepted", mark, word="socket mark"),
            see("b output", mark, match=_DATA),
        ),
    )


_COOKIES = (
    _cookie("only the SYN is", "tcp dport 5000 tcp flags & (syn|ack) == syn", 0),
    _cookie("all but the SYN are", "tcp dport 5000 tcp flags & syn == 0", 0x22),
)

_TPROXY = (
    "b: ip rule add fwmark 0x1/0x1 lookup 100\n"
    "b: ip route add local default dev lo table 100\n"
    "b: ip addr del 10.0.0.2/24 dev v1\nb: ip addr add 10.0.0.9/24 dev v1\n"
    "b: ip neigh add 10.0.0.1 lladdr 02:fc:00:01:00:01 dev v1 nud permanent\n"
    "b: iptables-legacy -t mangle -A PREROUTING -p tcp --dport 5000 "
    "-j TPROXY --on-port 8080 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1\n"
)

OTHERS = (
    Row(
        name="socket mark, every segment of a connection",
        change=Change.KEPT,
        reason="__ip_queue_xmit copies sk_mark to each packet",
        source="net/ipv4/ip_output.c: __ip_queue_xmit",
        sent=(Conversation("a", "10.0.0.2", "b", 0x11),),
        readings=(
            see("a output", 0x11, match="tcp dport 5000"),
            see("a postrouting", 0x11, match="tcp dport 5000"),
        ),
    ),
    Row(
        name="socket mark, changed while connected",
        change=Change.REWRITTEN,
        reason="__ip_queue_xmit copies what sk_mark is then",
        source="net/ipv4/ip_output.c: __ip_queue_xmit",
        sent=(Conversation("a", "10.0.0.2", "b", 0x11, remark=0x12),),
        readings=(
            see("a output", 0x11, match="tcp dport 5000 tcp flags & (syn|ack) == syn"),
            see("a output", 0x12, match="tcp dport 5000 tcp flags & psh == psh"),
        ),
    ),
    Row(
        name="socket mark, of the client and the server's answer",
        change=Change.FRESH,
        reason="the mark ends at the veth pair, and the answer is another socket's",
        source="net/ipv4/ip_output.c: __ip_make_skb",
        sent=(Datagram("a", "10.0.0.2", 0x11), Answer("b")),
        readings=(
            see("a output", 0x11),
            see("b socket 5000", 0),
            see("b output", 0, match="udp sport 5000"),
        ),
    ),
    Row(
        name="tproxy, accepted socket",
        change=Change.FRESH,
        reason="the accepted socket takes the listener's mark; tcp_fwmark_accept is off",
        source="include/net/inet_sock.h#108",
        built=_TPROXY,
        sent=(Conversation("a", "10.0.0.2", "b", listen_port=8080, transparent=True),),
        readings=(
            see("b prerouting", 0x1, match="tcp dport 5000"),
            see("b input", 0x1, match="tcp dport 5000"),
            see("b accepted", 0, word="socket mark"),
        ),
        needs=("TPROXY",),
    ),
    Row(
        name="tproxy, accepted socket, tcp_fwmark_accept on",
        change=Change.INHERITED,
        reason="the accepted socket takes the SYN's mark, and its answers match the policy rule",
        source="include/net/inet_sock.h#108",
        built=_TPROXY + "b: sysctl net.ipv4.tcp_fwmark_accept 1\n",
        sent=(Conversation("a", "10.0.0.2", "b", listen_port=8080, transparent=True),),
        readings=(
            see("b prerouting", 0x1, match="tcp dport 5000"),
            see("b output", 0x1, match=_SYN_ACK),
        ),
        needs=("TPROXY",),
    ),
    Row(
        name="xt socket match, --restore-skmark",
        change=Change.INHERITED,
        reason="the match writes the socket's mark to the packet",
        source="net/netfilter/xt_socket.c: socket_match",
        built="b: iptables-legacy -t mangle -A PREROUTING -p tcp --dport 5000 "
        "-m socket --transparent --restore-skmark -j ACCEPT\n",
        sent=(Conversation("a", "10.0.0.2", "b", listener_mark=0x51, transparent=True),),
        readings=(
            see("b accepted", 0x51, word="socket mark"),
            see("b input", 0x51, match="tcp dport 5000 tcp flags & psh == psh"),
        ),
        needs=("socket match",),
    ),
    Row(
        name="nft socket mark",
        change=Change.INHERITED,
        reason="socket mark loads sk_mark of the socket the packet belongs to",
        source="net/netfilter/nft_socket.c: nft_socket_eval",
        built="b: nft table inet s { chain p { type filter hook prerouting priority -150; "
        "tcp dport 5000 meta mark set socket mark; }; }\n",
        sent=(Conversation("a", "10.0.0.2", "b", listener_mark=0x51),),
        readings=(
            see("b accepted", 0x51, word="socket mark"),
            see("b input", 0x51, match="tcp dport 5000 tcp flags & psh == psh"),
        ),
    ),
)

ROWS = (
    tuple(_reflected(kind, family, value) for kind, family in _REPLIES for value in (0, 1))
    + tuple(
        _router_reply(name, value)
        for name in ("ttl exceeded", "reject", "reject with reset")
        for value in (0, 1)
    )
    + tuple(
        _accepted(family, value, listener)
        for family in _ENDS
        for value in (0, 1)
        for listener in (0, 0x44)
    )
    + _COOKIES
    + OTHERS
)
