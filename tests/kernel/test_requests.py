"""What is sent as requests is what ip, tc and ipset would have made of the lines."""

from __future__ import annotations

from typing import Any

import pytest

from lab.errors import UnsupportedError
from lab.registry.loader import load
from lab.registry.software import Ruleset, Software, Tool
from lab.rules import requests
from lab.rules.requests import sets
from lab.runner.pool import Pool
from lab.runner.protocol import Task
from lab.scenario import Experiment, Scenario
from lab.traffic.flow import FAMILIES, Family

WITH_LINES = [s for s in load() if any(r.tool in ("ip", "ipset", "tc") for r in s.rulesets)]
SETS = (
    "create a hash:net family inet\nadd a 10.1.0.0/16\nadd a 10.0.0.1",
    "create a hash:net family inet6 maxelem 1048576\nadd a fd00:1::/64\nadd a fd00::1",
    "create a hash:ip family inet maxelem 4\nadd a 10.0.0.1\nadd a 10.0.0.2",
    "create a hash:ip family inet6\nadd a fd00::1\nadd a fd00::2",
    "create a hash:ip maxelem 1\nadd a 10.0.0.1\nadd a 10.0.0.2",
    "create a hash:ip\nadd a 10.0.0.1\nadd a 10.0.0.1",
    "create a hash:ip\nadd b 10.0.0.1",
    "create a hash:ip\ncreate a hash:ip",
    "create a hash:ip\nadd a 10.0.0.0/30",
    "create a hash:net\nadd a 10.1.2.3/8\nadd a 10.0.0.0/8",
    "create a hash:net family inet6\nadd a 10.0.0.0/8",
    "create a hash:net family inet6\nadd a fd00::7/16",
    "add a 10.0.0.0/8",
)
"""All of these can be read; some of them the kernel refuses."""
_AT = "qdisc replace dev eth0 clsact\nfilter add dev eth0"
FILTERS = (
    "qdisc replace dev eth0 clsact",
    "qdisc replace dev eth0 clsact\nqdisc replace dev eth0 clsact",
    "qdisc replace dev no-device clsact",
    "filter add dev eth0 ingress pref 9 protocol ip u32 match u32 0 0 "
    "action mirred ingress redirect dev eth1",
    f"{_AT} ingress pref 9 protocol ip u32 match u32 0 0 action mirred egress redirect dev eth1",
    f"{_AT} egress pref 49000 protocol ipv6 u32 match u32 0x60000000 0xf0000000 "
    "action mirred ingress redirect dev eth1",
    f"{_AT} ingress pref 1 protocol ip u32 match ip dst 10.0.0.1 action mirred egress redirect "
    "dev eth1\nfilter add dev eth0 ingress pref 1 protocol ip u32 match ip src 10.0.0.2/32 "
    "action mirred ingress redirect dev lo",
    f"{_AT} ingress pref 1 protocol ipv6 u32 match ip6 dst fd00::1 action mirred egress "
    "redirect dev eth1\nfilter add dev eth0 egress pref 2 protocol ipv6 u32 match ip6 src fd00::2 "
    "action mirred egress redirect dev lo",
    f"{_AT} ingress pref 9 protocol ip u32 match u32 0 0 action mirred egress redirect dev none",
)
READ = (
    "rule add pref 5210 fwmark 0x80000/0xff0000 table main",
    "rule add pref 5250 fwmark 0x80000 type unreachable",
    "rule add pref 5250 from {{ pod-a.ip }} prohibit",
    "rule add priority 2061 fwmark 0x3d00/0x3f00 blackhole",
    "rule add not fwmark 51820 table 51820",
    "rule add not iif eth0 pref 76 lookup 1",
    "rule add pref 0 lookup default",
    "rule add fwmark 0x0/0x40000 lookup 255",
    "rule add fwmark 0/0 lookup 256",
    "rule add pref 4294967295 lookup 4294967295",
    "rule add from {{ pods.net }} to {{ lan.ip }} iif no.such-device lookup 11",
    "rule add lookup main suppress_prefixlength 0",
    "rule add pref 9 lookup 9\nrule add pref 9 lookup 9",
    "rule add pref 9 not fwmark 7 lookup 9",
    "rule add priority 8 goto 9\nrule add prio 9 nop",
    "rule add pref 8 fwmark 0x10/0x10 goto 32766",
    "rule del pref 0\nrule add pref 100 lookup local",
    "rule del pref 7",
    "route del {{ pod-a.ip }} dev {{ pod-a.dev }}",
    "route del {{ any }} dev eth0",
    "route del default dev eth0",
    "route del {{ lan.ip }} dev eth0",
    "route add {{ peer.ip }} dev eth0 table 300\nroute del {{ peer.ip }} dev eth0 table 300",
    "route add {{ relay.net }} dev eth0 table 52",
    "route add {{ relay.net }} dev eth0\nroute add {{ relay.net }} dev eth0",
    "route add {{ lan.ip }} dev nowhere",
    "route add {{ pod-a.ip }} dev lo table 256",
    "route add {{ peer.ip }} via {{ client.ip }} dev eth0",
    "route add {{ peer.ip }} via {{ peer.ip }} dev eth0",
    "route add default via {{ peer.ip }} dev eth0 onlink table 2021",
    "route add local default dev lo table 100",
    "route add local {{ any }} dev lo",
    "route add local {{ peer.ip }} dev lo scope link table 5",
    "route add {{ lan.ip }} dev eth0 scope link table 2",
    "link set eth1 arp off",
    "link set no-device up",
    "link show eth1",
    "link show no-device",
    "link add a-1 type veth peer name a-2\nlink set a-1 up\nlink set a-2 up",
    "link add a-1 address 02:fc:00:00:0a:01 type veth peer name a-2 address 02:fc:00:00:0a:02",
    "link add br-1 type bridge\nlink add br-1 type bridge",
    "link add br-1 address 02:fc:00:00:0a:01 type bridge\nlink set eth1 master br-1",
    "link add br-1 type bridge\nlink set eth1 master br-1\n"
    "link set eth1 type bridge_slave hairpin on",
    "link add br-1 type bridge\nlink set eth1 master br-1\n"
    "link set eth1 type bridge_slave hairpin on\nlink set eth1 type bridge_slave hairpin off",
    "link set eth1 type bridge_slave hairpin on",
    "link set eth1 master no-device",
    "link add v-1 type vxlan id 7 local {{ node.ip }} remote {{ client.ip }} dstport 8472",
    "link add v-1 type vxlan id 7 local {{ node.ip }} remote {{ client.ip }} dstport 8472\n"
    "link set v-1 up\naddress add {{ peer.ip }} dev v-1\n"
    "neigh add {{ pod-a.ip }} lladdr 02:fc:00:00:0a:01 dev v-1",
    "address add {{ peer.ip }} dev lo",
    "address add {{ peer.ip }} dev eth0 scope link",
    "address add {{ peer.ip }} dev eth0 nodad",
    "address add {{ node.ip }} dev eth0",
    "address add {{ peer.ip }} dev no-device",
    "neighbour add {{ peer.ip }} lladdr 02:fc:00:00:0a:01 dev eth0 nud permanent",
    "neighbour add {{ client.ip }} lladdr 02:fc:00:00:0a:01 dev eth0",
)
"""All of these can be read; some of them the kernel refuses."""


