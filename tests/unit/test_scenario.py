"""From a question to its experiments."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from lab.registry.software import Ruleset, Software
from lab.scenario import Scenario

XTABLES = (Ruleset("iptables", ""),)
A = Software("a", "1", "m", "bitwise", "", "", pod_prefix="cali", rulesets=XTABLES)
B = Software("b", "1", "m", "bitwise", "", "", pod_prefix="lxc")
C = Software("c", "1", "m", "bitwise", "", "")


def test_every_order_is_tried_and_each_software_alone() -> None:
    """For every family and iptables variant."""
    experiments = list(Scenario((A, B)).experiments())
    assert len(experiments) == 2 * 2 * (2 + 2)
    orders = {e.order for e in experiments if not e.alone}
    assert orders == {("a@1:m", "b@1:m"), ("b@1:m", "a@1:m")}
    assert {e.order for e in experiments if e.alone} == {("a@1:m",), ("b@1:m",)}


@given(st.integers(1, 4))
def test_the_orders_are_the_permutations(count: int) -> None:
    """One software has one order."""
    software = tuple(replace(C, name=f"s{n}") for n in range(count))
    assert set(Scenario(software).install_orders()) == set(permutations(software))


def test_an_order_can_be_given_or_reversed() -> None:
    """One order instead of all."""
    assert Scenario((A, B, C), orders="given").install_orders() == ((A, B, C),)
    assert Scenario((A, B, C), orders="reverse").install_orders() == ((C, B, A),)


def test_variants_are_dropped_where_nobody_uses_iptables() -> None:
    """They would be the same experiment twice."""
    assert Scenario((B, C)).effective_variants() == ("nft",)
    assert Scenario((B, A)).effective_variants() == ("nft", "legacy")


def test_alone_and_together_are_read_at_the_same_places() -> None:
    """Each experiment knows everybody, and the names of the pods' interfaces are the same."""
    experiments = list(Scenario((B, A)).experiments())
    assert {e.beside for e in experiments} == {(B, A)}
    assert {e.pod_prefix for e in experiments} == {"lxc"}
    assert Scenario((C,)).pod_prefix() == "veth"


def test_an_experiment_says_what_it_is() -> None:
    """In the order of installation."""
    last = list(Scenario((A, B), families=("ipv6",), variants=("legacy",)).experiments())[-1]
    assert str(last) == "b@1:m then a@1:m, ipv6, iptables-legacy"
