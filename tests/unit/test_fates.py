"""Why a flow ends otherwise than alone: the outcome's word and the rule to blame."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.marks import Mark
from lab.native.rule import Rule
from lab.points import Point
from lab.record import (
    Dropped,
    Environment,
    Event,
    Fate,
    FlowRun,
    Hit,
    PolicyRule,
    Reading,
    Routed,
    Run,
    Timeline,
    Write,
)
from lab.registry.software import Software
from lab.scenario import Experiment
from lab.traffic.flow import Flow
from lab.verdict.fates import classify
from lab.verdict.outcome import Outcome
from lab.verdict.provenance import refused_socket

FLOW = Flow("out", "node", "b", 5000, answered_by="lan", socket_mark=0x1BD00)
OWNER = Software("own", "1", "m", "bitwise", "", "", flows=(FLOW,))
OTHER = Software("other", "2", "m", "bitwise", "", "")
OWN_DROP = Rule(OWNER.title, "iptables", "filter", "FORWARD", "-A FORWARD -j DROP")
ACCEPT = Rule(OTHER.title, "iptables", "filter", "FORWARD", "-A FORWARD -j ACCEPT")
REDIRECT = Rule(OTHER.title, "nft", "inet box", "output", "meta l4proto tcp redirect to :7899")
LEFT_ALONE = Rule(OTHER.title, "iptables", "nat", "POSTROUTING", "-A POSTROUTING -j ACCEPT")
BLACKHOLE = Rule(OTHER.title, "ip", "rule", "", "rule add fwmark 0x3d00/0x3f00 blackhole")
TUNNEL = Rule(OTHER.title, "ip", "rule", "", "rule add not fwmark 0xe1f1 lookup 205")
LOOSE = Rule(OTHER.title, "sysctl", "sysctl", "", "net.ipv4.conf.eth0.rp_filter = 2")
STRICT = Rule(OTHER.title, "sysctl", "sysctl", "", "net.ipv4.conf.all.src_valid_mark = 1")
RULES = (OWN_DROP, ACCEPT, REDIRECT, LEFT_ALONE, BLACKHOLE, TUNNEL, LOOSE, STRICT)
GOOD, LOST = Fate(3, 3, 3, "lan", "x", ""), Fate(3, 0, 0, "", "", "lost")


def seen(fate: Fate, *events: Event) -> FlowRun:
    """Make a flow of one packet."""
    return FlowRun(OWNER.title, FLOW.name, (Timeline("request", 0, "ab", events),), fate, "x")


def run(flow: FlowRun, *policy: PolicyRule) -> Run:
    """Make the run together."""
    software = (OWNER, OTHER)
    experiment = Experiment("kubernetes-node", "veth", software, software, "ipv4", "nft")
    return Run(experiment, Environment("k", ()), RULES, policy, (flow,))


def line_of(rule: Rule, action: str, mark: str, priority: int) -> PolicyRule:
    """Make the line of ``ip rule`` that a rule of an entry installed."""
    at = RULES.index(rule)
    return PolicyRule(priority, 0, action, Mark.parse(mark), False, "", "", "", "", at, "")


def judge(base: FlowRun, flow: FlowRun, *policy: PolicyRule) -> tuple[Outcome, str, Rule | None]:
    """Classify a flow; the culprit's rule alone."""
    outcome, reason, culprit = classify(run(flow, *policy), base, flow, OWNER.title)
    return outcome, reason, culprit.rule if culprit else None


def hit(rule: Rule, hook: str, priority: int) -> Hit:
    """Make a match that ends the chain."""
    return Hit("node", hook, priority, RULES.index(rule), 0, 0, "accept")


def read(hook: str, priority: int, source: str = "10.0.0.1") -> Reading:
    """Make a reading on the node."""
    return Reading(Point("node", hook, priority), 0, None, source, "b")


