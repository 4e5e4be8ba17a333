"""Who wrote what: rules made for the purpose, in every backend, table and chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest

from lab.plugin import Lab
from lab.points import Point
from lab.record import Dropped, FlowRun, Hit, Reading, Run, Write
from lab.registry.software import Software
from lab.scenario import VARIANTS, Scenario, Variant
from lab.traffic.flow import FAMILIES, Family

pytestmark = pytest.mark.kernel

WriteEntry = Callable[..., Software]
RunAlone = Callable[..., Run]
FLOWS: dict[str, dict[str, object]] = {
    "FORWARD": {"from": "client", "to": "{{ pod-a.ip }}", "answered-by": "pod-a"},
    "INPUT": {"from": "client", "to": "{{ node.ip }}", "answered-by": "node"},
    "OUTPUT": {"from": "node", "to": "{{ client.ip }}", "answered-by": "client"},
}
FLOWS["PREROUTING"] = FLOWS["INPUT"]
FLOWS["POSTROUTING"] = FLOWS["FORWARD"]
TABLES = {
    "raw": (-300, ("PREROUTING", "OUTPUT")),
    "mangle": (-150, ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")),
    "nat": (-100, ("PREROUTING", "OUTPUT")),
    "filter": (0, ("INPUT", "FORWARD", "OUTPUT")),
    "security": (50, ("INPUT", "FORWARD", "OUTPUT")),
}
PLACES = [
    (table, priority, chain) for table, (priority, chains) in TABLES.items() for chain in chains
] + [("nat", 100, "POSTROUTING")]


def flow(chain: str, **more: object) -> dict[str, object]:
    """Return a flow that passes a chain of the node."""
    return {"name": "f", "port": 6000} | FLOWS[chain] | more


def iptables(table: str, *rules: str) -> dict[str, object]:
    """Return a ruleset for iptables."""
    return {"tool": "iptables", "text": "\n".join([f"*{table}", *rules, "COMMIT"])}


def nft(text: str) -> dict[str, object]:
    """Return a native ruleset."""
    return {"tool": "nft", "text": f"{text}\n"}


def writes(run: Run, direction: str = "request", field: str = "mark") -> list[Write]:
    """List the writes on a run's only flow."""
    return [
        e
        for line in run.flows[0].timelines
        if line.direction == direction
        for e in line.events
        if isinstance(e, Write) and e.field == field
    ]


def read_at(seen: FlowRun, point: str, direction: str = "request") -> list[int]:
    """List the marks read at a point."""
    wanted = Point.parse(point)
    return [
        e.mark
        for line in seen.timelines
        if line.direction == direction
        for e in line.events
        if isinstance(e, Reading) and e.point == wanted
    ]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("table", "priority", "chain"), PLACES)
