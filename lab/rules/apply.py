"""Install one software's rulesets into the namespaces of a network, tool by tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from lab.errors import EntryError
from lab.kernel.nftables import Nft
from lab.registry.facts import facts
from lab.registry.placeholders import fill
from lab.registry.software import Ruleset, Software, Tool
from lab.rules import batch, bpf, iptables, nft, sysctl
from lab.rules.installed import Installed
from lab.topology.build import Network


@dataclass(slots=True)
class Site:
    """One node that takes rules: its ledgers and its libnftables context."""

    node: str
    installed: Installed
    nft: Nft


def install(software: Software, network: Network, sites: Mapping[str, Site]) -> None:
    """Install every ruleset of one software that concerns the network's address family.

    What a node is equipped with is there already. Raises RuleRefused or EntryError with file and
    line. Never touches the namespace the lab was started in.
    """
    known = facts(software, network.topology, network.family)
    filled = [
        _filled(ruleset, known, sites)
        for ruleset in software.rulesets
        if network.family in ruleset.families
    ]
    for (node, tool, _), group in groupby(filled, key=lambda r: (r.node, r.tool, r.variant)):
        namespace = network.namespaces[node]
        if network.equipped(node):
            batch.note(software.title, tuple(group), sites[node].installed)
            continue
        with namespace.inside(network.home):
            namespace.assert_inside()
            _install(software.title, tool, tuple(group), sites[node])


def _filled(ruleset: Ruleset, known: Mapping[str, str], sites: Mapping[str, Site]) -> Ruleset:
    if ruleset.node not in sites:
        raise EntryError(
            f"{ruleset.file}:{ruleset.line}: unknown node {ruleset.node!r}; "
            f"known: {', '.join(sorted(sites))}"
        )
    return replace(ruleset, text=fill(ruleset.text, known, ruleset.file, ruleset.line))


def _install(title: str, tool: Tool, rulesets: tuple[Ruleset, ...], site: Site) -> None:
    """Install consecutive rulesets of one tool; of some tools one after the other."""
    if tool == "iptables":
        iptables.install(title, rulesets, site.installed)
    elif tool in batch.TOOLS:
        batch.install(title, rulesets, site.installed)
    else:
        for ruleset in rulesets:
            _install_one(title, ruleset, site)


def _install_one(title: str, ruleset: Ruleset, site: Site) -> None:
    if ruleset.tool == "nft":
        nft.install(title, ruleset, site.installed, site.nft)
    elif ruleset.tool == "bpf":
        bpf.install(title, ruleset, site.installed)
    else:
        sysctl.install(title, ruleset, site.installed)
