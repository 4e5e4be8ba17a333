"""Tailscale and Calico do not coexist: both use bits 16 to 19 of the packet mark.

Tailscale takes bits 16-23 for its own: 0x40000 marks what came in by tailscale0 and is to be
masqueraded, 0x80000 marks the sockets of tailscaled, which a policy rule keeps out of the tunnel.
Calico takes bits 16-31 and uses the lowest. What breaks follows from three facts, so it is the
same in both orders of installation, with both address families and both iptables variants:

- Calico's hooks into raw and mangle stand apart from Tailscale's in priority, so no order of
  installation changes who comes first there.
- From 3.18 to 3.29 Calico clears 0xf0000 in mangle POSTROUTING, on what its own filter FORWARD has
  not accepted. Tailscale's ts-forward accepts subnet-router traffic before Calico's last rule, and
  nat POSTROUTING, where the mark is needed, comes after mangle.
- Calico marks what comes from a pod with its first scratch bit: 0x40000, Tailscale's subnet-route
  mark, up to 3.29; since 3.30, which put the drop bit in between, 0x80000, Tailscale's bypass mark.

Upstream: tailscale#591, tailscale#4917 (comment of 2023-09-30).
"""

from __future__ import annotations

import pytest

from lab.marks import Mark
from lab.plugin import Lab, Result, scenarios
from lab.points import Point
from lab.record import Dropped, FlowRun, Reading, Routed, Run
from lab.scenario import Scenario
from lab.verdict.outcome import Outcome, Verdict

pytestmark = pytest.mark.pairs

OLD = scenarios("tailscale:iptables", "calico@3.20")
NEW = scenarios("tailscale:iptables", "calico@3.32.1")
TAILSCALE_BITS = 0xFF0000
PEER = {"ipv4": "100.64.0.9", "ipv6": "fd7a:115c:a1e0::9"}


def together(result: Result) -> Run:
    """Return the run of both."""
    return next(run for run in result.runs if not run.experiment.alone)


def flow(result: Result, owner: str, name: str) -> FlowRun:
    """Return one flow of the run of both."""
    run = together(result)
    return next(f for f in run.flows if f.owner.startswith(f"{owner}@") and f.name == name)


def requests(seen: FlowRun) -> list[list[Reading]]:
    """List the readings of each request on the node."""
    return [
        [r for r in line.readings() if r.point.node == "node"]
        for line in seen.timelines
        if line.direction == "request"
    ]


def written(verdict: Verdict) -> tuple[str, str, str]:
    """Return who wrote the wrong word, where, and the rule as the kernel lists it."""
    assert verdict.culprit is not None
    rule = verdict.culprit.rule
    return rule.software, rule.where, rule.listed


@pytest.mark.parametrize("scenario", OLD)
def test_calico_3_20_takes_the_subnet_routers_masquerade_away(lab: Lab, scenario: Scenario) -> None:
    """The LAN host sees the peer's own address, because the mark is gone before nat POSTROUTING."""
    result = lab.check(scenario)
    verdicts = result.of("tailscale", "tailnet-to-lan")
    assert {v.outcome for v in verdicts if v.point and v.point.hook == "postrouting"} == {
        Outcome.CLOBBERED
    }
    clobbered = next(v for v in verdicts if v.outcome is Outcome.CLOBBERED)
    assert written(clobbered) == (
        "calico@3.20:iptables",
        "mangle cali-POSTROUTING",
        "-A cali-POSTROUTING -j MARK --set-xmark 0x0/0xf0000",
    )
    assert clobbered.culprit is not None
    assert clobbered.culprit.before & TAILSCALE_BITS == 0x40000
    assert clobbered.culprit.after & TAILSCALE_BITS == 0


@pytest.mark.parametrize("scenario", OLD)
def test_the_lan_host_cannot_answer_a_tailnet_address(lab: Lab, scenario: Scenario) -> None:
    """What leaves for the LAN keeps its tailnet source address, and nothing is answered."""
    seen = flow(lab.check(scenario), "tailscale", "tailnet-to-lan")
    assert seen.fate.answered == 0
    for readings in requests(seen):
        assert str(readings[-1].point) == "node postrouting srcnat + 1"
        assert readings[-1].source == PEER[scenario.families[0]]


@pytest.mark.parametrize("scenario", OLD)
def test_the_mark_is_right_until_calicos_mangle_postrouting(lab: Lab, scenario: Scenario) -> None:
    """Packet by packet: set in filter FORWARD, there before mangle POSTROUTING, gone after it."""
    seen = flow(lab.check(scenario), "tailscale", "tailnet-to-lan")
    for at, mark in (
        ("node forward filter - 1", 0),
        ("node forward filter + 1", 0x40000),
        ("node postrouting mangle - 1", 0x40000),
        ("node postrouting mangle + 1", 0),
    ):
        for line in seen.timelines:
            if line.direction == "request":
                (read,) = line.at(Point.parse(at))
                assert read.mark & TAILSCALE_BITS == mark, at


@pytest.mark.parametrize("scenario", NEW)
def test_calico_3_32_leaves_the_subnet_router_alone(lab: Lab, scenario: Scenario) -> None:
    """Since 3.30 bit 18 means "drop" and is in no mask that Calico clears (0x1b0000)."""
    result = lab.check(scenario)
    assert result.outcomes("tailscale", "tailnet-to-lan") == {Outcome.SURVIVES}
    assert flow(result, "tailscale", "tailnet-to-lan").fate.answered == 3


