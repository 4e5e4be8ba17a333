"""Which run alone answers for an owner: one for all, whatever the pods' devices are called."""

from __future__ import annotations

import pytest

from lab.pairs import by_itself
from lab.points import Point
from lab.record import Fate, FlowRun, Reading, Routed, Timeline
from lab.registry.software import Ruleset, Software
from lab.scenario import Experiment
from lab.verdict.devices import renamed

NETWORK = Software("net", "1", "m", "bitwise", "", "", pod_prefix="cali")


def owner(text: str) -> Software:
    """Make an entry with one ruleset."""
    return Software("own", "1", "m", "bitwise", "", "", rulesets=(Ruleset("iptables", text),))


def beside_network(one: Software) -> Experiment:
    """Put it on a node whose pods' devices begin with ``cali``."""
    both = (NETWORK, one)
    return Experiment("kubernetes-node", "cali", both, both, "ipv4", "nft")


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("-A FORWARD -i {{ pod-a.dev }} -j ACCEPT", "veth"),
        ("-A FORWARD -i {{ pods.prefix }}+ -j ACCEPT", "veth"),
        ("link add tun0 type veth peer name tun1", "veth"),
        ("-A FORWARD -i cali+ -j ACCEPT", "cali"),
        ("-A FORWARD -o ca+ -j ACCEPT", "cali"),
        ('oifname "veth*" accept', "cali"),
        ("-A FORWARD -i cali0000000000a -j ACCEPT", "cali"),
    ],
)
def test_an_owner_is_run_by_itself_once_unless_its_rules_know_the_pods_devices(
    text: str, prefix: str
) -> None:
    """A pattern or a name in a rule may hold in the one run alone and not in the other."""
    assert by_itself(beside_network(owner(text)), owner(text)).pod_prefix == prefix


def test_a_pod_network_alone_has_the_names_it_stands_under() -> None:
    """Those it gives itself, or those of another that was there first."""
    assert by_itself(beside_network(owner("")), NETWORK).pod_prefix == "cali"


def test_a_device_has_the_name_that_it_has_in_the_other_run() -> None:
    """Only decisions on routes name devices; the uplink is called the same everywhere."""
    together = beside_network(owner(""))
    alone = by_itself(together, owner(""))
    read = Reading(Point("node", "forward", 0), 1, None, "a", "b")
    ways = [Routed("node", "prerouting", 0, None, "", d) for d in ("veth0000000000b", "eth0")]
    flow = FlowRun(
        "own", "f", (Timeline("request", 0, "ab", (read, *ways)),), Fate(1, 1, 1, "b", "a", "")
    )
    events = renamed(flow, alone, together).timelines[0].events
    assert events[0] is read
    assert [e.device for e in events[1:] if isinstance(e, Routed)] == ["cali0000000000b", "eth0"]
    assert renamed(flow, alone, alone) is flow
