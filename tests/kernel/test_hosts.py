"""Hosts that one network after another uses are as good as new."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lab.plugin import entry
from lab.scenario import Experiment, Scenario
from lab.traffic.flow import FAMILIES, Family

pytestmark = pytest.mark.kernel

HOSTS = {"pod-a", "pod-b", "client", "lan", "peer"}
Borrowed = Callable[..., Any]


def together(*names: str, family: Family = "ipv4") -> Experiment:
    """Return the experiment on software in the given order."""
    party = tuple(map(entry, names))
    return list(Scenario(party, families=(family,), orders="given").experiments())[-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_host_comes_back_with_nothing_of_the_last_network(
    with_hosts: Borrowed, family: Family
) -> None:
    """It has the same devices, addresses, routes, rules and neighbours as a new one, no more."""
    (new, there), (used, again), (other, afterwards) = with_hosts("three_networks", family)
    assert used == new
    assert again == there == afterwards
    assert set(other).isdisjoint(new), "a network that did not end well keeps its hosts"


def test_only_nodes_on_which_nothing_lasts_are_borrowed(with_hosts: Borrowed) -> None:
    """A sidecar's pod is made anew each time.

    Addresses and neighbours of a host's link go with the link; those of lo stay. The far end of a
    tunnel stays as it is, but not beside anything that goes.
    """
    assert with_hosts("borrowed", together("tailscale", "calico")) == HOSTS
    assert with_hosts("borrowed", together("istio", "calico")) < HOSTS
    assert with_hosts("borrowed", together("cilium:tunnel", "portmap")) == HOSTS
    assert with_hosts("borrowed", together("cilium:tunnel", "antrea")) == HOSTS - {"lan"}
    assert with_hosts("borrowed", together("antrea", "portmap")) == HOSTS
    assert with_hosts("borrowed", together("ovn-kubernetes", "portmap")) == HOSTS - {"pod-b"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "names",
    [
        ("tailscale", "calico@3.20"),
        ("kubernetes", "portmap"),
        ("cilium:tunnel", "kubernetes"),
        ("antrea", "kubernetes"),
    ],
)
def test_packets_do_not_tell_used_hosts_from_new_ones(
    with_hosts: Borrowed, names: tuple[str, ...], family: Family
) -> None:
    """Every fate and event is the same, TCP's as well, but for packets that only acknowledge."""
    new, used = with_hosts("on_new_and_on_used", together(*names, family=family))
    assert new
    assert used == new


def test_the_far_end_of_a_tunnel_is_for_networks_with_that_tunnel_only(
    with_hosts: Borrowed,
) -> None:
    """Its device is there again, and not where the tunnel's software is not installed."""
    with_tunnel = together("cilium:tunnel", "portmap")
    without = replace(with_tunnel, software=(entry("portmap"),))
    (first, made), (other, plain), (again, there) = with_hosts(
        "on_lan", (with_tunnel, without, with_tunnel)
    )
    assert again == first != other
    assert "cilium_vxlan" in made
    assert "cilium_vxlan" in there
    assert "cilium_vxlan" not in plain


def test_hosts_where_something_was_missed_are_not_used_again(with_hosts: Borrowed) -> None:
    """Their buffers stay with them: the run that is tried once more would miss it as well."""
    experiment = together("tailscale", "calico")
    assert with_hosts("kept_of_a_run_that_missed_something", experiment) == 0


def test_hosts_of_a_refused_run_are_not_used_again(with_hosts: Borrowed) -> None:
    """What they were to be equipped with may be there in part."""
    experiment = together("antrea", "ovn-kubernetes")
    assert with_hosts("kept_of_a_refused_run", experiment) == 0


def test_a_dropped_connection_is_silent(with_hosts: Borrowed) -> None:
    """Its peer is sent neither an end nor a reset, which a closed one does."""
    assert with_hosts("dropped_connection", False) == (b"x", "silence")
    assert with_hosts("dropped_connection", True) == (b"x", "the end")