def test_a_mark_rule_is_named_in_every_table_and_chain(
    write_entry: WriteEntry,
    run_alone: RunAlone,
    variant: Variant,
    table: str,
    priority: int,
    chain: str,
) -> None:
    """Exactly that rule, as written and as listed, between rules that do not match."""
    mine = f"-A {chain} -p udp -j MARK --set-mark 0x5/0xff"
    others = [f"-A {chain} -p tcp -j MARK --set-mark {n}/0xff" for n in ("0x7", "0x9")]
    mangle = iptables("mangle", "-A PREROUTING -p tcp -m conntrack --ctstate NEW -j ACCEPT")
    rulesets = [iptables(table, others[0], mine, others[1])] + [mangle] * (table == "nat")
    run = run_alone(write_entry("x", *rulesets, **flow(chain)), "ipv4", variant)
    found = writes(run)
    if (table, variant) == ("security", "nft"):
        priority = 150  # iptables-nft differs from the kernel's NF_IP_PRI_SECURITY (iptables/nft.c)
    assert len(found) == (1 if table == "nat" else 3)  # nat is passed once per connection
    for write in found:
        rule = run.rule(write.rule)
        assert rule is not None
        assert rule.written == mine
        assert rule.listed == f"-A {chain} -p udp -j MARK --set-xmark 0x5/0xff"
        assert (write.node, write.hook, write.priority) == ("node", chain.lower(), priority)
        assert (write.before, write.after) == (0, 5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("chain", ["PREROUTING", "OUTPUT", "POSTROUTING"])
def test_a_nat_rule_does_nothing_until_somebody_needs_conntrack(
    write_entry: WriteEntry, run_alone: RunAlone, variant: Variant, chain: str
) -> None:
    """A fact of the kernel that an observer must not change."""
    rules = iptables("nat", f"-A {chain} -p udp -j MARK --set-mark 0x5/0xff")
    run = run_alone(write_entry("x", rules, **flow(chain)), "ipv4", variant)
    assert run.flows[0].fate.arrived == 3
    assert writes(run) == []


HOOKS = ("prerouting", "input", "forward", "output", "postrouting")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("hook", "priority"), list(product(HOOKS, (-310, -149, 3, 120))))
def test_a_native_rule_is_named_at_every_hook(
    write_entry: WriteEntry, run_alone: RunAlone, family: Family, hook: str, priority: int
) -> None:
    """With the text that nft lists."""
    text = f"""\
table inet made {{
  chain c {{
    type filter hook {hook} priority {priority}; policy accept;
    meta l4proto tcp meta mark set 0x7
    meta l4proto udp meta mark set meta mark & 0xffffff00 | 0x5
  }}
}}"""
    run = run_alone(write_entry("x", nft(text), **flow(hook.upper())), family)
    found = writes(run)
    assert len(found) == 3
    for write in found:
        rule = run.rule(write.rule)
        assert rule is not None
        assert rule.written == "meta l4proto udp meta mark set meta mark & 0xffffff00 | 0x5"
        assert rule.listed.startswith("meta l4proto udp meta mark set")
        assert (write.hook, write.priority, write.after) == (hook, priority, 5)


@pytest.mark.parametrize(("variant", "family"), list(product(VARIANTS, FAMILIES)))
def test_a_rule_behind_jumps_is_named(
    write_entry: WriteEntry, run_alone: RunAlone, variant: Variant, family: Family
) -> None:
    """Through a chain that returns, and one that goes on."""
    rules = iptables(
        "mangle",
        ":a - [0:0]",
        ":b - [0:0]",
        "-A FORWARD -p udp -j a",
        "-A FORWARD -j MARK --set-mark 0x30/0xf0",
        "-A a -j b",
        "-A a -j MARK --set-mark 0x2/0xf",
        "-A b -p tcp -j MARK --set-mark 0x9",
        "-A b -j RETURN",
    )
    run = run_alone(write_entry("x", rules, **flow("FORWARD")), family, variant)
    blamed = [(str(run.rule(w.rule).where), w.before, w.after) for w in writes(run)]  # type: ignore[union-attr]
    assert blamed == [("mangle a", 0, 2), ("mangle FORWARD", 2, 0x32)] * 3


@pytest.mark.parametrize(("variant", "family"), list(product(VARIANTS, FAMILIES)))
def test_save_and_restore_are_named(
    write_entry: WriteEntry, run_alone: RunAlone, variant: Variant, family: Family
) -> None:
    """The write of the ctmark by the rule that saves, that of the reply's mark by the other."""
    save = "-A FORWARD -p udp -m mark ! --mark 0x0/0xff -j CONNMARK --save-mark"
    restore = "-A PREROUTING -m conntrack --ctstate ESTABLISHED -j CONNMARK --restore-mark"
    sets = "-A FORWARD -m conntrack --ctstate NEW -j MARK --set-mark 0x5/0xff"
    rules = iptables("mangle", sets, save, restore)
    run = run_alone(write_entry("x", rules, **flow("FORWARD")), family, variant)
    (saved,) = writes(run, field="ctmark")
    assert run.rules[saved.rule or 0].written == save
    assert (saved.before, saved.after) == (0, 5)
    restored = writes(run, "reply")
    assert len(restored) == 3
    assert {run.rules[w.rule or 0].written for w in restored} == {restore}
    assert {(w.hook, w.before, w.after) for w in restored} == {("prerouting", 0, 5)}
    assert [run.rules[w.rule or 0].written for w in writes(run)] == [sets, restore, restore]


CHAIN = """\
table ip made {{
  chain c {{
    type filter hook {hook} priority {priority}; policy accept;
    meta l4proto udp meta mark set 0xb
  }}
}}"""
ORDERS: tuple[tuple[Variant, str], ...] = tuple(product(VARIANTS, ("given", "reverse")))


