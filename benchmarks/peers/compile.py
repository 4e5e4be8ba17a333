"""From an experiment of the lab to a plan for its peers: the same rules, packets and points."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.plan import Command, Plan
from lab.native.lines import lines
from lab.registry.facts import addresses, facts
from lab.registry.placeholders import fill
from lab.registry.software import Ruleset, Software
from lab.scenario import Experiment
from lab.topology import library
from lab.topology.plan import Topology
from lab.traffic.flow import Expectation, Flow
from lab.traffic.packets import MAGIC

PATIENCE = 0.1
"""Seconds for which peers wait for a packet that may be lost; such scripts usually wait 1 s."""
_HERE = Path(__file__).parent


def compiled(experiment: Experiment, owner: Software, python: str) -> Plan:
    """Write the plan of an IPv4 experiment, with the flows of ``owner`` only.

    ``python`` is the interpreter that sends and answers.
    """
    topology = library.find(experiment.topology, experiment.pod_prefix)
    ends = {f.name: addresses(owner, f, topology, "ipv4") for f in owner.flows}
    answerers = dict(_answerers(owner, ends, python))
    return Plan(
        nodes=list(topology.node_names()),
        links=[(k.left.node, k.left.name, k.right.node, k.right.name) for k in topology.links],
        network=list(_network(topology)),
        rules=[c for s in experiment.software for c in _rules(s, topology, experiment.variant)],
        probe=_probe(owner),
        answerers=list(answerers.items()),
        ready=[_ready(node) for node in answerers],
        askers=list(_askers(owner, ends, python)),
    )


def _network(topology: Topology) -> Iterator[Command]:
    for node in topology.nodes:
        settings = " ".join(f"{key}={value}" for key, value in node.sysctls)
        yield node.name, f"sysctl -q -w {settings}"
        for end in topology.interfaces(node.name):
            arp = "" if end.arp else " arp off"
            yield node.name, f"ip link set {end.name} address {end.mac} mtu {end.mtu} up{arp}"
            for address in filter(_is_ipv4, end.addresses):
                yield node.name, f"ip address add {address} dev {end.name}"
    for near in topology.neighbours:
        if _is_ipv4(near.address):
            lladdr = f"lladdr {near.mac} dev {near.device}"
            yield near.node, f"ip neighbour replace {near.address} {lladdr}"
    for route in topology.routes:
        if _is_ipv4(route.to):
            via = f" via {route.via} onlink" if route.via else ""
            yield route.node, f"ip route add {route.to} dev {route.device}{via}"


def _is_ipv4(address: str) -> bool:
    return ":" not in address


def _rules(software: Software, topology: Topology, variant: str) -> Iterator[Command]:
    """Yield a command for every line that an entry installs, as a script has them."""
    known = facts(software, topology, "ipv4")
    chains: set[tuple[str, str]] = set()
    for ruleset in software.rulesets:
        if "ipv4" in ruleset.families:
            text = fill(ruleset.text, known, ruleset.file, ruleset.line)
            found = [line.text for line in lines(text)]
            if ruleset.tool == "iptables":
                commands = _iptables(found, f"iptables-{variant}", chains)
            else:
                commands = (_command(ruleset, line) for line in found)
            yield from ((ruleset.node, command) for command in commands)


def _iptables(found: list[str], program: str, chains: set[tuple[str, str]]) -> Iterator[str]:
    """Turn the format of iptables-save into commands; a chain is made once."""
    table = ""
    for line in found:
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            chain = line[1:].split()[0]
            if (table, chain) not in chains:
                chains.add((table, chain))
                yield f"{program} -t {table} -N {chain}"
        elif line != "COMMIT":
            yield f"{program} -t {table} {line}"


def _command(ruleset: Ruleset, line: str) -> str:
    if ruleset.tool == "sysctl":
        return f"sysctl -q -w {line.replace(' ', '')}"
    if ruleset.tool in ("ip", "ipset"):
        return f"{ruleset.tool} {line}"
    raise ValueError(f"{ruleset.file}: no plain command for {ruleset.tool!r}")


def counter(flow: Flow, number: int) -> str:
    """Name the pair of counters of a flow's ``number``-th expectation."""
    return f"{flow.name.replace('-', '_')}_{number}"


def _probe(owner: Software) -> str:
    parts = []
    for number, flow in enumerate(owner.flows, 1):
        for which, expectation in enumerate(flow.expectations, 1):
            parts.append(_counted(counter(flow, which), number, expectation))
    return f"table inet probe {{\n{''.join(parts)}}}\n"


def _counted(name: str, flow: int, expectation: Expectation) -> str:
    point, mark = expectation.point, expectation.mark
    if point.node != "node":
        raise ValueError(f"the probe stands on 'node', not on {point.node!r}")
    word = "meta mark" if expectation.field == "mark" else "ct mark"
    reply = int(expectation.direction == "reply")
    ordinal = {"all": "", "first": " @th,104,8 0", "later": " @th,104,8 != 0"}[expectation.packets]
    packets = f"meta l4proto udp @th,64,16 {MAGIC:#x} @th,80,16 {flow} @th,96,8 {reply}{ordinal}"
    test = f"{word} & {mark.mask:#x}"
    return f"""  counter {name}_right {{ }}
  counter {name}_wrong {{ }}
  chain {name} {{
    type filter hook {point.hook} priority {point.priority}; policy accept;
    {packets} {test} == {mark.value:#x} counter name {name}_right
    {packets} {test} != {mark.value:#x} counter name {name}_wrong
  }}
"""


def _ready(node: str) -> str:
    return f"/run/ready.{node}"


def _answerers(
    owner: Software, ends: dict[str, tuple[str, str, str]], python: str
) -> Iterator[tuple[str, str]]:
    """Yield one program per node that answers, for all its addresses and ports."""
    flows = [flow for flow in owner.flows if flow.answered_by]
    for node in dict.fromkeys(flow.answered_by for flow in flows):
        pairs = [
            f"{ends[f.name][1]} {f.answer_port or f.port}" for f in flows if f.answered_by == node
        ]
        yield node, f"{_program(python, 'answer.py')} {_ready(node)} {' '.join(pairs)}"


def _askers(
    owner: Software, ends: dict[str, tuple[str, str, str]], python: str
) -> Iterator[tuple[str, str, str]]:
    for number, flow in enumerate(owner.flows, 1):
        if flow.protocol != "udp" or flow.transparent or flow.uid:
            raise ValueError(f"flow {flow.name!r} is not one that a plain sender can send")
        source, to, _ = ends[flow.name]
        by_kernel = flow.sender == "node" and not flow.source_address
        arguments = [
            "0.0.0.0" if by_kernel else source,
            20000 + number,
            to,
            flow.port,
            flow.socket_mark,
            number,
            flow.count,
            PATIENCE,
        ]
        line = " ".join(str(argument) for argument in arguments)
        yield flow.name, flow.sender, f"{_program(python, 'ask.py')} {line}"


def _program(python: str, name: str) -> str:
    """Start Python without site-packages: the quickest way to have a sender."""
    return f"{shlex.quote(python)} -I -S {shlex.quote(str(_HERE / name))}"
