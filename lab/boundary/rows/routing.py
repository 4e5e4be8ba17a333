"""Where a mark decides about the way: validation of sources, early demux, re-routing [pure]."""

from __future__ import annotations

from lab.boundary.acts import Conversation, Datagram
from lab.boundary.row import Change, Row, see
from lab.boundary.rows.shared import UDP, leg, marked

# The way back to a exists only for packets that carry 0x77; main leads to b.
_BACK = (
    "r: ip route add 10.0.1.0/24 dev ra table 77\nr: ip rule add fwmark 0x77 lookup 77\n"
    "r: ip route del 10.0.1.0/24 dev ra\nr: ip route add 10.0.1.0/24 via 10.0.2.1\n"
)
_RAW = marked("r", "prerouting", 0x77)


def _filtered(rp_filter: int, valid_mark: int, where: str = "ra") -> Row:
    passes = rp_filter != 1 or valid_mark
    everywhere = " set for all devices" if where == "all" else ""
    return Row(
        name=f"rp_filter {rp_filter}, src_valid_mark {valid_mark}{everywhere}, "
        "way back by mark only",
        change=Change.KEPT if passes else Change.DROPPED,
        reason="the source is looked up with the mark only if src_valid_mark is set"
        if rp_filter == 1
        else "rp_filter 0 and 2 accept a source that any route leads to",
        source="net/ipv4/fib_frontend.c#369",
        built=_BACK + _RAW + f"r: sysctl net.ipv4.conf.ra.rp_filter {rp_filter}\n"
        f"r: sysctl net.ipv4.conf.{where}.src_valid_mark {valid_mark}\n",
        sent=(Datagram("a", "10.0.2.1"),),
        readings=(see("r prerouting", 0x77), see("r forward", *((0x77,) if passes else ()))),
        network="router",
    )


def _unmarked(valid_mark: int) -> Row:
    return Row(
        name=f"rp_filter 1, src_valid_mark {valid_mark}, unmarked packet",
        change=Change.DROPPED,
        reason="without the mark the way back leads to another device",
        source="net/ipv4/fib_frontend.c#369",
        built=_BACK + "r: sysctl net.ipv4.conf.ra.rp_filter 1\n"
        f"r: sysctl net.ipv4.conf.ra.src_valid_mark {valid_mark}\n",
        sent=(Datagram("a", "10.0.2.1"),),
        readings=(see("r prerouting", 0), see("r forward")),
        network="router",
    )


def _local(valid_mark: int, accept_local: int) -> Row:
    passes = not valid_mark or accept_local
    return Row(
        name=f"local table by mark, src_valid_mark {valid_mark}, accept_local {accept_local}",
        change=Change.KEPT if passes else Change.DROPPED,
        reason="looked up with its mark, the source is a local address: a martian, "
        "unless accept_local is set",
        source="net/ipv4/fib_frontend.c#369",
        built="r: ip rule add fwmark 0x1/0x1 lookup 100\n"
        "r: ip route add local default dev lo table 100\n"
        + marked("r", "prerouting", 0x1)
        + f"r: sysctl net.ipv4.conf.ra.src_valid_mark {valid_mark}\n"
        f"r: sysctl net.ipv4.conf.ra.accept_local {accept_local}\n",
        sent=(Datagram("a", "10.0.2.1"),),
        readings=(see("r prerouting", 0x1), see("r input", *((0x1,) if passes else ()))),
        network="router",
    )


def _demux(early: int) -> Row:
    data = "tcp dport 5000 tcp flags & psh == psh"
    return Row(
        name=f"early demux {'on' if early else 'off'}, marked packet of a connection",
        change=Change.KEPT if early else Change.DROPPED,
        reason="early demux takes the socket's route, before any policy rule sees the mark",
        source="net/ipv4/ip_input.c: ip_rcv_finish_core",
        built=f"b: sysctl net.ipv4.ip_early_demux {early}\n"
        "b: ip rule add pref 0 fwmark 0x77 lookup 99\nb: ip rule del pref 0 lookup local\n"
        "b: ip rule add pref 1 lookup local\nb: ip route add blackhole default table 99\n"
        + marked("b", "prerouting", 0x77, data),
        sent=(Conversation("a", "10.0.0.2", "b"),),
        readings=(
            see("b prerouting", 0x77, match=data),
            see("b input", *((0x77,) if early else ()), match=data),
        ),
    )