@pytest.mark.parametrize(("variant", "order"), ORDERS)
@pytest.mark.parametrize(
    ("hook", "table", "priority"),
    [
        ("forward", "mangle", -150),
        ("forward", "filter", 0),
        ("prerouting", "raw", -300),
        ("output", "mangle", -150),
        ("postrouting", "mangle", -150),
    ],
)
def test_at_equal_priority_the_order_told_is_the_order_that_was(
    lab: Lab,
    write_entry: WriteEntry,
    variant: Variant,
    order: str,
    hook: str,
    table: str,
    priority: int,
) -> None:
    """Two rules that each set the whole mark: what is read after both says who came last."""
    rules = iptables(table, f"-A {hook.upper()} -p udp -j MARK --set-mark 0xa")
    a = write_entry("a", rules, **flow(hook.upper()))
    b = write_entry("b", nft(CHAIN.format(hook=hook, priority=priority)), **flow(hook.upper()))
    scenario = Scenario((a, b), families=("ipv4",), variants=(variant,), orders=order)  # type: ignore[arg-type]
    run = lab.check(scenario).runs[-1]
    assert len(run.experiment.software) == 2
    for seen in run.flows:
        for final in read_at(seen, f"node {hook} {priority + 1}"):
            assert final in (0xA, 0xB)
        for line in (t for t in seen.timelines if t.direction == "request"):
            found = [e for e in line.events if isinstance(e, Write)]
            assert [(w.before, w.after) for w in found] in (
                [(0, 0xA), (0xA, 0xB)],
                [(0, 0xB), (0xB, 0xA)],
            )
            assert {run.rules[w.rule or 0].software: w.after for w in found} == {
                "a@1:m": 0xA,
                "b@1:m": 0xB,
            }
            assert found[-1].after == read_at(seen, f"node {hook} {priority + 1}")[line.ordinal]


@pytest.mark.parametrize("hook", ["forward", "postrouting"])
def test_of_two_chains_of_equal_priority_the_last_registered_runs_first(
    lab: Lab, write_entry: WriteEntry, hook: str
) -> None:
    """A fact of the kernel that the order of installation depends on."""
    text = CHAIN.format(hook=hook, priority=7)
    a = write_entry(
        "a", nft(text.replace("0xb", "0xa").replace("made", "one")), **flow(hook.upper())
    )
    b = write_entry("b", nft(text), **flow(hook.upper()))
    result = lab.check(a, b, families=("ipv4",))
    for run in (r for r in result.runs if not r.experiment.alone):
        first = run.experiment.order[0]
        assert {run.rules[w.rule or 0].software for w in last_writes(run)} == {first}


def last_writes(run: Run) -> Iterator[Write]:
    """Yield the last write on each request."""
    for seen in run.flows:
        for line in (t for t in seen.timelines if t.direction == "request"):
            yield [e for e in line.events if isinstance(e, Write)][-1]


def drops(run: Run) -> list[Dropped]:
    """List where the requests ended."""
    return [e for line in run.flows[0].timelines for e in line.events if isinstance(e, Dropped)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("table", "chain"),
    [
        ("filter", "FORWARD"),
        ("filter", "INPUT"),
        ("mangle", "PREROUTING"),
        ("raw", "PREROUTING"),
        ("mangle", "POSTROUTING"),
        ("filter", "OUTPUT"),
    ],
)
def test_a_rule_that_drops_is_named(
    write_entry: WriteEntry, run_alone: RunAlone, variant: Variant, table: str, chain: str
) -> None:
    """With the place where the packet ended."""
    mine = f"-A {chain} -p udp -j DROP"
    rules = iptables(table, f"-A {chain} -p tcp -j ACCEPT", mine)
    run = run_alone(write_entry("x", rules, **flow(chain)), "ipv4", variant)
    assert run.flows[0].fate.arrived == 0
    found = drops(run)
    assert len(found) == 3
    assert {run.rules[d.rule].written if d.rule is not None else d.reason for d in found} == {mine}
    assert {(d.node, d.hook) for d in found} == {("node", chain.lower())}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("target", ["DROP", "REJECT"])
