"""A shrunk conflict as a stand-alone shell script, to attach to an issue elsewhere [pure].

The script needs a POSIX shell, iproute2, util-linux, python3, nft and the tools whose rules it
holds; not the lab. It works in namespaces of its own, prints what it sees, and exits 1 on the
conflict, 0 without one, and 2 where it could not tell.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from lab.native import bpf_text
from lab.native.bpf_code import assemble
from lab.native.lines import Line, lines
from lab.registry.facts import addresses, facts
from lab.registry.placeholders import fill
from lab.registry.places import arranged
from lab.registry.software import Ruleset, Software, Tool
from lab.shrink import evidence, programs, shell
from lab.shrink.search import Shrunk
from lab.topology import library
from lab.topology.plan import Topology
from lab.traffic.flow import Family
from lab.verdict.outcome import Culprit, Verdict

_INDEX = 0x6C616264
"""Stands in an eBPF program for the number of a device that does not exist yet."""
_REDIRECT = struct.pack("<BBhi", 0xB4, 1, 0, _INDEX)
_PROGRAMS: Mapping[Tool, str] = {
    "nft": "nft -f -",
    "ipset": "ipset restore",
    "tc": "tc -batch -",
}


@dataclass(frozen=True, slots=True)
class _Step:
    """One ruleset with its lines: what is given to which tool, where."""

    software: str
    ruleset: Ruleset
    content: tuple[Line, ...]

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.content)


def script(shrunk: Shrunk, version: str) -> str:
    """Write the script for one shrunk conflict; ``version`` names the lab that made it."""
    scenario, verdict = shrunk.scenario, shrunk.verdict
    owner = next(s for s in scenario.software if s.title == verdict.owner)
    flow = owner.flows[0]
    family = verdict.family
    everything = library.find(scenario.topology, scenario.pod_prefix())
    together = arranged(scenario.software)
    steps = [step for s in together for step in _steps(s, everything, verdict)]
    wanted = {"node", flow.sender, flow.listener or flow.sender, *shrunk.nodes}
    topology = _part(everything, wanted, steps, scenario.sysctls, shrunk.devices)
    attach = (
        shell.python("attach", programs.program(programs.ATTACH, redirect=_REDIRECT))
        if any(step.ruleset.tool == "bpf" for step in steps)
        else ""
    )
    probe = evidence.probe_for(verdict, flow)
    counted = _counted(steps, verdict)
    condition = evidence.condition(verdict, counted)
    counts = ["right"] * ("right" in condition) + ["matched"] * (counted is not None)
    everyone = " ".join(shell.function_name(s.title) for s in scenario.software)
    alone, by_itself = owner.title, ""
    if owner not in together:  # beside others its rules are inserted among theirs
        alone = f"{owner.title} alone"
        by_itself = _install(alone, list(_steps(owner, everything, verdict)), verdict)
    parts = (
        _head(shrunk, version),
        shell.head(_needed(steps, verdict), _root(steps, flow.uid)),
        shell.build(topology, family, scenario.sysctls),
        attach,
        *(
            _install(s.title, [p for p in steps if p.software == s.title], verdict)
            for s in scenario.software
        ),
        by_itself,
        evidence.probe(probe, topology.node_names(), counted="right" in condition),
        evidence.matched(counted, f"{_iptables(verdict, _variant(steps, counted))}-save -c"),
        shell.traffic(flow, addresses(owner, flow, topology, family), family),
        shell.measure(counts),
        evidence.show(probe, counted),
        shell.conclude(
            shell.function_name(alone),
            everyone,
            condition,
            arrives=verdict.fate_alone.startswith("delivered"),
        ),
    )
    return "\n".join(part.strip("\n") + "\n" for part in parts if part)


def _steps(software: Software, topology: Topology, verdict: Verdict) -> Iterator[_Step]:
    known = facts(software, topology, verdict.family)
    for ruleset in software.rulesets:
        if verdict.family in ruleset.families:
            text = fill(ruleset.text, known, ruleset.file, ruleset.line)
            content = tuple(lines(text))
            if ruleset.tool == "iptables":
                content = tuple(_without_empty_tables(content))
            if content:
                yield _Step(software.title, ruleset, content)


def _without_empty_tables(content: tuple[Line, ...]) -> Iterator[Line]:
    """Leave out the tables of which no rule is left."""
    table: list[Line] = []
    for line in content:
        table.append(line)
        if line.text == "COMMIT":
            yield from table if len(table) > 2 else ()
            table = []


def _part(
    topology: Topology,
    wanted: set[str],
    steps: list[_Step],
    sysctls: tuple[tuple[str, str], ...],
    routed: tuple[tuple[str, str], ...],
) -> Topology:
    """Leave out what no packet touches or is routed to and no rule names.

    iptables asks for no device.
    """
    named = [(s.ruleset.node, s.text) for s in steps if s.ruleset.tool != "iptables"]
    named += [("node", key) for key, _ in sysctls]
    nodes = wanted | {step.ruleset.node for step in steps}
    for link in topology.links:
        for end in (link.left, link.right):
            names = any(_names(text, end.name, end.node == node) for node, text in named)
            if names or (end.node, end.name) in routed:
                nodes |= {link.left.node, link.right.node}
    links = tuple(i for i in topology.links if {i.left.node, i.right.node} <= nodes)
    ends = {(e.node, e.name) for link in links for e in (link.left, link.right)}
    return replace(
        topology,
        nodes=tuple(n for n in topology.nodes if n.name in nodes),
        links=links,
        routes=tuple(r for r in topology.routes if (r.node, r.device) in ends),
        neighbours=tuple(n for n in topology.neighbours if (n.node, n.device) in ends),
    )


def _names(text: str, device: str, here: bool) -> bool:
    return here and bool(re.search(rf"(?<![\w-]){re.escape(device)}(?![\w-])", text))


def _needed(steps: list[_Step], verdict: Verdict) -> list[str]:
    """List the programs that the rulesets take, besides those of every script."""
    tools = {step.ruleset.tool for step in steps}
    found: list[str] = sorted(tools & {"ipset", "tc"})
    if "iptables" in tools:
        variants = dict.fromkeys(s.ruleset.variant for s in steps if s.ruleset.tool == "iptables")
        for program in dict.fromkeys(_iptables(verdict, variant) for variant in variants):
            found += [f"{program}-restore", f"{program}-save"]
    return found


def _root(steps: list[_Step], uid: int) -> str:
    """Say why an ordinary user's namespace will not do; empty where it does."""
    if any(step.ruleset.tool == "bpf" for step in steps):
        return "an ordinary user may load no eBPF programs"
    owner = any("-owner" in step.text for step in steps if step.ruleset.tool == "iptables")
    return "rules and sockets of another user take a second user" if uid or owner else ""


