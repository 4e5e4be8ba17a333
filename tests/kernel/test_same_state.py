"""What is said to leave the kernel in the same state does so: orders that commute, for one.

Rules, sets, policy rules, routes, devices, neighbours, programs and settings are listed by the
kernel's own tools after both orders and compared. What this kernel cannot list is which of two
chains at one hook and priority is called first; there none is said to commute (tests/unit).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lab.errors import UnsupportedError
from lab.order import representative
from lab.pairs import Pair, current, pairs
from lab.plugin import entries, scenarios
from lab.registry.software import Ruleset, Software
from lab.runner.pool import Pool
from lab.runner.protocol import Task
from lab.scenario import VARIANTS, Experiment, Scenario, Variant

pytestmark = pytest.mark.kernel

Orders = tuple[Experiment, Experiment]


def both_orders(pair: Pair) -> Iterator[Orders]:
    """Yield the experiments on a pair, in either order, that are run as one."""
    given, reverse = (
        [e for s in scenarios(*pair, orders=orders) for e in s.experiments() if not e.alone]
        for orders in ("given", "reverse")  # type: ignore[arg-type]
    )
    for one, other in zip(given, reverse, strict=True):
        if _both_install(one) and representative(one) == representative(other):
            yield one, other


def _both_install(experiment: Experiment) -> bool:
    return all(
        any(experiment.family in ruleset.families for ruleset in software.rulesets)
        for software in experiment.software
    )


def in_both(worker: Pool, orders: Sequence[Experiment]) -> list[Any]:
    """List what the kernel tells after each order; skip what this user may not install."""
    return told(worker, [Task("tests.kernel.states:after", one) for one in orders])


def told(worker: Pool, tasks: Iterable[Task]) -> list[Any]:
    """List what tasks return; skip where one is about what this user may not install."""
    try:
        return [worker.call(task) for task in tasks]
    except UnsupportedError as problem:
        pytest.skip(str(problem))


def _cases() -> Iterator[object]:
    for pair in pairs(current(entries())):
        public = all(software.registered for software in pair)
        for orders in both_orders(pair):
            marks = [] if public else [pytest.mark.thorough]
            yield pytest.param(orders, marks=marks, id=str(orders[0]).replace(" ", "-"))


@pytest.mark.parametrize("orders", list(_cases()))
def test_what_commutes_leaves_the_same_state(worker: Pool, orders: Orders) -> None:
    """On every node on which anybody installs anything."""
    one, other = in_both(worker, orders)
    assert one == other
    assert "refused" not in one


def _together() -> Iterator[object]:
    """Yield the experiments in which one process gets the rules of two, in the order given."""
    for pair in pairs(current(entries())):
        public = all(software.registered for software in pair)
        for scenario in scenarios(*pair, orders="given") if all(map(_takes, pair)) else ():
            (one,) = (e for e in scenario.experiments() if not e.alone)
            marks = [] if public else [pytest.mark.thorough]
            yield pytest.param(one, marks=marks, id=str(one).replace(" ", "-"))


def _takes(software: Software) -> bool:
    return any(r.tool == "iptables" and r.node == "node" for r in software.rulesets)


@pytest.mark.parametrize("experiment", list(_together()))
def test_rules_of_several_are_where_each_would_put_them(
    worker: Pool, experiment: Experiment
) -> None:
    """One process of iptables-restore does for two what two processes do."""
    names = ("after", "after_each")
    together, apart = told(worker, [Task(f"tests.kernel.states:{n}", experiment) for n in names])
    assert together == apart


BETWEEN = {
    "nothing": (None, 1),
    "policy rules": (Ruleset("ip", "rule add pref 9 fwmark 9 lookup 9"), 1),
    "a chain of nftables": (Ruleset("nft", "table inet t {\n chain c { }\n}"), 2),
    "a setting": (Ruleset("sysctl", "net.ipv4.conf.all.rp_filter = 0"), 1),
    "a module's setting": (Ruleset("sysctl", "net.netfilter.nf_conntrack_acct = 1"), 2),
    "the other variant, and back": (
        Ruleset("iptables", "*raw\n-A OUTPUT -j ACCEPT\nCOMMIT", variant="legacy"),
        3,
    ),
}


@pytest.mark.parametrize(("between", "loads"), list(BETWEEN.values()), ids=list(BETWEEN))
def test_one_process_gets_the_rules_between_which_nothing_has_to_come(
    worker: Pool, between: Ruleset | None, loads: int
) -> None:
    """What may hook in at the same place comes in its order."""
    one, other = (_touching("iptables", "*raw\n-A OUTPUT\nCOMMIT", number) for number in (1, 2))
    if between is not None:
        one = replace(one, rulesets=(*one.rulesets, replace(between, file="1.toml")))
    scenario = Scenario((one, other), families=("ipv4",), variants=("nft",), orders="given")
    (together,) = (e for e in scenario.experiments() if not e.alone)
    (((given, loaded), _),) = told(worker, [Task("tests.kernel.states:again", together)])
    assert "refused" not in given
    assert loaded == loads


def _alone() -> Iterator[object]:
    """Yield each entry alone, and on how many nodes its rules can be put again: not those on sets.

    Where something comes between its rules, only the first are.
    """
    for software in entries():
        for scenario in scenarios(software) if software.uses_xtables() else ():
            (one,) = scenario.experiments()
            rulesets = [r for r in software.rulesets if one.family in r.families]
            taking = {r.node for r in rulesets if r.tool == "iptables"}
            on_sets = {r.node for r in rulesets if "--match-set" in r.text}
            yield pytest.param(one, len(taking - on_sets), id=str(one).replace(" ", "-"))


@pytest.mark.parametrize(("experiment", "nodes"), list(_alone()))
def test_rules_put_again_are_those_that_were_loaded(
    worker: Pool, experiment: Experiment, nodes: int
) -> None:
    """What iptables-restore has made of a text is made of it again without it."""
    (((given, loaded), (put, started)),) = told(
        worker, [Task("tests.kernel.states:again", experiment)]
    )
    assert put == given
    assert "refused" not in given
    assert loaded - started == nodes


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_kernel_does_not_take_again_is_loaded(worker: Pool, variant: Variant) -> None:
    """The program does it, or says why not."""
    (scenario,) = scenarios("tailscale", families=("ipv4",), variants=(variant,))
    (one,) = scenario.experiments()
    ((given, put),) = told(worker, [Task("tests.kernel.states:refused_again", one)])
    assert put == given
    assert "refused" not in given


APART = {
    "two chains' ends": ("iptables", "*mangle\n-A FORWARD -m mark --mark {n} -j ACCEPT\nCOMMIT"),
    "two chains' tops": ("iptables", "*mangle\n-I FORWARD -m mark --mark {n} -j ACCEPT\nCOMMIT"),
    "rules without numbers": ("ip", "rule add fwmark {n} lookup {n}"),
    "rules of one number": ("ip", "rule add pref 9 fwmark {n} lookup {n}"),
    "settings": ("sysctl", "net.ipv4.conf.eth0.rp_filter = {n}"),
    "programs": ("bpf", "tc ingress eth0: mark = {n}"),
    "devices": ("ip", "link add device-{n} type bridge"),
}


@pytest.mark.parametrize(("tool", "text"), list(APART.values()), ids=list(APART))
def test_what_does_not_commute_is_seen_to_differ(worker: Pool, tool: Any, text: str) -> None:
    """The comparison sees what order can do, and none of it is run as one."""
    software = tuple(_touching(tool, text, number) for number in (1, 2))
    given, reverse = (
        next(e for e in Scenario(software, orders=orders).experiments() if not e.alone)
        for orders in ("given", "reverse")  # type: ignore[attr-defined]
    )
    assert representative(given) != representative(reverse)
    one, other = in_both(worker, (given, reverse))
    assert one != other


def _touching(tool: Any, text: str, number: int) -> Software:
    ruleset = Ruleset(tool, text.format(n=number), file=f"{number}.toml")
    return Software(f"p{number}", "1", "m", "bitwise", "", "", rulesets=(ruleset,))
