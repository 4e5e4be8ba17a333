"""Install one software's rulesets into the namespaces of a network, tool by tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from lab.errors import EntryError, RuleRefused
from lab.kernel import command
from lab.kernel.nftables import Nft
from lab.native.lines import lines
from lab.native.rule import Rule
from lab.registry.facts import facts
from lab.registry.placeholders import fill
from lab.registry.software import Ruleset, Software
from lab.rules import bpf, iproute, iptables, nft
from lab.rules.installed import Installed
from lab.topology.build import Network, write_sysctl

# 'tc exec' starts programs and 'obj' reads files: a ruleset does neither.
_OBJECTS = {
    "ipset": ("create", "add", "del", "flush", "swap", "rename", "destroy"),
    "tc": ("qdisc", "class", "filter", "chain"),
}
_FORBIDDEN = {"exec", "obj", "object", "object-file", "pinned", "-file", "-f"}


@dataclass(slots=True)
class Site:
    """One node that takes rules: its ledgers and its libnftables context."""

    node: str
    installed: Installed
    nft: Nft


def install(software: Software, network: Network, sites: Mapping[str, Site]) -> None:
    """Install every ruleset of one software that concerns the network's address family.

    Raises RuleRefused or EntryError with file and line. Never touches the namespace the lab was
    started in.
    """
    filled = [
        _filled(ruleset, software, network, sites)
        for ruleset in software.rulesets
        if network.family in ruleset.families
    ]
    for (node, tool, _), group in groupby(filled, key=lambda r: (r.node, r.tool, r.variant)):
        namespace = network.namespaces[node]
        with namespace.inside(network.home):
            namespace.assert_inside()
            if tool == "iptables":
                iptables.install(software.title, tuple(group), sites[node].installed)
            else:
                for ruleset in group:
                    _install_one(software.title, ruleset, sites[node])


def _filled(
    ruleset: Ruleset, software: Software, network: Network, sites: Mapping[str, Site]
) -> Ruleset:
    if ruleset.node not in sites:
        raise EntryError(
            f"{ruleset.file}:{ruleset.line}: unknown node {ruleset.node!r}; "
            f"known: {', '.join(sorted(sites))}"
        )
    text = fill(
        ruleset.text, facts(software, network.topology, network.family), ruleset.file, ruleset.line
    )
    return replace(ruleset, text=text)


def _install_one(title: str, ruleset: Ruleset, site: Site) -> None:
    if ruleset.tool == "nft":
        nft.install(title, ruleset, site.installed, site.nft)
    elif ruleset.tool == "ip":
        iproute.install(title, ruleset, site.installed)
    elif ruleset.tool == "ipset":
        _batch(("ipset", "restore"), title, ruleset, site)
    elif ruleset.tool == "sysctl":
        _sysctls(title, ruleset, site)
    elif ruleset.tool == "bpf":
        bpf.install(title, ruleset, site.installed)
    else:
        _batch(("tc", "-batch", "-"), title, ruleset, site)


def _batch(program: tuple[str, ...], title: str, ruleset: Ruleset, site: Site) -> None:
    found = list(lines(ruleset.text, ruleset.source))
    for line in found:
        words = line.text.split()
        allowed = _OBJECTS[program[0]]
        if words[0] not in allowed or not _FORBIDDEN.isdisjoint(words):
            raise EntryError(
                f"{ruleset.file}:{ruleset.line + line.number}: {line.text!r} is not allowed; "
                f"expected a line that begins with one of {', '.join(allowed)}"
            )
    result = command.run(program, "\n".join(line.text for line in found) + "\n")
    if result.status:
        raise RuleRefused(f"{ruleset.file}:{ruleset.line}: {program[0]} refused it: {result.error}")
    for line in found:
        site.installed.others.append(_rule(title, ruleset, line.text, line.number, line.source))


def _sysctls(title: str, ruleset: Ruleset, site: Site) -> None:
    for line in lines(ruleset.text, ruleset.source):
        key, equals, value = (part.strip() for part in line.text.partition("="))
        place = f"{ruleset.file}:{ruleset.line + line.number}"
        if not equals or not key.startswith("net.") or ".." in key or "/" in key:
            raise EntryError(f"{place}: {line.text!r} is not 'net.… = value'")
        try:
            write_sysctl(key, value)
        except OSError as problem:
            raise RuleRefused(f"{place}: sysctl {key}: {problem.strerror}") from None
        site.installed.others.append(_rule(title, ruleset, line.text, line.number, line.source))


def _rule(title: str, ruleset: Ruleset, text: str, number: int, source: str) -> Rule:
    return Rule(
        title,
        ruleset.tool,
        ruleset.tool,
        "",
        text,
        source=source,
        file=ruleset.file,
        line=ruleset.line + number,
    )