_WAY = (
    leg("a", "w0", "c", "w1", 7)
    + "a: ip route add default via 10.0.7.2 table 77\n"
    + "a: ip rule add fwmark 0x77/0xff lookup 77\n"
)


def _output(
    name: str, text: str, moves: bool, why: str, mark: int = 0, needs: tuple[str, ...] = ()
) -> Row:
    device = "w0" if moves else "v0"
    return Row(
        name=f"output, {name}",
        change=Change.KEPT,
        reason=why,
        source="net/netfilter/nft_chain_route.c#31, net/ipv4/netfilter/iptable_mangle.c#47",
        built=_WAY + text,
        sent=(Datagram("a", "10.0.0.2", mark),),
        readings=(
            see("a postrouting 200", 0x77),
            see(f"a tap {'v0' if moves else 'w0'} out"),
            see(f"a tap {device} out", 0x77),
        ),
        needs=needs,
    )


def _chain(kind: str, priority: int) -> str:
    return (
        f"a: nft table inet o {{ chain o {{ type {kind} hook output priority {priority}; "
        f"{UDP} meta mark set 0x77; }}; }}\n"
    )


def _tables(program: str, table: str, chain: str = "OUTPUT") -> str:
    return f"a: {program} -t {table} -A {chain} -p udp --dport 5000 -j MARK --set-mark 0x77\n"


_ROUTES = "the chain compares the mark before and after, and asks for the route again"
_STAYS = "no one asks for the route again: the mark is on the packet, the way stays"

OUTPUT = (
    _output("SO_MARK", "", True, "the first look-up already has the socket's mark", 0x77),
    *(
        _output(f"nft type route at {p}", _chain("route", p), True, _ROUTES)
        for p in (-300, -150, 50)
    ),
    *(
        _output(f"nft type filter at {p}", _chain("filter", p), False, _STAYS)
        for p in (-300, -150, 50)
    ),
    *(
        _output(f"{program} {table}", _tables(program, table), table == "mangle",
                _ROUTES if table == "mangle" else _STAYS)
        for program in ("iptables-nft", "iptables-legacy")
        for table in ("raw", "mangle", "filter")
    ),
    *(
        _output(f"{program} mangle POSTROUTING", _tables(program, "mangle", "POSTROUTING"), False,
                _STAYS)
        for program in ("iptables-nft", "iptables-legacy")
    ),
)  # fmt: skip

_WAY_6 = (
    leg("a", "w0", "c", "w1", 7)
    + "a: ip addr add fd07::1/64 dev w0 nodad\nc: ip addr add fd07::2/64 dev w1 nodad\n"
    + "a: ip route add default via fd07::2 table 77\n"
    + "a: ip -6 rule add fwmark 0x77/0xff lookup 77\n"
)


def _output_6(name: str, text: str, moves: bool) -> Row:
    return Row(
        name=f"output, {name}, ipv6",
        change=Change.KEPT,
        reason=_ROUTES if moves else _STAYS,
        source="net/netfilter/nft_chain_route.c#31, net/ipv6/netfilter/ip6table_mangle.c",
        built=_WAY_6 + text,
        sent=(Datagram("a", "fd00::2"),),
        readings=(
            see("a postrouting 200", 0x77),
            see(f"a tap {'v0' if moves else 'w0'} out"),
            see(f"a tap {'w0' if moves else 'v0'} out", 0x77),
        ),
        family="ipv6",
    )


OUTPUT_6 = (
    _output_6("nft type route at -150", _chain("route", -150), moves=True),
    _output_6("nft type filter at -150", _chain("filter", -150), moves=False),
    *(
        _output_6(f"{program} {table}", _tables(program, table), table == "mangle")
        for program in ("ip6tables-nft", "ip6tables-legacy")
        for table in ("mangle", "filter")
    ),
)

_TRANSLATED = (
    "a: nft table ip t { chain o { type nat hook output priority -100; "
    "udp dport 5000 dnat to 10.0.0.2:6000; }; }\n"
)
DNAT = Row(
    name="output, nft type filter at -150, and DNAT at -100",
    change=Change.KEPT,
    reason="with a new destination NAT asks for the route again, and the mark counts then",
    source="net/netfilter/nf_nat_proto.c: nf_nat_ipv4_local_fn",
    built=_WAY + _chain("filter", -150) + _TRANSLATED,
    sent=(Datagram("a", "10.0.0.3"),),
    readings=(
        see("a postrouting 200", 0x77, match="udp dport 6000"),
        see("a tap v0 out"),
        see("a tap w0 out", 0x77),
    ),
)