def installed(entry: Software, family: Family) -> Experiment:
    """Return the experiment in which nothing else is installed."""
    return next(iter(Scenario((entry,), families=(family,), variants=("nft",)).experiments()))


def ask(worker: Pool, function: str, experiment: Experiment) -> Any:
    """Call a function in a worker; skip what this user may not install."""
    try:
        return worker.call(Task(f"tests.kernel.ip_lines:{function}", experiment))
    except UnsupportedError as problem:
        pytest.skip(str(problem))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("entry", WITH_LINES, ids=lambda entry: entry.title)
def test_an_entry_leaves_the_rules_routes_and_sets_that_the_programs_would_have_made(
    worker: Pool, entry: Software, family: Family
) -> None:
    """On every node that has rules, by their own detailed listings."""
    sent, given = ask(worker, "both_ways", installed(entry, family))
    assert sent == given
    assert sent["refused"] == [""]


LINES = [
    *(("ip", text) for text in READ),
    *(("ipset", text) for text in SETS),
    *(("tc", text) for text in FILTERS),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("tool", "text"), LINES, ids=[text for _, text in LINES])
def test_a_line_that_is_read_does_what_the_program_would_have_done(
    worker: Pool, tool: Tool, text: str, family: Family
) -> None:
    """Only what the kernel refuses is given to the program, which says why."""
    ruleset = Ruleset(tool, text, file="a.toml")
    entry = Software("one", "1", "x", "bitwise", "", "", rulesets=(ruleset,))
    experiment = installed(entry, family)
    sent, given = ask(worker, "both_ways", experiment)
    assert sent == given
    assert (tool in ask(worker, "started", experiment)) == bool(sent["refused"][0])