@pytest.mark.parametrize("scenario", NEW)
def test_calico_3_32_sends_pods_past_the_tunnel(lab: Lab, scenario: Scenario) -> None:
    """From-workload is the bypass mark now: what pods send into the tailnet goes to the uplink."""
    result = lab.check(scenario)
    verdicts = [
        v for v in result.of("tailscale", "pod-to-tailnet") if v.outcome is Outcome.CLOBBERED
    ]
    assert {str(v.point) for v in verdicts} == {
        "node prerouting last",
        "node forward filter - 1",
    }
    assert {written(v) for v in verdicts} == {
        (
            "calico@3.32.1:iptables",
            "raw cali-PREROUTING",
            "-A cali-PREROUTING -i cali+ -j MARK --set-xmark 0x80000/0x80000",
        )
    }
    assert flow(result, "tailscale", "pod-to-tailnet").fate.arrived == 0


@pytest.mark.parametrize("scenario", NEW)
def test_tailscales_own_policy_rule_takes_the_pods_packets(lab: Lab, scenario: Scenario) -> None:
    """Rule 5210 of Tailscale matches Calico's bit and looks up main, whose way out is eth0."""
    run = together(result := lab.check(scenario))
    for line in flow(result, "tailscale", "pod-to-tailnet").timelines:
        routed = next(e for e in line.events if isinstance(e, Routed))
        assert routed.device == "eth0"
        assert routed.mark & TAILSCALE_BITS == 0x80000
        assert routed.policy is not None
        policy = run.policy[routed.policy]
        assert (policy.priority, policy.mark) == (5210, Mark(0x80000, TAILSCALE_BITS))
        owner = run.rule(policy.rule)
        assert owner is not None
        assert owner.software == "tailscale@1.102.3:iptables"


@pytest.mark.parametrize("scenario", NEW)
@pytest.mark.parametrize("name", ["tailnet-to-pod", "tailnet-to-second-pod"])
def test_answers_of_pods_miss_the_tunnel_as_well(lab: Lab, scenario: Scenario, name: str) -> None:
    """Requests arrive masqueraded; the answers take the uplink instead of tailscale0."""
    result = lab.check(scenario)
    (verdict,) = result.of("tailscale", name)
    assert verdict.outcome is Outcome.FALSE_MATCH
    assert verdict.culprit is not None
    assert verdict.culprit.rule.written.startswith("rule add pref 5210")
    assert "raw cali-PREROUTING" in verdict.culprit.writer
    seen = flow(result, "tailscale", name)
    assert (seen.fate.arrived, seen.fate.answered) == (3, 0)
    ends = [e.node for line in seen.timelines for e in line.events if isinstance(e, Dropped)]
    assert ends == ["client"] * 3


@pytest.mark.parametrize("scenario", OLD + NEW)
def test_calico_erases_the_bypass_mark_before_it_is_saved(lab: Lab, scenario: Scenario) -> None:
    """Raw OUTPUT comes before mangle OUTPUT: the connection never gets the mark, nor do replies.

    The route was chosen by the socket's mark before OUTPUT, so the packets still take the uplink;
    what is lost is the answer to a strict reverse-path check (rp_filter=1).
    """
    result = lab.check(scenario)
    seen = flow(result, "tailscale", "bypass")
    lost = [v for v in result.of("tailscale", "bypass") if v.outcome is not Outcome.SURVIVES]
    assert {readings[0].mark for readings in requests(seen)} == {0x80000}
    assert {(str(v.point), v.field) for v in lost} == {
        ("node output mangle - 1", "mark"),
        ("node output mangle + 1", "ctmark"),
        ("node prerouting mangle - 1", "ctmark"),
        ("node prerouting mangle + 1", "mark"),
    }
    assert {written(v)[1] for v in lost} == {"raw cali-OUTPUT"}
    assert seen.fate.answered == 3


@pytest.mark.parametrize("scenario", OLD)
def test_calico_3_20_marks_pods_traffic_as_the_subnet_routers(lab: Lab, scenario: Scenario) -> None:
    """From-workload was the subnet-route mark: what pods send into the tailnet carries it."""
    verdicts = [
        v
        for v in lab.check(scenario).of("tailscale", "pod-to-tailnet")
        if v.outcome is Outcome.CLOBBERED
    ]
    assert {written(v) for v in verdicts} == {
        (
            "calico@3.20:iptables",
            "raw cali-PREROUTING",
            "-A cali-PREROUTING -i cali+ -j MARK --set-xmark 0x40000/0x40000",
        )
    }
    assert {v.together for v in verdicts} == {0x40000}


@pytest.mark.parametrize("scenario", [s for s in OLD if s.orders == "reverse"])
@pytest.mark.parametrize("name", ["pod-to-pod", "pod-to-lan", "pod-to-client", "lan-to-pod"])
def test_tailscale_on_top_accepts_pods_traffic_before_calico_judges_it(
    lab: Lab, scenario: Scenario, name: str
) -> None:
    """Installed last, ts-forward comes first and takes Calico's bit for a subnet packet's."""
    (verdict, *_) = lab.check(scenario).of("calico", name)
    assert verdict.outcome is Outcome.FALSE_MATCH
    assert verdict.culprit is not None
    assert verdict.culprit.rule.where == "filter ts-forward"
    assert "raw cali-PREROUTING" in verdict.culprit.writer


@pytest.mark.parametrize("scenario", [s for s in OLD if s.orders == "given"])
def test_calico_on_top_keeps_its_own_policies(lab: Lab, scenario: Scenario) -> None:
    """Installed last, Calico's chain clears its bits and judges before ts-forward sees a packet."""
    assert lab.check(scenario).outcomes("calico") == {Outcome.SURVIVES}
