"""The predictor against entries whose meeting is understood."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.marks import WORD
from lab.native.rule import Rule
from lab.registry.find import find
from lab.registry.loader import load
from lab.registry.software import Ruleset, Software
from lab.traffic.flow import Flow
from lab.verdict.outcome import Culprit, Outcome, Verdict
from lab.verdict.predict import Hazard, Prediction, predict

ENTRIES = load()
MASKED = "*mangle\n-A PREROUTING -j MARK --set-mark {0}/{0}\nCOMMIT\n"


def entry(name: str) -> Software:
    """Return an entry of the registry."""
    return find(name, ENTRIES)


def small(
    name: str, text: str, mask: int = 0, tool: str = "iptables", node: str = "node"
) -> Software:
    """Make an entry of one ruleset, whose flow goes from pod-a to the client."""
    flow = Flow("out", "pod-a", "192.0.2.1", 1, answered_by="client")
    ruleset = Ruleset(tool, text, node, file=f"data/{name}/1.toml")  # type: ignore[arg-type]
    one = replace(entry("portmap"), name=name, allocations=(), pod_prefix="", facts=())
    owned = tuple(replace(a, mask=mask, values=()) for a in entry("portmap").allocations if mask)
    return replace(one, allocations=owned, rulesets=(ruleset,), flows=(flow,))


def kinds(owner: Software, beside: Software) -> set[str]:
    """Name what may happen over IPv4."""
    return {hazard.kind for hazard in predict(owner, beside, "ipv4").hazards}


def test_masked_writes_of_other_bits_survive() -> None:
    """Neither changes nor tests what is the other's."""
    one, two = small("one", MASKED.format("0x1"), 0x1), small("two", MASKED.format("0x2"), 0x2)
    assert predict(one, two, "ipv4").survives
    assert predict(two, one, "ipv4").survives


def test_a_masked_write_of_a_shared_bit_clobbers() -> None:
    """And says which bits."""
    one, two = small("one", MASKED.format("0x3"), 0x3), small("two", MASKED.format("0x2"), 0x2)
    (hazard,) = predict(one, two, "ipv4").hazards
    assert (hazard.kind, hazard.bits) == ("clobber", 0x2)


def test_an_unmasked_write_clobbers_every_owner_on_its_path() -> None:
    """However far its value is from their bits."""
    two = small("two", "*mangle\n-A PREROUTING -j MARK --set-mark 0x2\nCOMMIT\n", 0x2)
    assert kinds(small("one", MASKED.format("0x1"), 0x1), two) == {"clobber"}


def test_a_whole_mark_owner_is_clobbered_by_any_bit() -> None:
    """It compares all 32."""
    one = replace(small("one", MASKED.format("0x1"), 0x1), style="whole-mark")
    (hazard,) = predict(one, small("two", MASKED.format("0x2"), 0x2), "ipv4").hazards
    assert hazard.bits == 0x2


def test_rules_in_a_namespace_that_nobody_passes_are_harmless() -> None:
    """The owner's packets are in pod-a, on the node and at the client, never in pod-b."""
    one = small("one", MASKED.format("0x1"), 0x1)
    elsewhere = small("two", "*mangle\n-A INPUT -j MARK --set-mark 0x2\nCOMMIT\n", node="pod-b")
    here = replace(elsewhere, rulesets=(replace(elsewhere.rulesets[0], node="pod-a"),))
    assert predict(one, elsewhere, "ipv4").survives
    assert kinds(one, here) == {"clobber"}


@pytest.mark.parametrize(
    ("mark", "expected"), [("0x40000", {"false match"}), ("0x8000", set()), ("0x40001", set())]
)
def test_a_test_matches_a_stranger_only_if_all_its_bits_can_be_set(
    mark: str, expected: set[str]
) -> None:
    """One bit of the tested value that nobody sets keeps the rule from matching."""
    tester = small("two", f"*mangle\n-A INPUT -m mark --mark {mark}/{mark} -j LOG\nCOMMIT\n")
    assert kinds(small("one", MASKED.format("0x40000"), 0x40000), tester) == expected


def test_a_socket_mark_is_a_stranger_as_well() -> None:
    """wg-quick's 0xca6c holds bit 15, which kubelet before 1.28 drops (kubernetes#113659)."""
    found = predict(entry("wg-quick"), entry("kubernetes@1.18.6"), "ipv4").hazards
    taken = [h for h in found if h.kind == "false match" and h.by and "KUBE-FIREWALL" in h.by.text]
    assert [h.bits for h in taken] == [0x8000]


def test_kubernetes_and_portmap_keep_their_marks_apart() -> None:
    """0x4000 and 0x2000, both masked."""
    assert predict(entry("kubernetes"), entry("portmap"), "ipv4").marks_apart
    assert predict(entry("portmap"), entry("kubernetes"), "ipv4").marks_apart


def test_calico_and_tailscale_share_bits() -> None:
    """Bits 16 to 23 lie within Calico's 16 to 31."""
    found = predict(entry("tailscale"), entry("calico"), "ipv4")
    assert not found.marks_apart
    assert {h.kind for h in found.hazards} >= {"clobber", "false match"}


def test_src_valid_mark_breaks_a_table_behind_a_mark() -> None:
    """Tailscale sets it, Cilium's proxy has a local table; kube-proxy routes nothing by mark."""
    assert "source check" in kinds(entry("cilium"), entry("tailscale"))
    assert "source check" in kinds(entry("tailscale"), entry("cilium"))
    assert "source check" not in kinds(entry("kubernetes"), entry("tailscale"))


