"""Flows for rules of which nobody said what they rely on: one through every hook [pure].

What each must show is not known yet: :mod:`lab.capture.learn` takes it from a run alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from lab.capture.bits import Owned
from lab.lint.model import Subject
from lab.marks import Mark
from lab.native.iptables_text import BUILTIN, changes
from lab.native.nft_text import base_chains
from lab.points import PRIORITIES, Point
from lab.registry.software import Ruleset, Software
from lab.traffic.flow import FAMILIES, Expectation, Flow

_PATHS = (
    Flow("out", "node", "{{ wan.ip }}", 7101, answered_by="client"),
    Flow("out-lan", "node", "{{ lan.ip }}", 7101, answered_by="lan"),
    Flow("in", "client", "{{ node.ip }}", 7101, answered_by="node"),
    Flow("tunnel-in", "peer", "{{ node.tailnet-ip }}", 7101, answered_by="node"),
    Flow("pod-out", "pod-a", "{{ wan.ip }}", 7101, answered_by="client"),
    Flow("pod-to-lan", "pod-a", "{{ lan.ip }}", 7101, answered_by="lan"),
    Flow("pod-to-pod", "pod-a", "{{ pod-b.ip }}", 7101, answered_by="pod-b"),
    Flow("pod-in", "client", "{{ pod-a.ip }}", 7101, answered_by="pod-a"),
    Flow("lan-in", "lan", "{{ pod-a.ip }}", 7101, answered_by="pod-a"),
)
_PORT = re.compile(r"\b(?:--dports? |dport (?:== )?\{? ?)(\d+)")
_TCP = re.compile(r"-p tcp\b|\btcp dport\b")
_MOST = 4
_TABLES = {
    "raw": {"PREROUTING": "raw", "OUTPUT": "raw"},
    "mangle": dict.fromkeys(BUILTIN["mangle"], "mangle"),
    "nat": {"PREROUTING": "dstnat", "INPUT": "srcnat", "OUTPUT": "dstnat", "POSTROUTING": "srcnat"},
    "filter": dict.fromkeys(BUILTIN["filter"], "filter"),
    "security": dict.fromkeys(BUILTIN["security"], "security"),
}


def flows(software: Software, subject: Subject, owned: Owned) -> Iterator[Flow]:
    """Yield flows, each with every point and field that could matter to the rules."""
    wanted = tuple(_expectations(software, subject, owned))
    ruled = {family for ruleset in software.rulesets for family in ruleset.families}
    families = tuple(family for family in FAMILIES if family in ruled)
    for flow in _every(software, subject):
        yield replace(flow, families=families, expectations=wanted)


def _every(software: Software, subject: Subject) -> Iterator[Flow]:
    ports = list(dict.fromkeys(_ports(software)))[:_MOST]
    for flow in _PATHS:
        yield flow
        for port, protocol in ports:
            name = f"{flow.name}-{protocol}-{port}"
            yield replace(flow, name=name, port=port, protocol=protocol)
    for value in list(dict.fromkeys(_socket_marks(subject)))[:_MOST]:
        name = f"socket-{value:#x}"
        yield replace(_PATHS[0], name=name, socket_mark=value)


def _ports(software: Software) -> Iterator[tuple[int, Literal["udp", "tcp"]]]:
    """Yield the ports that rules match, those of rules with marks first."""
    lines = [
        x for r in software.rulesets if r.tool in ("iptables", "nft") for x in r.text.split("\n")
    ]
    for line in sorted(lines, key=lambda line: "mark" not in line.lower()):
        for port in _PORT.findall(line):
            if 0 < int(port) < 65536:
                yield int(port), "tcp" if _TCP.search(line) else "udp"


def _socket_marks(subject: Subject) -> Iterator[int]:
    """Yield the marks that are tested and never written: some socket must set them."""
    written = 0
    for line in subject.lines:
        for write in line.writes:
            if write.field == "mark":
                written |= write.xor | write.copies
    for line in subject.lines:
        for test in line.tests:
            if test.field == "mark" and test.mark.value & ~written:
                yield test.mark.value


def _expectations(software: Software, subject: Subject, owned: Owned) -> Iterator[Expectation]:
    points = dict.fromkeys(p for r in software.rulesets for p in _points(r))
    if any(line.tests for line in subject.of("policy")):
        points |= dict.fromkeys((Point.parse("node prerouting last"),))
        points |= dict.fromkeys((Point.parse("node output last"),))
    for field, mask in owned.masks():
        if mask:
            for point in points:
                yield Expectation(point, field, Mark(0, mask))


def _points(ruleset: Ruleset) -> Iterator[Point]:
    """Yield the points before and after each stage at which a ruleset with marks hooks in."""
    for hook, priority in dict.fromkeys(_stages(ruleset)):
        yield Point(ruleset.node, hook, priority - 1)
        yield Point(ruleset.node, hook, priority + 1)


def _stages(ruleset: Ruleset) -> Iterator[tuple[str, int]]:
    if ruleset.tool == "nft":
        for chain in base_chains(ruleset.text):
            if chain.hook not in ("ingress", "egress"):
                yield chain.hook, chain.priority
    elif ruleset.tool == "iptables":
        marking = {c.table for c in changes(ruleset.text) if "mark" in c.text.lower()}
        for change in changes(ruleset.text):
            named = _TABLES.get(change.table, {}).get(change.chain)
            if change.table in marking and change.verb != "declare" and named:
                yield change.chain.lower(), PRIORITIES[named]