def _iptables(verdict: Verdict, variant: str) -> str:
    program = "iptables" if verdict.family == "ipv4" else "ip6tables"
    return f"{program}-{variant or verdict.variant}"


def _head(shrunk: Shrunk, version: str) -> str:
    verdict = shrunk.verdict
    told = [
        f"{verdict.outcome.value.upper()}: {verdict.owner}, flow {verdict.flow}",
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
        "exit status: 1 the conflict shows, 0 it does not, 2 it could not be judged here",
    ]
    return "#!/bin/sh\n" + "".join(f"# {shell.one_line(line)}\n" for line in told) + "set -eu\n"


def _install(title: str, steps: list[_Step], verdict: Verdict) -> str:
    body = "".join(text for step in steps for text in _given(step, verdict)) or "    :\n"
    return f"{shell.function_name(title)}() {{ # {shell.one_line(title)}\n{body}}}\n"


def _given(step: _Step, verdict: Verdict) -> Iterator[str]:
    ruleset = step.ruleset
    if ruleset.tool == "bpf":
        yield from _attached(step)
    elif ruleset.tool == "sysctl":
        pairs = [line.text.partition("=")[::2] for line in step.content]
        yield shell.sysctls(ruleset.node, [(key.strip(), value.strip()) for key, value in pairs])
    else:
        content = [_blamed(line, ruleset, verdict) for line in step.content]
        yield shell.feed(f"on {ruleset.node} {_program(ruleset, verdict)}", content)


def _program(ruleset: Ruleset, verdict: Verdict) -> str:
    if ruleset.tool == "iptables":
        return f"{_iptables(verdict, ruleset.variant)}-restore --noflush"
    if ruleset.tool == "ip":
        return f"ip {_ip(verdict.family)} -batch -"
    return _PROGRAMS[ruleset.tool]


def _ip(family: Family) -> str:
    return "-4" if family == "ipv4" else "-6"


def _blamed(line: Line, ruleset: Ruleset, verdict: Verdict) -> str:
    """Write a line, with the sign by which its counter is found where it is the rule to blame."""
    culprit = verdict.culprit
    if culprit is None or not _is_blamed(line, ruleset, culprit):
        return line.text
    rule = culprit.rule
    return line.text.removesuffix(rule.written) + evidence.signed(rule.tool, rule.written)


def _variant(steps: Iterable[_Step], culprit: Culprit | None) -> str:
    """Return the variant of iptables that a culprit's ruleset asks for, if it does."""
    for step in steps:
        if any(_is_blamed(line, step.ruleset, culprit) for line in step.content):
            return step.ruleset.variant
    return ""


def _counted(steps: Iterable[_Step], verdict: Verdict) -> Culprit | None:
    """Return the culprit if its rule's matches can be counted: it stands on a line of its own."""
    for step in steps:
        if any(_is_blamed(line, step.ruleset, verdict.culprit) for line in step.content):
            return verdict.culprit
    return None


def _is_blamed(line: Line, ruleset: Ruleset, culprit: Culprit | None) -> bool:
    if culprit is None or ruleset.tool not in ("iptables", "nft"):
        return False
    place = ruleset.file, ruleset.line + line.number
    rule = culprit.rule
    return place == (rule.file, rule.line) and line.text.endswith(rule.written)


def _attached(step: _Step) -> Iterator[str]:
    """Write one command per eBPF program; one attached later runs later."""
    for line in step.content:
        program = bpf_text.parse(line.text)
        code = assemble(program, {program.target: _INDEX} if program.target else {})
        yield f"    # {shell.one_line(line.text)}\n"
        yield shell.attach(step.ruleset.node, program.device, program.hook, program.target, code)