def test_a_policy_rule_without_a_priority_stands_where_the_order_puts_it() -> None:
    """Its owner may be routed by it before or after the other's, so it may be to blame itself."""
    unnumbered = small("one", "rule add lookup main suppress_prefixlength 0", tool="ip")
    numbered = small("one", "rule add pref 7 lookup main", tool="ip")
    other = small("two", "rule add iif lo pref 75 lookup main", tool="ip")
    mine = [h for h in predict(unnumbered, other, "ipv4").hazards if h.by and "one" in h.by.file]
    assert [h.kind for h in mine] == ["policy route"]
    assert all(h.by and "two" in h.by.file for h in predict(numbered, other, "ipv4").hazards)
    assert predict(unnumbered, small("two", MASKED.format("0x1")), "ipv4").survives


def test_a_translation_ends_the_nat_table_for_who_comes_behind_it() -> None:
    """So the owner's rule there may not mark the packet, which nothing else shows."""
    masquerade = "*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n"
    found = predict(small("one", MASKED.format("0x1"), 0x1), small("two", masquerade), "ipv4")
    assert found.covers(verdict(Outcome.INCONCLUSIVE))
    assert found.covers(verdict(Outcome.REWRITTEN))
    assert not found.covers(verdict(Outcome.CLOBBERED))


def test_a_socket_that_cannot_send_is_no_source_check() -> None:
    """Which is made of what comes in."""
    sysctl = small("two", "net.ipv4.conf.all.src_valid_mark = 1", tool="sysctl")
    routes = small("one", "rule add fwmark 0x1/0x1 lookup 7", tool="ip")
    found = predict(routes, sysctl, "ipv4")
    martian = replace(verdict(Outcome.MISROUTED), culprit=None)
    refused = "refused by source validation (Invalid argument) instead of routed to eth0"
    assert found.covers(replace(martian, reason=refused))
    assert not found.covers(replace(martian, reason="sendto: Invalid argument"))


def test_a_source_check_refuses_packets_where_the_sysctl_is_set() -> None:
    """Another node's is its own: it may have no route to whom the packet is from."""
    sysctl = small("two", "net.ipv4.conf.all.src_valid_mark = 1", tool="sysctl")
    found = predict(small("one", "rule add fwmark 0x1/0x1 lookup 7", tool="ip"), sysctl, "ipv4")
    end = "request ended on {} in prerouting, not routed: no route, or source validation refused it"
    dropped = replace(verdict(Outcome.DROPPED), culprit=None)
    assert found.covers(replace(dropped, reason=end.format("node")))
    assert not found.covers(replace(dropped, reason=end.format("client")))


def test_two_pod_networks_are_one_too_many() -> None:
    """Whoever is installed last has the pods; policy on top of another's pods is no such thing."""
    assert "pod network" in kinds(entry("antrea"), entry("cilium"))
    assert "pod network" not in kinds(entry("calico"), entry("aws-vpc-cni"))


def verdict(outcome: Outcome, line: int = 2, file: str = "/x/data/two/1.toml") -> Verdict:
    """Make a verdict whose culprit stands in a line of a file."""
    rule = Rule("two@1:m", "iptables", "mangle", "INPUT", "-j X", file=file, line=line)
    culprit = Culprit(rule, "node", "input", 0, 0, 0)
    return Verdict(
        outcome, "one@1:m", ("one@1:m", "two@1:m"), "ipv4", "nft", "out", "", culprit=culprit
    )


def test_only_the_rule_that_was_named_is_covered() -> None:
    """Another rule of the same software was not foreseen, and neither was another outcome."""
    found = predict(
        small("one", MASKED.format("0x1"), 0x1), small("two", MASKED.format("0x1"), 0x1), "ipv4"
    )
    assert found.covers(verdict(Outcome.CLOBBERED))
    assert not found.covers(verdict(Outcome.CLOBBERED, line=3))
    assert not found.covers(verdict(Outcome.CLOBBERED, file="/x/data/one/1.toml"))
    assert not found.covers(verdict(Outcome.DROPPED))


def test_without_a_hazard_nothing_but_survival_is_covered() -> None:
    """Not even doubt."""
    nothing = Prediction("one@1:m", "two@1:m", ())
    assert nothing.survives
    assert nothing.covers(verdict(Outcome.SURVIVES))
    assert not any(nothing.covers(verdict(o)) for o in Outcome if o is not Outcome.SURVIVES)


def test_a_hazard_of_some_flows_covers_no_other() -> None:
    """What is captured in one pod says nothing of flows elsewhere."""
    captured = Verdict(
        Outcome.DROPPED, "one@1:m", ("one@1:m", "two@1:m"), "ipv4", "nft", "out", "lost"
    )
    assert Hazard("capture", "", flows=("out",)).covers(captured)
    assert not Hazard("capture", "", flows=("in",)).covers(captured)


def test_every_rule_of_the_registry_can_be_judged() -> None:
    """No entry makes the predictor stumble, in either family."""
    current = {s.name: s for s in ENTRIES if s.default_mode}.values()
    for family in ("ipv4", "ipv6"):
        for owner in current:
            for beside in current:
                for hazard in predict(owner, beside, family).hazards if owner != beside else ():
                    assert 0 <= hazard.bits <= WORD
                    assert hazard.reason
