"""When the kernel chooses a route again for what the node itself sends, and that this is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.record import Routed, Run
from lab.registry.software import Software
from lab.scenario import VARIANTS, Variant
from lab.traffic.flow import FAMILIES, Family

pytestmark = pytest.mark.kernel

WriteEntry = Callable[..., Software]
RunAlone = Callable[..., Run]
FLOW = {
    "name": "f",
    "port": 6000,
    "from": "node",
    "to": "{{ client.ip }}",
    "answered-by": "client",
}
NOWHERE = {
    "tool": "ip",
    "text": "rule add pref 100 fwmark 0x5/0xff lookup 77\nroute add unreachable default table 77",
}
CHAIN = """table inet made {{
    chain c {{
        type {kind} hook output priority -150; policy accept;
        meta mark set meta mark | 0x5
    }}
}}
"""
FIRST, AGAIN = (0, ""), (5, "No route to host")


def decisions(run: Run) -> list[list[tuple[int, str]]]:
    """List each request's routing decisions: the mark they were taken with, and the refusal."""
    return [
        [(e.mark, e.refusal) for e in line.events if isinstance(e, Routed) and e.node == "node"]
        for line in run.flows[0].timelines
        if line.direction == "request"
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("table", "again"), [("mangle", True), ("raw", False), ("filter", False)])
def test_a_mark_of_the_mangle_table_reroutes_and_one_of_another_table_does_not(
    write_entry: WriteEntry,
    run_alone: RunAlone,
    family: Family,
    variant: Variant,
    table: str,
    again: bool,
) -> None:
    """The route behind the mark refuses, so the fate shows whether the kernel has asked for it."""
    text = f"*{table}\n-A OUTPUT -p udp -j MARK --set-mark 0x5/0xff\nCOMMIT"
    run = run_alone(
        write_entry("x", NOWHERE, {"tool": "iptables", "text": text}, **FLOW), family, variant
    )
    assert run.flows[0].fate.arrived == (0 if again else 3)
    assert decisions(run) == [[FIRST, AGAIN] if again else [FIRST]] * 3


@pytest.mark.parametrize(("kind", "again"), [("route", True), ("filter", False)])
def test_a_mark_of_a_native_chain_reroutes_by_the_type_of_the_chain(
    write_entry: WriteEntry, run_alone: RunAlone, kind: str, again: bool
) -> None:
    """At the same hook and priority."""
    chain = {"tool": "nft", "text": CHAIN.format(kind=kind)}
    run = run_alone(write_entry("x", NOWHERE, chain, **FLOW))
    assert run.flows[0].fate.arrived == (0 if again else 3)
    assert decisions(run) == [[FIRST, AGAIN] if again else [FIRST]] * 3


def test_a_policy_rule_is_whose_it_is_also_if_it_names_no_preference(
    write_entry: WriteEntry, run_alone: RunAlone
) -> None:
    """The kernel gives it a number; the rules of the same table that named theirs are not taken."""
    text = (
        "rule add table main suppress_prefixlength 0",
        "rule add iif lo pref 75 lookup main",
        "rule add to 192.0.2.0/24 pref 70 lookup main",
        "rule add to 198.51.100.7 pref 70 lookup main",
    )
    run = run_alone(write_entry("x", {"tool": "ip", "text": "\n".join(text)}, **FLOW))
    shown = {run.rules[p.rule].written: p.text for p in run.policy if p.rule is not None}
    assert shown == {
        text[0]: "32765: from all lookup main suppress_prefixlength 0",
        text[1]: "75: from all iif lo lookup main",
        text[2]: "70: from all to 192.0.2.0/24 lookup main",
        text[3]: "70: from all to 198.51.100.7/32 lookup main",
    }


@pytest.mark.parametrize(
    "rules", ["rule add pref 90 fwmark 0x9 lookup 99", "route add blackhole 10.9.0.0/16"]
)
def test_a_route_to_the_node_itself_is_local_whether_or_not_there_are_policy_rules(
    write_entry: WriteEntry, run_alone: RunAlone, rules: str
) -> None:
    """Until the first policy rule is added IPv4 keeps local routes in table main as well."""
    here = {"from": "client", "to": "{{ node.ip }}", "answered-by": "node"}
    run = run_alone(write_entry("x", {"tool": "ip", "text": rules}, **(FLOW | here)))
    routes = [
        (e.route, run.policy[e.policy].priority)
        for line in run.flows[0].timelines
        for e in line.events
        if isinstance(e, Routed) and line.direction == "request" and e.policy is not None
    ]
    assert routes == [("192.0.2.10/32 dev eth0 table local", 0)] * 3