def test_a_rule_that_drops_everything_is_named(
    write_entry: WriteEntry, run_alone: RunAlone, variant: Variant, target: str
) -> None:
    """The kernel's TRACE calls an unconditional verdict of a legacy table a policy."""
    mine = f"-A made -j {target}"
    rules = iptables("filter", ":made - [0:0]", "-A FORWARD -p udp -j made", mine)
    run = run_alone(write_entry("x", rules, **flow("FORWARD")), "ipv4", variant)
    assert run.flows[0].fate.arrived == 0
    found = drops(run)
    assert {run.rules[d.rule].written if d.rule is not None else d.reason for d in found} == {mine}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_policy_of_a_chain_is_told_from_a_rule(
    write_entry: WriteEntry, run_alone: RunAlone, variant: Variant
) -> None:
    """No rule is accused of what the policy did."""
    rules = iptables("filter", ":FORWARD DROP [0:0]", "-A FORWARD -p tcp -j ACCEPT")
    run = run_alone(write_entry("x", rules, **flow("FORWARD")), "ipv4", variant)
    found = drops(run)
    assert {(d.node, d.hook, d.rule) for d in found} == {("node", "forward", None)}
    assert len(found) == 3
    assert all("policy" in d.reason for d in found)


def test_the_policy_of_a_native_chain_is_told(write_entry: WriteEntry, run_alone: RunAlone) -> None:
    """By table and chain."""
    text = CHAIN.format(hook="forward", priority=5).replace("policy accept", "policy drop")
    run = run_alone(write_entry("x", nft(text), **flow("FORWARD")))
    assert {d.reason for d in drops(run)} == {"policy drop of made c"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packet_without_a_route_ends_for_want_of_it(
    write_entry: WriteEntry, run_alone: RunAlone, family: Family
) -> None:
    """Nothing that a rule did."""
    rules = {"tool": "ip", "text": "route add unreachable {{ wan.net }}"}
    way = {"name": "f", "port": 6000, "from": "pod-a", "to": "{{ wan.ip }}", "listens": "client"}
    run = run_alone(write_entry("x", rules, **way), family)
    assert {(d.node, d.hook, d.rule) for d in drops(run)} == {("node", "prerouting", None)}
    assert all(d.reason.startswith("no route: ") for d in drops(run))
    assert len(drops(run)) == 3


def test_a_spoofed_source_ends_in_source_validation(
    write_entry: WriteEntry, run_alone: RunAlone
) -> None:
    """Strict rp_filter on the interface: the way back to the source is another one."""
    strict = {"tool": "sysctl", "text": "net.ipv4.conf.eth0.rp_filter = 1"}
    borrowed = {"tool": "ip", "on": "client", "text": "address add {{ lan.ip }}/32 dev eth0"}
    way = flow("INPUT", **{"source-address": "{{ lan.ip }}", "listens": "node"})
    del way["answered-by"]
    run = run_alone(write_entry("x", strict, borrowed, **way))
    assert run.flows[0].fate.arrived == 0
    assert {(d.node, d.hook, d.rule) for d in drops(run)} == {("node", "prerouting", None)}
    assert all("rp_filter" in d.reason for d in drops(run))


def test_without_the_strict_filter_the_same_packet_arrives(
    write_entry: WriteEntry, run_alone: RunAlone
) -> None:
    """The test before would pass for another reason otherwise."""
    borrowed = {"tool": "ip", "on": "client", "text": "address add {{ lan.ip }}/32 dev eth0"}
    way = flow("INPUT", **{"source-address": "{{ lan.ip }}"})
    assert run_alone(write_entry("x", borrowed, **way)).flows[0].fate.arrived == 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_rules_that_match_are_recorded_and_others_are_not(
    write_entry: WriteEntry, run_alone: RunAlone, variant: Variant
) -> None:
    """A hit is a match, whatever the rule does."""
    rules = iptables("filter", "-A FORWARD -p tcp", "-A FORWARD -p udp", "-A FORWARD -j ACCEPT")
    run = run_alone(write_entry("x", rules, **flow("FORWARD")), "ipv4", variant)
    for line in (t for t in run.flows[0].timelines if t.direction == "request"):
        hits = [run.rules[e.rule].written for e in line.events if isinstance(e, Hit)]
        assert hits == ["-A FORWARD -p udp", "-A FORWARD -j ACCEPT"]