def test_a_packet_that_was_to_be_dropped_is_let_through_by_what_accepted_it_there() -> None:
    """Not lost: it arrives. Who accepted it elsewhere is not to blame."""
    alone = seen(LOST, Dropped("node", "forward", 0, RULES.index(OWN_DROP), "dropped by this rule"))
    elsewhere = hit(LEFT_ALONE, "postrouting", 100)
    together = seen(replace(LOST, arrived=1), elsewhere, hit(ACCEPT, "forward", 0))
    expected = (Outcome.MISROUTED, "let through: 1 of 3 arrived", ACCEPT)
    assert judge(alone, together) == expected


def test_a_packet_that_was_redirected_is_misrouted_by_the_redirection() -> None:
    """The route that follows from it is the kernel's own."""
    away = Routed("node", "output", 0, None, "172.30.0.0/16 dev eth0 table main", "eth0")
    here = replace(away, route="127.0.0.1/32 dev lo table local", device="lo")
    together = seen(LOST, away, hit(REDIRECT, "output", -100), here, read("output", 1))
    outcome, reason, rule = judge(seen(GOOD, away), together)
    assert (outcome, rule) == (Outcome.MISROUTED, REDIRECT)
    assert reason == "routed to node itself instead of eth0"


def test_a_local_route_is_the_same_by_whatever_device() -> None:
    """An address of the node may stand on another of its devices."""
    one = Routed("node", "prerouting", 0, None, "192.0.2.1/32 dev eth0 table local", "eth0")
    other = replace(one, route="100.64.0.1/32 dev tun0 table local", device="tun0")
    assert judge(seen(GOOD, one), seen(LOST, other))[0] is Outcome.DROPPED
    leaves = replace(one, route="192.0.2.0/24 dev eth0 table main")
    assert judge(seen(GOOD, one), seen(LOST, leaves))[0] is Outcome.MISROUTED


def test_a_packet_that_another_accepts_before_it_is_translated_is_rewritten_by_that() -> None:
    """No rule translates it, and that is the matter."""
    alone = seen(GOOD, read("postrouting", 99), read("postrouting", 101, "192.0.2.10"))
    together = seen(replace(GOOD, seen_from="y"), hit(LEFT_ALONE, "postrouting", 100))
    assert judge(alone, together)[::2] == (Outcome.REWRITTEN, LEFT_ALONE)


@pytest.mark.parametrize("error", ["Invalid argument", "Invalid cross-device link"])
def test_a_packet_whose_source_is_not_believed_is_refused_by_the_sysctl_that_is_stricter(
    error: str,
) -> None:
    """As Cilium's 0x200 beside src_valid_mark; rp_filter 2 is what every interface has."""
    was = Routed("node", "prerouting", 0x200, None, "default dev eth0 table main", "eth0")
    outcome, reason, rule = judge(seen(GOOD, was), seen(LOST, replace(was, refusal=error)))
    assert (outcome, rule) == (Outcome.MISROUTED, STRICT)
    assert reason == f"refused by source validation ({error}) instead of routed to eth0"


def test_a_mark_that_ones_own_sysctl_does_not_believe_is_the_fault_of_its_writer() -> None:
    """As KubeSpan's, which Tailscale's src_valid_mark looks the source up with."""
    was = Routed("node", "prerouting", 0, None, "default dev tun0 table 52", "tun0")
    now = replace(was, mark=0x60, refusal="Invalid argument")
    write = Write("node", "prerouting", -150, "mark", 0, 0x60, RULES.index(ACCEPT))
    flow = seen(LOST, write, now)
    rules = tuple(replace(r, software=OWNER.title) if r is STRICT else r for r in RULES)
    _, _, culprit = classify(replace(run(flow), rules=rules), seen(GOOD, was), flow, OWNER.title)
    assert culprit is not None
    assert (culprit.rule, culprit.after) == (ACCEPT, 0x60)


def test_a_policy_rule_that_refuses_is_to_blame_before_any_sysctl() -> None:
    """A black hole's error is that of a martian."""
    was = Routed("node", "prerouting", 0x3D00, None, "default dev eth0 table main", "eth0")
    hole = line_of(BLACKHOLE, "blackhole", "0x3d00/0x3f00", 2061)
    now = replace(was, policy=0, refusal=hole.refusal)
    outcome, reason, rule = judge(seen(GOOD, was), seen(LOST, now), hole)
    assert (outcome, rule) == (Outcome.MISROUTED, BLACKHOLE)
    assert reason == "refused (Invalid argument) instead of routed to eth0"


