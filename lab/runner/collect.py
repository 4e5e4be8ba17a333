"""From what was watched to what is recorded."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lab.kernel import netns
from lab.native import bpf_text
from lab.native.rule import Rule
from lab.observe.assemble import Lookups
from lab.observe.chains import ChainKey
from lab.observe.journey import Roads, timelines
from lab.observe.passes import Met, Pass
from lab.observe.probes import Noted
from lab.observe.recorder import Recorder
from lab.record import Dropped, Fate, FlowRun, PolicyRule, Timeline
from lab.rules import iproute
from lab.rules.apply import Site
from lab.runner.bench import Bench
from lab.traffic.packets import read_tag
from lab.traffic.send import Call, Outcome

_FAMILIES = {2: "ip", 10: "ip6"}
_MAKES_DEVICES = re.compile(r"^\s*[lt-]", re.MULTILINE)
"""A line on a link, tunnel or tap, in any of their short forms, or behind an option."""
Passes = Mapping[str, Met]


@dataclass(frozen=True, slots=True)
class Ran:
    """One flow that ran: what its sockets saw and which passes were watched."""

    call: Call
    outcome: Outcome
    passes: Passes


@dataclass(frozen=True, slots=True)
class Books:
    """All that turns handles and positions into rules: the rules of every node, and indexes."""

    rules: tuple[Rule, ...]
    policy: tuple[PolicyRule, ...]
    lookups: dict[str, Lookups]
    roads: dict[str, Roads]


def keep_books(bench: Bench, recorder: Recorder, notes: Mapping[Noted, int | None]) -> Books:
    """Index the rules of every node and the ctmarks that the recorders noted."""
    rules = tuple(r for site in bench.sites.values() for r in site.installed.everything())
    numbers = {id(rule): number for number, rule in enumerate(rules)}
    node = bench.sites["node"]
    policy = iproute.policy_rules(bench.network.routers["node"], node.installed, rules)
    lookups = {
        name: _lookups(site, recorder, rules, numbers, notes)
        for name, site in bench.sites.items()
        if name in recorder.watches
    }
    router = bench.network.routers["node"]
    roads = {"node": Roads(router.look_up, policy, _devices(bench))}
    return Books(rules, policy, lookups, roads)


def _devices(bench: Bench) -> dict[int, str]:
    """Name every device of the node; the kernel is asked only where entries may have made some."""
    known = bench.network.device_names("node")
    rulesets = (r for s in bench.experiment.software for r in s.rulesets)
    if not any(r.tool == "ip" and _MAKES_DEVICES.search(r.text) for r in rulesets):
        return known
    with bench.network.namespaces["node"].inside(bench.network.home):
        return netns.devices()


def _lookups(
    site: Site,
    recorder: Recorder,
    rules: tuple[Rule, ...],
    numbers: Mapping[int, int],
    notes: Mapping[Noted, int | None],
) -> Lookups:
    by_handle = _by_handle(site, recorder.watches[site.node].handles, numbers)
    legacy = site.installed.legacy

    def nft_rule(family: int, table: str, chain: str, handle: int) -> int | None:
        for name in (_FAMILIES.get(family, ""), "inet"):
            found = by_handle.get((f"{name} {table}", chain, handle))
            if found is not None:
                return found
        return None

    def legacy_rule(table: str, chain: str, position: int) -> int | None:
        rule = legacy.at(table, chain, position)
        return None if rule is None else numbers[id(rule)]

    programs = tuple(
        (numbers[id(rule)], bpf_text.parse(rule.written))
        for rule in site.installed.others
        if rule.tool == "bpf"
    )
    return Lookups(
        site.node,
        rules,
        notes,
        nft_rule,
        legacy_rule,
        programs,
    )


def _by_handle(
    site: Site, handles: Mapping[ChainKey, list[int]], numbers: Mapping[int, int]
) -> dict[tuple[str, str, int], int]:
    found = {}
    for (table, chain), rules in site.installed.nftables.chains.items():
        known = handles.get((table, chain), [])
        if len(known) == len(rules):
            for handle, rule in zip(known, rules, strict=True):
                found[table, chain, handle] = numbers[id(rule)]
    return found


def sort_out(everything: Sequence[Ran]) -> tuple[list[Ran], list[Pass]]:
    """Part what belongs to each flow from what came late: TCP repeats and acknowledges by timers.

    Such a packet of one flow may be seen while the next one runs.
    """
    ports = {ran.call.port for ran in everything}
    late: list[Pass] = []
    own: list[Ran] = []
    for ran in everything:
        others = {
            packet
            for packet in {packet for met in ran.passes.values() for packet in met}
            if not _belongs(packet, ran, ports)
        }
        late += (one for packet in others for one in _passes(packet, ran.passes))
        kept = {
            node: {packet: found for packet, found in met.items() if packet not in others}
            for node, met in ran.passes.items()
        }
        own.append(replace(ran, passes=kept) if others else ran)
    return own, late


def _passes(packet: bytes, passes: Passes) -> Iterator[Pass]:
    for met in passes.values():
        yield from met.get(packet, ())


def _belongs(packet: bytes, ran: Ran, ports: Container[int]) -> bool:
    """Tell whether a packet is the flow's: by its tag, of TCP by the client's port.

    Masquerading may choose the port of another flow, so all counts that was seen of the packet.
    """
    if ran.call.flow.protocol == "udp":
        tag = read_tag(packet)
        return tag is not None and tag[0] == ran.call.number
    seen = [p.headers for p in _passes(packet, ran.passes)]
    if any(ran.call.port in (h.source_port, h.port) for h in seen):
        return True
    return not any(h.source_port in ports or h.port in ports for h in seen)


def record(ran: Ran, books: Books) -> FlowRun:
    """Build the record of one flow."""
    lines = timelines(ran.passes, ran.call.port, books.lookups, books.roads)
    return FlowRun(
        ran.call.owner,
        ran.call.flow.name,
        lines,
        _fate(ran, lines, books.rules),
        ran.call.seen_from,
    )


def _fate(ran: Ran, lines: Sequence[Timeline], rules: Sequence[Rule]) -> Fate:
    outcome = ran.outcome
    arrived = ran.call.flow.listener if outcome.arrived else ""
    return Fate(
        outcome.sent,
        outcome.arrived,
        outcome.answered,
        arrived,
        outcome.seen_from,
        _end(outcome, lines, rules),
    )


def _end(outcome: Outcome, lines: Sequence[Timeline], rules: Sequence[Rule]) -> str:
    """Say where the first packet that did not arrive ended."""
    complete = outcome.arrived == outcome.answered == outcome.sent
    if complete:
        return ""
    for line in lines:
        for event in line.events:
            if isinstance(event, Dropped):
                rule = "" if event.rule is None else f": {rules[event.rule]}"
                return (
                    f"{line.direction} ended on {event.node} in {event.hook}, {event.reason}{rule}"
                )
    unseen = "sent, and seen at no hook: dropped by its device, XDP or tc"
    return outcome.error or _taken(lines) or ("" if lines else unseen) or "no reason was seen"


def _taken(lines: Sequence[Timeline]) -> str:
    """Say where a packet was delivered, if not to the socket that waited for it."""
    for line in lines:
        read = line.readings()
        if line.direction == "request" and read and read[-1].point.hook == "input":
            return f"delivered on {read[-1].point.node} to another socket"
    return ""


def missed(
    recorder: Recorder, notes: Iterable[Noted], books: Books, late: Iterable[Pass]
) -> tuple[str, ...]:
    """List what the recorders noted but the trace lacks: without it no rule can be blamed.

    ``late`` are passes that were traced when no flow was running any more.
    """
    read = {
        (id(one.point), one.headers.packet, one.messages[0].mark, one.headers.outer)
        for one in late
        if one.point is not None
    }
    read = read.union(*(lookups.read for lookups in books.lookups.values()))
    points = {id(point): point for watch in recorder.watches.values() for point in watch.points}
    untraced = sorted({str(points[noted[0]]) for noted in set(notes) - read})
    return (
        *dict.fromkeys(recorder.lost),
        *(f"packets recorded at {point} were not traced" for point in untraced),
    )