@pytest.mark.parametrize(
    "line",
    [
        "rule",
        "rule add",
        "rule add not",
        "rule add pref 9",
        "rule add lookup",
        "rule add lookup 9 lookup 9",
        "rule add table 9 lookup 9",
        "rule add pref not 9 lookup 9",
        "rule add not not lookup 9",
        "rule add goto 9 lookup 9",
        "rule add goto 9 nop",
        "rule add goto nine",
        "rule add pref 010 lookup 9",
        "rule add pref 1_0 lookup 9",
        "rule add pref -1 lookup 9",
        "rule add pref 4294967296 lookup 9",
        "rule add lookup mine",
        "rule add lookup 9 blackhole",
        "rule add fwmark 1/ lookup 9",
        "rule add fwmark 1/2/3 lookup 9",
        "rule add from all lookup 9",
        "rule add from 10.1 lookup 9",
        "rule add from 10.0.0.0/33 lookup 9",
        "rule add from 10.0.0.0/255.0.0.0 lookup 9",
        "rule add from fd00::1 lookup 9",
        "rule add iif sixteen-letters-1 lookup 9",
        "rule add iif a/b lookup 9",
        "rule del lookup 9",
        "rule del",
        "route add",
        "route add default",
        "route add default via 10.0.0.1",
        "route add unreachable default",
        "route add 10.0.0.0/8 dev lo mtu 1400",
        "route add 10.0.0.0/8 dev lo scope site",
        "route add 10.0.0.0/8 dev lo onlink onlink",
        "route add 10.0.0.0/8 dev lo dev lo",
        "route add table 9 10.0.0.0/8 dev lo",
        "route replace 10.0.0.0/8 dev lo",
        "route del 10.0.0.0/8",
        "route del 10.0.0.0/8 dev lo via 10.0.0.1",
        "link set dev lo up",
        "link set lo down",
        "link set lo arp on",
        "link set lo master",
        "link set lo type bridge_slave",
        "link set lo type bridge_slave hairpin yes",
        "link set lo type bridge_slave hairpin on mcast_flood on",
        "link set lo type bridge hairpin on",
        "link set lo up arp off",
        "link set a master b master c",
        "link show",
        "link show dev lo",
        "link add a",
        "link add a type",
        "link add a type dummy",
        "link add a type bridge stp_state 1",
        "link add a type veth",
        "link add a type veth peer b",
        "link add a type veth peer name b mtu 1400",
        "link add name a type bridge",
        "link add sixteen-letters-1 type bridge",
        "link add a address 02:fc:00:00:01 type bridge",
        "link add a type vxlan id 7 dstport 4789",
        "link add a type vxlan id 7 local 10.0.0.1 remote fd00::1 dstport 4789",
        "link add a type vxlan id 7 local 10.0.0.1 remote 10.0.0.2 dstport 65536",
        "link add a type vxlan id 7 local 10.0.0.1 remote 10.0.0.2 dstport 4789 ttl 64",
        "address add 10.0.0.1",
        "address add dev lo",
        "address add 10.0.0.1 dev lo scope host",
        "address add 10.0.0.1 dev lo label lo:1",
        "address add fd00::1 dev lo",
        "address replace 10.0.0.1 dev lo",
        "neighbour add 10.0.0.1 dev lo",
        "neighbour add 10.0.0.1 lladdr 02:fc:00:00:01:01 dev lo nud reachable",
        "neighbour add 10.0.0.1 lladdr 02fc00000101 dev lo",
        "neighbour add proxy 10.0.0.1 dev lo",
        "",
    ],
)
def test_whatever_is_written_in_another_way_is_left_to_ip(line: str) -> None:
    """Half a reading would be a rule that nobody wrote."""
    assert requests.read("ip", line, "ipv4") is None