# What wg-quick sets up, with another veth pair in the place of the WireGuard device.
def _policy_rules(node: str, far: str, gateway: str) -> str:
    return (
        leg(node, "w0", far, "w1", 7)
        + f"{node}: ip route add default via {gateway}\n"
        + f"{node}: ip route add default dev w0 table 77\n"
        + f"{node}: ip neigh add 192.0.2.9 lladdr 02:fc:00:07:00:02 dev w0\n"
        + f"{node}: ip rule add not fwmark 0x77 lookup 77\n"
        + f"{node}: ip rule add table main suppress_prefixlength 0\n"
    )


def _wg_quick(what: str, to: str, mark: int, device: str, why: str) -> Row:
    return Row(
        name=f"wg-quick's policy rules, {what}",
        change=Change.KEPT if mark else Change.IGNORED,
        reason=why,
        source="net/ipv4/fib_rules.c: fib4_rule_suppress",
        built=_policy_rules("a", "c", "10.0.0.2"),
        sent=(Datagram("a", to, mark),),
        readings=(
            see("a output", mark),
            see(f"a tap {'v0' if device == 'w0' else 'w0'} out"),
            see(f"a tap {device} out", mark),
        ),
    )


def _wg_quick_reply(valid_mark: int) -> Row:
    return Row(
        name=f"wg-quick's policy rules, outer packet comes in, rp_filter 1, src_valid_mark "
        f"{valid_mark}",
        change=Change.KEPT if valid_mark else Change.DROPPED,
        reason="without its mark the sender's address is looked up in the table of the tunnel",
        source="net/ipv4/fib_frontend.c#369",
        built=_policy_rules("b", "d", "10.0.0.1")
        + "a: ip addr add 192.0.2.1/32 dev lo\n"
        + marked("b", "prerouting", 0x77)
        + "b: sysctl net.ipv4.conf.v1.rp_filter 1\n"
        f"b: sysctl net.ipv4.conf.v1.src_valid_mark {valid_mark}\n",
        sent=(Datagram("a", "10.0.0.2", source="192.0.2.1"),),
        readings=(
            see("b prerouting", 0x77),
            see("b input", *((0x77,) if valid_mark else ())),
        ),
    )


WG_QUICK = (
    _wg_quick("unmarked packet", "192.0.2.9", 0, "w0", "whatever has no mark goes to the tunnel"),
    _wg_quick("marked packet", "192.0.2.9", 0x77, "v0",
              "the tunnel's own packets take the default route of main"),
    _wg_quick("unmarked packet to a neighbour", "10.0.0.2", 0, "v0",
              "suppress_prefixlength 0 leaves out main's default route only"),
    _wg_quick_reply(0),
    _wg_quick_reply(1),
)  # fmt: skip

_FORWARD_WAY = (
    leg("r", "w0", "c", "w1", 7)
    + "r: ip route add default via 10.0.7.2 table 77\nr: ip rule add fwmark 0x77 lookup 77\n"
)


def _forwarded(hook: str, priority: int, moves: bool) -> Row:
    device = "w0" if moves else "rb"
    return Row(
        name=f"forwarding, marked in {hook} at {priority}",
        change=Change.KEPT,
        reason="the route is looked up between PREROUTING and FORWARD",
        source="net/ipv4/ip_input.c: ip_rcv_finish_core",
        built=_FORWARD_WAY + marked("r", hook, 0x77, priority=priority),
        sent=(Datagram("a", "10.0.2.1"),),
        readings=(
            see("r postrouting 200", 0x77),
            see(f"r tap {'rb' if moves else 'w0'} out"),
            see(f"r tap {device} out", 0x77),
        ),
        network="router",
    )


ROWS = (
    *(_filtered(rp, valid) for rp in (0, 1, 2) for valid in (0, 1)),
    _filtered(1, 1, "all"),
    *(_unmarked(valid) for valid in (0, 1)),
    *(_local(valid, accept) for valid, accept in ((0, 0), (1, 0), (1, 1))),
    _demux(1),
    _demux(0),
    *OUTPUT,
    *OUTPUT_6,
    DNAT,
    *WG_QUICK,
    _forwarded("prerouting", -300, moves=True),
    _forwarded("prerouting", 100, moves=True),
    _forwarded("forward", -150, moves=False),
    _forwarded("postrouting", -150, moves=False),
)
