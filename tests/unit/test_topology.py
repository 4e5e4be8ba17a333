"""The shipped topologies fit together, before anything of them is built."""

from __future__ import annotations

import ipaddress

import pytest

from lab.errors import UsageError
from lab.topology import library
from lab.topology.hops import first_hop
from lab.topology.plan import Topology
from lab.traffic.flow import Family

TOPOLOGIES = [
    library.find(name, prefix)
    for name in library.TOPOLOGIES
    for prefix in ("veth", "cali", "lxc", "eni")
]


@pytest.fixture(params=TOPOLOGIES, ids=lambda t: f"{t.name}-{t.facts_for('ipv4')['pods.prefix']}")
def topology(request: pytest.FixtureRequest) -> Topology:
    """Return each shipped topology."""
    found: Topology = request.param
    return found


def test_every_route_and_neighbour_has_its_device(topology: Topology) -> None:
    """On the node it is for."""
    devices = {(i.node, i.name) for n in topology.node_names() for i in topology.interfaces(n)}
    assert {(r.node, r.device) for r in topology.routes} <= devices
    assert {(n.node, n.device) for n in topology.neighbours} <= devices


def test_every_link_ends_on_a_node_and_names_are_unique(topology: Topology) -> None:
    """No device twice on a node, none longer than the kernel allows."""
    for node in topology.node_names():
        names = [i.name for i in topology.interfaces(node)]
        assert len(names) == len(set(names))
        assert all(0 < len(name) <= 15 for name in names)
    ends = {end.node for link in topology.links for end in (link.left, link.right)}
    assert ends == set(topology.node_names())


def test_every_gateway_is_reachable(topology: Topology) -> None:
    """A permanent neighbour or an address of the link's other end."""
    known = {(n.node, n.device, n.address) for n in topology.neighbours}
    for route in topology.routes:
        if route.via:
            assert (route.node, route.device, route.via) in known


def test_addresses_are_valid_and_belong_to_one_interface(topology: Topology) -> None:
    """Both families on every interface that has any."""
    seen: list[str] = []
    for node in topology.node_names():
        for interface in topology.interfaces(node):
            found = [ipaddress.ip_interface(a) for a in interface.addresses]
            seen += [str(a.ip) for a in found]
            assert {a.version for a in found} in (set(), {4, 6})
    assert len(seen) == len(set(seen))


def test_facts_have_both_families(topology: Topology) -> None:
    """An address fact is an IPv4 address and an IPv6 address, in this order."""
    assert len({name for name, _, _ in topology.facts}) == len(topology.facts)
    for name, v4, v6 in topology.facts:
        assert v4, name
        assert v6, name
        if name.endswith(("ip", "-ip")) and name != "ip":
            assert (ipaddress.ip_address(v4).version, ipaddress.ip_address(v6).version) == (4, 6)
        if name.endswith("net"):
            assert (ipaddress.ip_network(v4).version, ipaddress.ip_network(v6).version) == (4, 6)


def test_facts_name_what_is_there(topology: Topology) -> None:
    """Devices exist, and the hosts' addresses are on their interfaces or beyond them."""
    devices = {i.name for n in topology.node_names() for i in topology.interfaces(n)}
    addresses = {
        a.partition("/")[0]
        for n in topology.node_names()
        for i in topology.interfaces(n)
        for a in i.addresses
    }
    for name, *texts in topology.facts:
        if name.endswith(".dev"):
            assert set(texts) <= devices, name
        if name.endswith((".ip", "-ip")):
            assert set(texts) <= addresses, name


def test_both_ends_of_a_device_without_arp_have_one_mac(topology: Topology) -> None:
    """Else the peer would drop the frames."""
    for link in topology.links:
        if not link.left.arp:
            assert link.left.mac == link.right.mac


def test_nodes_set_the_sysctls_that_verdicts_depend_on(topology: Topology) -> None:
    """A new namespace may copy them from the host."""
    for node in topology.nodes:
        keys = [key for key, _ in node.sysctls]
        assert len(keys) == len(set(keys))
        assert {
            "net.ipv4.conf.all.rp_filter",
            "net.ipv4.conf.all.src_valid_mark",
            "net.ipv4.fwmark_reflect",
        } <= set(keys)


def test_an_unknown_topology_lists_the_known() -> None:
    """And the near one first."""
    with pytest.raises(UsageError, match=r"'kubernetes-nod'; did you mean 'kubernetes-node'\?"):
        library.find("kubernetes-nod")


@pytest.mark.parametrize("fact", ["wan.ip", "lan.ip", "peer.ip", "pod-b.ip"])
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_pods_first_hop_is_the_node(topology: Topology, family: Family, fact: str) -> None:
    """Whatever it sends to: its gateway is the host's end of the veth pair."""
    facts = topology.facts_for(family)
    hop = first_hop(topology, "pod-a", facts[fact])
    ends = {i.name: i.mac for i in topology.interfaces("node")}
    assert hop is not None
    assert (hop.device, hop.target) == ("eth0", ends[facts["pod-a.dev"]])


def test_the_longest_prefix_and_on_link_routes_win(topology: Topology) -> None:
    """A device without ARP sends to its own MAC address; without a route there is no hop."""
    facts = topology.facts_for("ipv4")
    to_lan, to_pod = (first_hop(topology, "node", facts[name]) for name in ("lan.ip", "pod-b.ip"))
    tunnel = first_hop(topology, "peer", facts["lan.ip"])
    assert to_lan is not None
    assert to_pod is not None
    assert tunnel is not None
    assert (to_lan.device, to_pod.device) == ("eth1", facts["pod-b.dev"])
    assert tunnel.source == tunnel.target
    assert first_hop(topology, "lan", facts["peer.ip"]) is None
