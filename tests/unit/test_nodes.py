"""Which hosts are used again, told from what is installed on them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.plugin import entry
from lab.registry.software import Ruleset
from lab.runner.nodes import sort_nodes
from lab.scenario import Experiment, Scenario
from lab.topology import library

TUNNEL = """
link add far type vxlan id 2 remote 192.0.2.10 dstport 8472
link set far up
address add 10.0.1.1/32 dev far
rule add from 10.0.1.1 lookup 2005
route add 10.244.0.11 dev far table 2005
"""


def on_client(*rulesets: Ruleset) -> tuple[bool, int]:
    """Tell whether the client is made anew, and how many rulesets it is equipped with."""
    software = replace(entry("portmap"), rulesets=rulesets)
    experiment: Experiment = next(iter(Scenario((software,), families=("ipv4",)).experiments()))
    topology = library.find(experiment.topology, experiment.pod_prefix)
    found = sort_nodes(experiment, topology)
    return "client" in found.anew, len(found.equipment.get("client", ()))


def ip(text: str) -> Ruleset:
    """Return a ruleset of ip on the client."""
    return Ruleset("ip", text, node="client")


@pytest.mark.parametrize(
    "text",
    [
        "address add 192.0.2.99/32 dev eth0",
        "neighbour add 192.0.2.99 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
        "route add 203.0.113.0/24 via 192.0.2.10 dev eth0",
    ],
)
def test_what_goes_with_a_links_device_leaves_a_host(text: str) -> None:
    """It is borrowed and given this again each time."""
    assert on_client(ip(text)) == (False, 0)


def test_the_far_end_of_a_tunnel_is_equipment() -> None:
    """Nothing of it goes with a link."""
    assert on_client(ip(TUNNEL)) == (False, 1)


@pytest.mark.parametrize(
    "text",
    [
        "address add 192.0.2.99/32 dev lo",
        "route add 203.0.113.0/24 via 192.0.2.10",
        "route replace default via 192.0.2.10",
        "link set eth0 mtu 1400",
        "link add far type vxlan id 2 remote 192.0.2.10 dstport 8472 dev eth0",
        TUNNEL + "address add 192.0.2.99/32 dev eth0",
    ],
)
def test_what_stays_or_goes_only_in_part_has_a_host_made_anew(text: str) -> None:
    """A later network would find it otherwise than this one."""
    assert on_client(ip(text)) == (True, 0)


def test_equipment_and_what_goes_do_not_mix() -> None:
    """Whether it is one ruleset or two."""
    assert on_client(ip(TUNNEL), ip("address add 192.0.2.99/32 dev eth0")) == (True, 0)


@pytest.mark.parametrize(
    "rules",
    [
        Ruleset("nft", "table inet x { }", node="client"),
        Ruleset("sysctl", "net.ipv4.ip_forward = 1", node="client"),
        Ruleset("bpf", "tc ingress eth0: mark = 1", node="client"),
    ],
)
def test_what_is_no_line_of_ip_has_a_host_made_anew(rules: Ruleset) -> None:
    """Rules of netfilter, sysctls and programs."""
    assert on_client(rules) == (True, 0)


def test_rules_for_the_other_family_do_not_count() -> None:
    """Nobody installs them."""
    rules = Ruleset("nft", "table inet x { }", node="client", families=("ipv6",))
    assert on_client(rules, ip("address add 192.0.2.99/32 dev eth0")) == (False, 0)
