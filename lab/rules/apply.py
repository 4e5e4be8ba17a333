"""Install software into the namespaces of a network: ruleset by ruleset, each by its tool.

What several have for iptables is given to one process, in the order in which they are installed:
starting it takes longer than reading the rules. It waits until something comes before which
it must be there: a chain of nftables or of the other variant, which may hook in at the same
priority, or a setting that appears with a kernel module.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import groupby

from lab.errors import EntryError
from lab.kernel.nftables import Nft
from lab.kernel.route import wait_for_local_routes
from lab.registry.facts import facts
from lab.registry.placeholders import fill
from lab.registry.software import Ruleset, Software, Tool
from lab.rules import batch, bpf, iptables, nft, sysctl
from lab.rules.installed import Installed
from lab.topology.build import Network

_OF_MODULES = "netfilter."
_UP = re.compile(r"link set (?:dev )?(\S+) up")
_ADDED = re.compile(r"addr(?:ess)? add (\S+)(?: .*)? dev (\S+).*")


@dataclass(slots=True)
class Site:
    """One node that takes rules: its ledgers and its libnftables context.

    ``waiting`` are rulesets of one variant of iptables that are yet to be loaded, each with the
    title of its software.
    """

    node: str
    installed: Installed
    nft: Nft
    waiting: list[iptables.Owned] = field(default_factory=list)


def install(software: Iterable[Software], network: Network, sites: Mapping[str, Site]) -> None:
    """Install every ruleset that concerns the network's address family, of one after another.

    What a node is equipped with is there already. Raises RuleRefused or EntryError with file and
    line. Never touches the namespace the lab was started in.
    """
    for one in software:
        filled = list(_rulesets(one, network, sites))
        for (node, tool, _), group in groupby(filled, key=lambda r: (r.node, r.tool, r.variant)):
            site = sites[node]
            if network.equipped(node):
                batch.note(one.title, tuple(group), site.installed)
                continue
            with _inside(network, node):
                _install(one.title, tool, tuple(group), site)
    for site in sites.values():
        if site.waiting:
            with _inside(network, site.node):
                _load(site)
        _wait(network, site)


@contextmanager
def _inside(network: Network, node: str) -> Iterator[None]:
    namespace = network.namespaces[node]
    with namespace.inside(network.home):
        namespace.assert_inside()
        yield


def _wait(network: Network, site: Site) -> None:
    """Wait until devices that were brought up transmit, and IPv6 addresses are delivered here.

    The kernel does both from work queues, as on the links of the network itself.
    """
    lines = [rule.written for rule in site.installed.others if rule.tool == "ip"]
    up = {match[1] for match in map(_UP.fullmatch, lines) if match}
    devices = up.union(network.device_names(site.node).values())
    added = [match for match in map(_ADDED.fullmatch, lines) if match and ":" in match[1]]
    if up or added:
        with _inside(network, site.node):
            for device in up:
                with suppress(OSError):  # it was taken away again
                    network.routers[site.node].state(socket.if_nametoindex(device))
            wait_for_local_routes(
                match[1].partition("/")[0] for match in added if match[2] in devices
            )


def _rulesets(software: Software, network: Network, sites: Mapping[str, Site]) -> Iterator[Ruleset]:
    known = facts(software, network.topology, network.family)
    for ruleset in software.rulesets:
        if network.family in ruleset.families:
            yield _filled(ruleset, known, sites)


def _filled(ruleset: Ruleset, known: Mapping[str, str], sites: Mapping[str, Site]) -> Ruleset:
    if ruleset.node not in sites:
        raise EntryError(
            f"{ruleset.file}:{ruleset.line}: unknown node {ruleset.node!r}; "
            f"known: {', '.join(sorted(sites))}"
        )
    return replace(ruleset, text=fill(ruleset.text, known, ruleset.file, ruleset.line))


def _install(title: str, tool: Tool, rulesets: Sequence[Ruleset], site: Site) -> None:
    """Install consecutive rulesets of one tool; of some tools one after the other."""
    if site.waiting and _comes_after(site.waiting[-1][1], tool, rulesets):
        _load(site)
    if tool == "iptables":
        site.waiting += [(title, ruleset) for ruleset in rulesets]
    elif tool in batch.TOOLS:
        batch.install(title, rulesets, site.installed)
    else:
        for ruleset in rulesets:
            _install_one(title, ruleset, site)


def _comes_after(waiting: Ruleset, tool: Tool, rulesets: Sequence[Ruleset]) -> bool:
    """Tell whether rules of iptables that wait are to be there before other rulesets."""
    if tool == "iptables":
        return waiting.variant != rulesets[0].variant
    return tool == "nft" or (tool == "sysctl" and any(_OF_MODULES in r.text for r in rulesets))


def _load(site: Site) -> None:
    waiting, site.waiting = site.waiting, []
    iptables.install(waiting, site.installed)


def _install_one(title: str, ruleset: Ruleset, site: Site) -> None:
    if ruleset.tool == "nft":
        nft.install(title, ruleset, site.installed, site.nft)
    elif ruleset.tool == "bpf":
        bpf.install(title, ruleset, site.installed)
    else:
        sysctl.install(title, ruleset, site.installed)