ALONE = Routed("node", "output", 0, None, "default via 192.0.2.1 dev eth0 table main", "eth0")
MARKED = replace(ALONE, mark=0x10000, route="default via 192.0.2.1 dev eth0 table 256")
FIRST = replace(ALONE, policy=0, route="default dev tun0 table 205", device="tun0")
BY_WAN = (ALONE, read("output", -300, "192.0.2.10"), MARKED, read("output", 1, "192.0.2.10"))
BY_TUNNEL = (FIRST, read("output", -300, "100.64.0.1"), MARKED, read("output", 1, "100.64.0.1"))
UNANSWERED = replace(GOOD, seen_from="100.64.0.1", answered=0, end="unreachable")
LINE = line_of(TUNNEL, "lookup", "0xe1f1", 32765)


@pytest.mark.parametrize("fate", [LOST, UNANSWERED])
def test_a_packet_from_the_address_of_its_first_route_is_misrouted_by_that_routes_rule(
    fate: Fate,
) -> None:
    """As OpenWrt's pbr behind a VPN's rule: its mark moves the packet back, not the address."""
    outcome, reason, rule = judge(seen(GOOD, *BY_WAN), seen(fate, *BY_TUNNEL), LINE)
    assert (outcome, rule) == (Outcome.MISROUTED, TUNNEL)
    assert reason == (
        "sent from 100.64.0.1 instead of 192.0.2.10, as first routed: default dev tun0 table 205"
    )


def test_a_packet_that_is_answered_at_the_address_of_its_first_route_is_rewritten_by_its_rule() -> (
    None
):
    """No rule translates it either."""
    together = seen(replace(GOOD, seen_from="100.64.0.1"), *BY_TUNNEL)
    assert judge(seen(GOOD, *BY_WAN), together, LINE)[::2] == (Outcome.REWRITTEN, TUNNEL)


@pytest.mark.parametrize(
    ("end", "rule"),
    [
        (Dropped("node", "postrouting", 0, 0, "dropped by this rule"), OWN_DROP),
        (Dropped("node", "input", 0, None, "policy drop of other input"), None),
        (Dropped("node", "prerouting", -300, None, "policy drop of raw PREROUTING"), None),
    ],
)
def test_a_packet_that_was_filtered_is_not_misrouted_by_its_first_route(
    end: Dropped, rule: Rule | None
) -> None:
    """What it or its answer was addressed to did not matter: a kill switch drops any."""
    there = seen(UNANSWERED, *BY_TUNNEL)
    back = Timeline("reply", 0, "ba", (end,))
    together = replace(there, timelines=(*there.timelines, back))
    assert judge(seen(GOOD, *BY_WAN), together, LINE)[::2] == (Outcome.DROPPED, rule)


@pytest.mark.parametrize(
    ("end", "mark", "found"),
    [
        ("sendto: Invalid argument", "0x3d00/0x3f00", True),
        ("sendto: Invalid argument", "0x3e00/0x3f00", False),
        ("sendto: No route to host", "0x3d00/0x3f00", False),
        ("request ended on node in output, ended here", "0x3d00/0x3f00", False),
    ],
)
def test_a_socket_that_cannot_send_is_refused_by_the_rule_that_takes_its_mark(
    end: str, mark: str, found: bool
) -> None:
    """As NetBird's 0x1bd00 by mwan3's black hole; the kernel answers EINVAL for one."""
    flow = seen(replace(LOST, end=end))
    policy = line_of(BLACKHOLE, "blackhole", mark, 2061)
    culprit = refused_socket(run(flow, policy), FLOW, flow)
    assert (culprit is not None) is found
    if culprit is not None:
        assert (culprit.rule, culprit.tested) == (BLACKHOLE, 0x3D00)
