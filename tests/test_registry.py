"""Every entry is complete: it loads, and says of each rule, bit and flow what there is to say."""

from __future__ import annotations

import re
from itertools import product

import pytest

from lab.native.lines import lines
from lab.native.marktest import tests as conditions
from lab.registry import loader
from lab.registry.facts import addresses, facts
from lab.registry.placeholders import fill, names
from lab.registry.software import Software
from lab.topology import library
from lab.topology.plan import Topology
from lab.traffic.flow import FAMILIES, Family

ENTRIES = loader.load()
CASES = list(product(ENTRIES, FAMILIES))
_SOURCE = re.compile(r"(?:[\w.-]+/)*[\w.-]+@[\w.+/-]+(?::.+)?|https://\S+")


def topology_of(entry: Software) -> Topology:
    """Return the topology in which the entry is tried."""
    return library.find("kubernetes-node", entry.pod_prefix or "veth")


def test_there_are_entries() -> None:
    """Those that the first issue asked for, at least."""
    assert {"tailscale", "calico", "kubernetes", "portmap"} <= {e.name for e in ENTRIES}


@pytest.mark.parametrize(("entry", "family"), CASES)
def test_every_placeholder_stands_for_something(entry: Software, family: Family) -> None:
    """A fact of the topology or of the entry, in rules and flows."""
    known = facts(entry, topology_of(entry), family)
    for ruleset in entry.rulesets:
        if family in ruleset.families:
            assert not names(fill(ruleset.text, known, ruleset.file, ruleset.line))
    for flow in entry.flows:
        if family in flow.families:
            assert all(
                not names(text) for text in addresses(entry, flow, topology_of(entry), family)
            )


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_rule_has_a_source(entry: Software) -> None:
    """Repository, version and, where it is known, the path."""
    for ruleset in entry.rulesets:
        for line in lines(ruleset.text, ruleset.source):
            assert _SOURCE.fullmatch(line.source), f"{ruleset.file}:{ruleset.line + line.number}"


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_flow_says_what_its_owner_relies_on(entry: Software) -> None:
    """At one point at least, on a node that takes the entry's rules or that is there."""
    nodes = set(topology_of(entry).node_names())
    for flow in entry.flows:
        assert flow.expectations, flow.name
        assert {e.point.node for e in flow.expectations} <= nodes
        assert {flow.sender, flow.listener} - {""} <= nodes
        assert flow.source, flow.name


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_allocation_names_its_values_and_source(entry: Software) -> None:
    """Bits without a name cannot be explained to anybody, unless no mark of its own shows them."""
    for allocation in entry.allocations:
        assert allocation.values or allocation.unseen, hex(allocation.mask)
        assert _SOURCE.fullmatch(allocation.source), hex(allocation.mask)
        assert len({v.name for v in allocation.values}) == len(allocation.values)


@pytest.mark.parametrize(("entry", "family"), CASES)
def test_what_the_rules_test_is_understood(entry: Software, family: Family) -> None:
    """A rule that names a mark to match gives at least one condition."""
    known = facts(entry, topology_of(entry), family)
    for ruleset in entry.rulesets:
        for line in lines(ruleset.text if family in ruleset.families else ""):
            if "--mark " in line.text or "fwmark " in line.text:
                text = fill(line.text, known, ruleset.file)
                assert list(conditions(text)), f"{ruleset.file}: {text}"


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_entry_says_how_it_deviates(entry: Software) -> None:
    """Nothing that is modelled equals the real program in everything."""
    assert entry.deviations
    assert entry.summary
    assert all(text.endswith((".", ")")) for text in entry.deviations)
