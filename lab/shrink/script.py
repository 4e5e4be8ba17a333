"""A shrunk conflict as a stand-alone shell script, to attach to an issue elsewhere [pure].

The script needs a shell, iproute2, util-linux, python3 and the tools whose rules it holds; not
the lab. It works in namespaces of its own, prints what it sees, and exits 1 on the conflict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lab.native.lines import lines
from lab.points import FIRST, LAST, Point
from lab.registry.facts import addresses, facts
from lab.registry.placeholders import fill
from lab.registry.software import Ruleset, Software
from lab.shrink import shell
from lab.shrink.search import Shrunk
from lab.topology import library
from lab.topology.plan import Topology
from lab.traffic.flow import Family, Flow
from lab.verdict.outcome import Outcome, Verdict

_FATES = (Outcome.MISROUTED, Outcome.DROPPED, Outcome.REWRITTEN)


def script(shrunk: Shrunk, version: str) -> str:
    """Write the script for one shrunk conflict; ``version`` names the lab that made it."""
    scenario, verdict = shrunk.scenario, shrunk.verdict
    owner = next(s for s in scenario.software if s.title == verdict.owner)
    flow = owner.flows[0]
    everything = library.find(scenario.topology, scenario.pod_prefix())
    topology = _part(everything, {"node", flow.sender, flow.listener, *shrunk.nodes})
    family = verdict.family
    installs = [_install(s, topology, verdict) for s in scenario.software]
    everyone = " ".join(shell.function_name(s.title) for s in scenario.software)
    parts = (
        _head(shrunk, version),
        shell.OWN_NAMESPACES,
        shell.build(topology, family),
        *installs,
        shell.probe(_probe(verdict, flow), topology.node_names()),
        shell.traffic(flow, addresses(owner, flow, topology, family), family),
        shell.MEASURE,
        shell.conclude(
            shell.function_name(owner.title), everyone, _condition(verdict), _counted(verdict)
        ),
    )
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def _part(topology: Topology, nodes: set[str]) -> Topology:
    """Leave out the nodes that no packet touches, with their links."""
    links = tuple(i for i in topology.links if {i.left.node, i.right.node} <= nodes)
    ends = {(e.node, e.name) for link in links for e in (link.left, link.right)}
    return replace(
        topology,
        nodes=tuple(n for n in topology.nodes if n.name in nodes),
        links=links,
        routes=tuple(r for r in topology.routes if (r.node, r.device) in ends),
        neighbours=tuple(n for n in topology.neighbours if (n.node, n.device) in ends),
    )


def _head(shrunk: Shrunk, version: str) -> str:
    verdict = shrunk.verdict
    title = f"{verdict.outcome.value.upper()}: {verdict.owner}, flow {verdict.flow}"
    told = [
        title,
        f"beside {', '.join(verdict.beside)}",
        "order of installation: " + ", then ".join(verdict.order),
        verdict.reason,
    ]
    if verdict.culprit is not None:
        told.append(f"by {verdict.culprit.rule}")
        if verdict.culprit.writer:
            told.append(f"on bits written by {verdict.culprit.writer}")
    told += [
        f"alone: {verdict.fate_alone}",
        f"together: {verdict.fate_together}",
        f"{shrunk.rules_before} rules were reduced to {shrunk.rules_after} by {version}",
        "exit status: 1 the conflict shows, 0 it does not, 2 something is missing here",
    ]
    return "#!/bin/sh\n" + "".join(f"# {shell.one_line(line)}\n" for line in told) + "set -eu\n"


def _install(software: Software, topology: Topology, verdict: Verdict) -> str:
    known = facts(software, topology, verdict.family)
    steps = []
    for ruleset in software.rulesets:
        if verdict.family in ruleset.families:
            text = fill(ruleset.text, known, ruleset.file, ruleset.line)
            steps += list(_step(ruleset, text, verdict))
    body = "".join(steps) or "    :\n"
    return f"{shell.function_name(software.title)}() {{ # {software.title}\n{body}}}\n"


def _step(ruleset: Ruleset, text: str, verdict: Verdict) -> Iterator[str]:
    content = [line.text for line in lines(text)]
    if not content or (ruleset.tool == "iptables" and not _has_rules(content)):
        return
    yield shell.feed(_program(ruleset, verdict.family, verdict.variant), ruleset.node, content)


def _has_rules(content: Iterable[str]) -> bool:
    return any(not line.startswith("*") and line != "COMMIT" for line in content)


def _program(ruleset: Ruleset, family: Family, variant: str) -> str:
    if ruleset.tool == "iptables":
        return f"{'iptables' if family == 'ipv4' else 'ip6tables'}-{variant}-restore --noflush"
    return {
        "nft": "nft -f -",
        "ip": f"ip {'-4' if family == 'ipv4' else '-6'} -batch -",
        "ipset": "ipset restore",
        "tc": "tc -batch -",
        "sysctl": "sysctl -q -p -",
    }[ruleset.tool]


def _probe(verdict: Verdict, flow: Flow) -> shell.Probe:
    """Count the flow's packets at the verdict's point: as alone, and otherwise."""
    culprit = verdict.culprit
    if verdict.point is not None and verdict.alone is not None:
        return shell.Probe(
            verdict.point, verdict.field, verdict.bits, verdict.alone, flow, verdict.direction
        )
    if culprit is not None and culprit.tested:
        point = Point(culprit.node, culprit.hook, _after(culprit.rule.tool, culprit))
        return shell.Probe(point, "mark", culprit.tested, culprit.tested, flow, None)
    return shell.Probe(Point("node", "postrouting", LAST), "mark", 0, 0, flow, None)


def _after(tool: str, culprit: object) -> int:
    hook, priority = getattr(culprit, "hook", ""), getattr(culprit, "priority", 0)
    if tool == "ip":
        return FIRST if hook == "output" else LAST
    return int(priority) + 1


def _counted(verdict: Verdict) -> str:
    if verdict.outcome is Outcome.FALSE_MATCH:
        return "carry the bits that the rule tests"
    return "are marked as they should be"


def _condition(verdict: Verdict) -> str:
    """Say in shell when the conflict shows: ``$alone_…`` and ``$together_…`` hold the counts."""
    if verdict.outcome in _FATES:
        return '[ "$alone_fate" != "$together_fate" ]'
    if verdict.outcome is Outcome.FALSE_MATCH:
        return '[ "$together_right" -gt 0 ]'
    return '[ "$together_right" -lt "$alone_right" ]'
