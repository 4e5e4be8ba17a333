"""What one experiment stands on: a network, the nodes that take rules, and the flows to run."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from lab.errors import EntryError, RuleRefused
from lab.kernel.nftables import Nft
from lab.kernel.sandbox import Sandbox
from lab.kernel.sysctl import write_sysctl
from lab.registry.facts import addresses
from lab.registry.software import Software
from lab.rules import apply, places
from lab.rules.apply import Site
from lab.rules.installed import Installed
from lab.rules.listing import Listings
from lab.runner.nodes import Sorted, sort_nodes
from lab.scenario import Experiment
from lab.topology import library
from lab.topology.build import Network, build
from lab.topology.hosts import Hosts
from lab.traffic.flow import FAMILIES, Family, Flow
from lab.traffic.send import Call

_TUNNEL = re.compile(
    r"^link add .*\btype (vxlan|geneve|gre|gretap|ip6gre|ip6gretap|ipip|sit|ip6tnl)\b", re.MULTILINE
)
_TRACKED = Path("/proc/sys/net/netfilter/nf_conntrack_count")


@dataclass(frozen=True, slots=True)
class Stock:
    """What a process keeps from one experiment to the next.

    Hosts are watched in one of three ways as long as they are: for packets, and for those of a
    family that tunnels' packets carry.
    """

    listings: Listings
    hosts: Hosts
    near_tunnels: Mapping[Family, Hosts]

    def lends(self, experiment: Experiment) -> Hosts:
        """Return the hosts that are watched as an experiment wants it."""
        return self.near_tunnels[experiment.family] if has_tunnels(experiment) else self.hosts

    def close(self) -> None:
        """Let go of all hosts."""
        for hosts in (self.hosts, *self.near_tunnels.values()):
            hosts.close()


def stock(sandbox: Sandbox) -> Stock:
    """Return what is kept, empty."""
    near = {family: Hosts(sandbox.home) for family in FAMILIES}
    return Stock(Listings(), Hosts(sandbox.home), near)


@dataclass(frozen=True, slots=True)
class Bench:
    """A built network; ``sites`` are the nodes on which software is installed."""

    experiment: Experiment
    network: Network
    sites: dict[str, Site]
    nodes: Sorted


def set_up(
    experiment: Experiment, sandbox: Sandbox, stack: ExitStack, hosts: Hosts | None = None
) -> Bench:
    """Build the network and open what rules need; ``stack`` takes it all down again.

    Nodes that need not be made anew are borrowed from ``hosts``, if given.
    """
    topology = library.find(experiment.topology, experiment.pod_prefix)
    nodes = sort_nodes(experiment, topology)
    network = build(topology, experiment.family, sandbox.home, hosts, nodes.anew, nodes.equipment)
    stack.callback(network.close)
    sites = {}
    for node in topology.node_names():
        context = Nft()
        stack.callback(context.close)
        sites[node] = Site(node, Installed(experiment.family, experiment.variant), context)
    _sysctls(experiment, network)
    return Bench(experiment, network, sites, nodes)


def _sysctls(experiment: Experiment, network: Network) -> None:
    with network.namespaces["node"].inside(network.home):
        for key, value in experiment.sysctls:
            try:
                write_sysctl(key, value)
            except OSError as problem:
                raise RuleRefused(f"sysctl {key} = {value}: {problem.strerror}") from None


def install(bench: Bench) -> None:
    """Install all software in order. Raises RuleRefused or EntryError with file and line."""
    apply.install(bench.experiment.software, bench.network, bench.sites)
    _check_places(bench)


def _check_places(bench: Bench) -> None:
    """Compare what was listed on another host with what the kernel lists now."""
    rulesets = [r for s in bench.experiment.software for r in s.rulesets if r.listed]
    for node in {ruleset.node for ruleset in rulesets}:
        site = bench.sites[node]
        with bench.network.namespaces[node].inside(bench.network.home):
            places.check(site.installed, site.nft, {ruleset.file for ruleset in rulesets})


def has_tunnels(experiment: Experiment) -> bool:
    """Tell whether anybody of the scenario makes a device that packs packets into others."""
    return any(
        _TUNNEL.search(ruleset.text)
        for software in experiment.beside
        for ruleset in software.rulesets
        if ruleset.tool == "ip"
    )


def tracks_connections(bench: Bench, node: str) -> bool:
    """Tell whether the rules have switched connection tracking on, by sending one datagram.

    The recorder may read the ctmark only then: reading it would switch tracking on itself.
    """
    address = "::1" if bench.network.family == "ipv6" else "127.0.0.1"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        bench.network.namespaces[node].inside(bench.network.home),
        socket.socket(family, socket.SOCK_DGRAM) as probe,
        suppress(OSError),
    ):
        # Whatever policy rules stand before table local, it is not to leave.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        probe.bind((address, 0))
        probe.sendto(b"tracked?", probe.getsockname())
        return int(_TRACKED.read_text()) > 0
    return False


def calls(bench: Bench) -> list[Call]:
    """List the flows to run. A flow has the same number alone and together."""
    experiment = bench.experiment
    everybody = sorted(experiment.beside, key=lambda s: s.title)
    numbered = [(s, flow) for s in everybody for flow in s.flows]
    titles = {s.title for s in experiment.software}
    return [
        _call(bench, software, flow, number)
        for number, (software, flow) in enumerate(numbered, 1)
        if software.title in titles and _wanted(experiment, software, flow)
    ]


def _wanted(experiment: Experiment, software: Software, flow: Flow) -> bool:
    names = (flow.name, f"{software.name}/{flow.name}")
    return experiment.family in flow.families and (
        not experiment.flows or any(name in experiment.flows for name in names)
    )


def _call(bench: Bench, software: Software, flow: Flow, number: int) -> Call:
    where = f"{software.file}: flow {flow.name!r}"
    for node in filter(None, (flow.sender, flow.listener)):
        if node not in bench.network.namespaces:
            raise EntryError(
                f"{where}: unknown node {node!r}; "
                f"known: {', '.join(sorted(bench.network.namespaces))}"
            )
    network = bench.network
    source, to, seen_from = addresses(software, flow, network.topology, network.family)
    return Call(software.title, flow, number, source, to, seen_from)