def test_a_text_with_one_line_that_cannot_be_read_is_left_to_ip_as_a_whole(worker: Pool) -> None:
    """Nothing is sent before that is known."""
    lines = ["rule add pref 9 lookup 9", "rule add pref 9 lookup mine"]
    assert worker.call(Task("tests.kernel.ip_lines:done", lines)) == 0


@pytest.mark.parametrize(
    "line",
    [
        "create",
        "create a",
        "create a hash:ip,port",
        "create a list:set",
        "create a hash:net hashsize 64",
        "create a hash:net family inet family inet",
        "create a hash:net family 2",
        "create a hash:net maxelem",
        "create a hash:net timeout 0",
        "create a hash:net comment",
        "create a,b hash:net",
        f"create {32 * 'a'} hash:net",
        "add a",
        "add a 10.0.0.0/0",
        "add a 10.0.0.0/33",
        "add a 10.0.0.1-10.0.0.9",
        "add a 10.0.0.1,tcp:80",
        "add a 10.0.0.1 nomatch",
        "add a 10.0.0.1 timeout 9",
        "add a host.example",
        "add a 10.1",
        "del a 10.0.0.1",
        "flush a",
        "swap a b",
        "-exist add a 10.0.0.1",
        "",
    ],
)
def test_whatever_is_written_in_another_way_is_left_to_ipset(line: str) -> None:
    """Sets of other kinds, and options."""
    assert sets.read(line) is None


@pytest.mark.parametrize(
    "line",
    [
        "qdisc replace dev eth0 ingress",
        "qdisc replace dev eth0 root clsact",
        "qdisc add dev eth0 clsact",
        "qdisc replace clsact",
        "filter replace dev a ingress pref 1 protocol ip u32 match u32 0 0 "
        "action mirred egress redirect dev b",
        *(
            f"filter add {line}"
            for line in (
                "dev a ingress protocol ip u32 match u32 0 0 action mirred egress redirect dev b",
                "dev a root pref 1 protocol ip u32 match u32 0 0 action mirred egress redirect "
                "dev b",
                "dev a ingress pref 65536 protocol ip u32 match u32 0 0 "
                "action mirred egress redirect dev b",
                "dev a ingress pref 1 protocol all u32 match u32 0 0 "
                "action mirred egress redirect dev b",
                "dev a ingress pref 1 protocol ip u32 match u32 0 0 at 4 "
                "action mirred egress redirect dev b",
                "dev a ingress pref 1 protocol ip u32 match ip dst 10.0.0.0/8 "
                "action mirred egress redirect dev b",
                "dev a ingress pref 1 protocol ip u32 match ip tos 16 0xff "
                "action mirred egress redirect dev b",
                "dev a ingress pref 1 protocol ip u32 match u32 0 0 match u32 0 0 "
                "action mirred egress redirect dev b",
                "dev a ingress pref 1 protocol ip u32 match u32 0 0 flowid 1:1 "
                "action mirred egress redirect dev b",
                "dev a ingress pref 1 protocol ip u32 match u32 0 0 "
                "action mirred egress mirror dev b",
                "dev a ingress pref 1 protocol ip u32 match u32 0 0 "
                "action mirred egress redirect dev b pipe",
                "dev a ingress pref 1 protocol ip u32 match u32 0 0 action drop",
                "dev a ingress pref 1 protocol ip matchall action mirred egress redirect dev b",
            )
        ),
    ],
)
def test_whatever_is_written_in_another_way_is_left_to_tc(line: str) -> None:
    """Other classifiers, other actions, and networks."""
    assert requests.read("tc", line, "ipv4") is None


def test_an_address_is_usable_when_it_is_installed(worker: Pool) -> None:
    """The kernel adds the route of one of IPv6 in its own time; flows do not come before."""
    text = (
        "link add a-1 type veth peer name a-2\nlink set a-1 up\nlink set a-2 up\n"
        "address add fd00:9::1/128 dev a-1"
    )
    ruleset = Ruleset("ip", text, file="a.toml")
    entry = Software("one", "1", "x", "bitwise", "", "", rulesets=(ruleset,))
    assert all(ask(worker, "delivered", installed(entry, "ipv6")))
