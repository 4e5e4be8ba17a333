"""Which software is known to leave the kernel in the same state in whichever order it comes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab.order import representative
from lab.order.alone import by_itself
from lab.order.footprint import commute
from lab.order.read import footprint
from lab.registry.software import Ruleset, Software
from lab.scenario import Experiment, Scenario, Variant
from lab.traffic.flow import Family, Flow

IPTABLES = "*mangle\n{}\nCOMMIT"


def base(table: str, hook: str, priority: object, rule: str, kind: str = "filter") -> str:
    """Write a table with one base chain."""
    head = f"type {kind} hook {hook} priority {priority};"
    return f"table inet {table} {{ chain c {{ {head} {rule} }} }}"


def ruleset(tool: Any, text: str, **other: Any) -> Ruleset:
    """Make one ruleset; ``iptables`` lines are those of the mangle table."""
    wrapped = IPTABLES.format(text) if tool == "iptables" and "*" not in text else text
    return Ruleset(tool, wrapped, file="a.toml", **other)


def software(name: str, *rulesets: Ruleset) -> Software:
    """Make an entry that only installs."""
    return Software(name, "1", "m", "bitwise", "", "", rulesets=rulesets)


def experiment(
    *party: Software, family: Family = "ipv4", variant: Variant = "nft", orders: Any = "given"
) -> Experiment:
    """Return the experiment on all software in the given order."""
    scenario = Scenario(party, families=(family,), variants=(variant,), orders=orders)
    return list(scenario.experiments())[-1]


APART = [
    ("iptables", "-A FORWARD -j ACCEPT", "iptables", "-A INPUT -j ACCEPT"),
    ("iptables", "-A FORWARD -j ACCEPT", "iptables", "-I FORWARD -j DROP"),
    ("iptables", ":MINE -\n-A MINE -j ACCEPT", "iptables", ":YOURS -\n-A YOURS -j ACCEPT"),
    ("iptables", "-A FORWARD -j DROP", "nft", base("t", "input", -150, "")),
    (
        "iptables",
        "-A INPUT -j DROP",
        "nft",
        base("t", "input", -149, "drop"),
    ),
    ("ip", "rule add pref 1 lookup 1", "ip", "rule add pref 2 lookup 1"),
    ("ip", "route add 10.0.0.0/8 dev lo table 1", "ip", "route add 10.0.0.0/8 dev lo table 2"),
    ("ip", "address add 10.1.0.1/16 dev lo", "ip",
     "route add default via 10.1.0.2 dev eth0 table 9"),
    ("ip", "link add a type bridge", "ip", "route add default via 10.1.0.2 dev eth0 table 9"),
    ("ip", "route add 10.1.0.0/16 dev eth1", "ip",
     "route add default via 10.1.0.2 dev eth0 onlink table 9"),
    ("ip", "link add a type bridge", "iptables", "-A FORWARD -i b -j ACCEPT"),
    ("sysctl", "net.ipv4.ip_forward = 1", "sysctl", "net.ipv4.ip_forward = 1"),
    ("sysctl", "net.ipv4.conf.a.rp_filter = 1", "sysctl", "net.ipv4.conf.b.rp_filter = 2"),
    ("ipset", "create a hash:ip\nadd a 10.0.0.1", "ipset", "create b hash:ip"),
    ("bpf", "tc ingress eth0: mark = 1", "iptables", "-A FORWARD -j ACCEPT"),
]  # fmt: skip
TOGETHER = [
    ("iptables", "-A FORWARD -j ACCEPT", "iptables", "-A FORWARD -j DROP"),
    ("iptables", "-I FORWARD -j ACCEPT", "iptables", "-I FORWARD -j DROP"),
    ("iptables", "-I FORWARD 2 -j ACCEPT", "iptables", "-A FORWARD -j DROP"),
    ("iptables", "-F FORWARD", "iptables", "-I FORWARD -j DROP"),
    ("iptables", "-D FORWARD -j DROP", "iptables", "-I FORWARD -j DROP"),
    ("iptables", "-P FORWARD DROP", "iptables", "-I FORWARD -j ACCEPT"),
    ("iptables", ":FORWARD DROP [0:0]", "iptables", "-I FORWARD -j ACCEPT"),
    ("iptables", ":SHARED -\n-A FORWARD -j SHARED", "iptables", ":SHARED -\n-I FORWARD -j SHARED"),
    ("iptables", "-A INPUT -j DROP", "nft", base("t", "input", -150, "drop")),
    ("iptables", "*nat\n-A POSTROUTING -j ACCEPT\nCOMMIT", "nft",
     base("t", "postrouting", 100, "accept", "nat")),
    ("nft", base("t", "input", 0, "drop"), "nft",
     base("u", "input", "filter", "drop")),
    ("nft", base("t", "input", 0, "policy drop;"), "nft",
     base("u", "input", 0, "drop")),
    ("nft", base("t", "input", -200, "drop"), "iptables", "-A INPUT -j DROP"),
    ("nft", "table inet t { set s { type ipv4_addr; } }", "nft",
     "table inet t { set s { type ipv4_addr; } }"),
    ("nft", "flush ruleset", "nft", base("t", "input", 0, "drop")),
    ("ip", "rule add lookup 1", "ip", "rule add pref 2 lookup 1"),
    ("ip", "rule add lookup 1", "ip", "rule add lookup 1"),
    ("ip", "rule add pref 2 lookup 1", "ip", "rule add priority 2 lookup 1"),
    ("ip", "rule del pref 0", "ip", "rule add pref 0 lookup 1"),
    ("ip", "route add 10.0.0.0/8 dev lo", "ip", "route del 10.0.0.0/8 dev lo"),
    ("ip", "address add 10.1.0.1/16 dev lo", "ip", "route add default via 10.1.0.2 table 9"),
    ("ip", "route add 10.1.0.0/16 dev lo", "ip", "route add default via 10.1.0.2 table 9"),
    ("ip", "address add 10.1.0.1/16 dev eth0", "ip",
     "route add default via 10.1.0.2 dev eth0 table 9"),
    ("ip", "link set dev eth0 down", "ip", "route add default via 10.1.0.2 table 9"),
    ("ip", "link set eth0 down", "ip", "route add default via 10.1.0.2 dev eth0 table 9"),
    ("ip", "route add default via 10.2.0.2", "ip",
     "route add default via 10.1.0.2 dev eth0 table 9"),
    ("ip", "r add 10.0.0.0/8 dev lo", "ip", "route del 10.0.0.0/8 dev lo"),
    ("ip", "-4 route add 10.0.0.0/8 dev lo", "ip", "route del 10.0.0.0/8 dev lo"),
    ("ip", "link", "ip", "link set"),
    ("ip", "link add a type bridge", "ip", "link add b type bridge"),
    ("ip", "link add a type bridge", "ip", "route add 10.0.0.0/8 dev a table 7"),
    ("ip", "link add a type veth peer name b", "iptables", "-A FORWARD -i b -j ACCEPT"),
    ("ip", "link add a type bridge", "sysctl", "net.ipv4.conf.default.rp_filter = 1"),
    ("sysctl", "net.ipv4.conf.a.rp_filter = 1", "sysctl", "net.ipv4.conf.a.rp_filter = 2"),
    ("sysctl", "net.ipv4.ip_forward = 1", "sysctl", "net.ipv4.conf.a.forwarding = 0"),
    ("ipset", "create a hash:ip", "ipset", "add a 10.0.0.1"),
    ("ipset", "create a hash:ip", "ipset", "swap b a"),
    ("tc", "qdisc replace dev eth0 clsact", "bpf", "tc ingress eth0: mark = 1"),
]  # fmt: skip


def both_commute(one: Ruleset, other: Ruleset, variant: Variant = "nft") -> bool:
    """Ask in both directions, which must agree."""
    marks = [footprint([given], "ipv4", variant) for given in (one, other)]
    answers = {commute(*marks), commute(*reversed(marks))}
    assert len(answers) == 1
    return answers.pop()


@pytest.mark.parametrize("variant", ["nft", "legacy"])
@pytest.mark.parametrize(("one", "text", "other", "beside"), APART)
def test_what_touches_nothing_in_common_commutes(
    one: str, text: str, other: str, beside: str, variant: Variant
) -> None:
    """Chains, sets, tables, numbers and settings of their own."""
    assert both_commute(ruleset(one, text), ruleset(other, beside), variant)


@pytest.mark.parametrize("variant", ["nft", "legacy"])
@pytest.mark.parametrize(("one", "text", "other", "beside"), TOGETHER)
def test_what_meets_does_not(
    one: str, text: str, other: str, beside: str, variant: Variant
) -> None:
    """Whichever comes first is found at another place, or not at all."""
    assert not both_commute(ruleset(one, text), ruleset(other, beside), variant)


def test_other_nodes_and_other_backends_are_other_chains() -> None:
    """The same line goes elsewhere."""
    here, there = (ruleset("iptables", "-A INPUT -j DROP", node=n) for n in ("node", "pod-a"))
    assert both_commute(here, there)
    assert not both_commute(here, here)


def test_rules_of_another_host_keep_the_places_they_had() -> None:
    """They are put before those of others, which is not read from their text."""
    listed = ruleset("iptables", "-A INPUT -j DROP", listed=True)
    assert not both_commute(listed, ruleset("iptables", "-A OUTPUT -j DROP"))


FIRST = software("alpha", ruleset("iptables", "-A INPUT -j ACCEPT"))
AFTER = software("beta", ruleset("iptables", "-A INPUT -j DROP"))
APART_FROM_BOTH = software("aleph", ruleset("iptables", "-A OUTPUT -j DROP"))


def order(*party: Software) -> str:
    """Name the software in the order in which it is run."""
    return " ".join(one.name for one in representative(experiment(*party)).software)


def test_only_what_commutes_changes_its_place() -> None:
    """Of three, one may stand anywhere; the other two keep their order."""
    assert order(FIRST, AFTER, APART_FROM_BOTH) == order(FIRST, APART_FROM_BOTH, AFTER)
    assert order(FIRST, AFTER, APART_FROM_BOTH) == "aleph alpha beta"
    assert order(AFTER, FIRST, APART_FROM_BOTH) == "aleph beta alpha"


def test_the_variant_counts_where_iptables_is_used_in_that_family() -> None:
    """One family's rules do not make the other's depend on it; nor where a host fixed it."""
    four = software("alpha", ruleset("iptables", "-A INPUT -j DROP", families=("ipv4",)))
    fixed = software("beta", ruleset("iptables", "-A INPUT -j DROP", variant="legacy"))
    told = {
        (name, family): representative(experiment(one, family=family, variant="legacy")).variant
        for name, one in (("four", four), ("fixed", fixed))
        for family in ("ipv4", "ipv6")
    }
    assert told == {
        ("four", "ipv4"): "legacy",
        ("four", "ipv6"): "nft",
        ("fixed", "ipv4"): "nft",
        ("fixed", "ipv6"): "nft",
    }


def test_a_bad_entry_is_left_for_whoever_installs_it() -> None:
    """An unknown placeholder is said there, with its line."""
    bad = software("bad", ruleset("iptables", "-A INPUT -s {{ nowhere }} -j DROP"))
    assert order(bad, FIRST) == "bad alpha"
    assert order(FIRST, bad) == "alpha bad"


def test_the_others_are_named_in_one_order() -> None:
    """Who stands beside whom does not depend on who was named first."""
    given, reverse = experiment(FIRST, AFTER), experiment(AFTER, FIRST)
    assert given != reverse
    assert representative(given).beside == representative(reverse).beside
    assert replace(representative(given), software=()) == replace(
        representative(reverse), software=()
    )


def test_who_does_nothing_in_a_family_is_left_out() -> None:
    """Beside it nothing is installed and nothing sent: the other's run alone tells all."""
    four = software("four", ruleset("iptables", "-A INPUT -j DROP", families=("ipv4",)))
    assert representative(experiment(FIRST, four)).software == (FIRST, four)
    found = representative(experiment(FIRST, four, family="ipv6"))
    assert found == by_itself(experiment(FIRST, four, family="ipv6"), FIRST)
    three = representative(experiment(AFTER, four, FIRST, family="ipv6"))
    assert three.software == three.beside[::-1] == (AFTER, FIRST)


def test_who_only_sends_stays() -> None:
    """Its flows are judged beside the other's rules."""
    flow = Flow("out", "node", "{{ client.ip }}", 6000, answered_by="client")
    sends = replace(software("sends"), flows=(flow,))
    assert representative(experiment(FIRST, sends)).software == (FIRST, sends)


def test_where_nobody_does_anything_nobody_is_left_out() -> None:
    """There is nothing to run, and who asks is told so as before."""
    one, other = software("one"), software("two")
    assert representative(experiment(one, other)).software == (one, other)
