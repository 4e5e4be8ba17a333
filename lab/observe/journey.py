"""From the passes of all namespaces to each packet's timeline, with its routing decisions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lab.kernel.route import TABLES, Answer, Lookup
from lab.observe import tc
from lab.observe.assemble import Lookups, events
from lab.observe.passes import Met, Pass
from lab.observe.policy import choose
from lab.points import COMES_IN, LAST
from lab.record import Dropped, Event, Hit, PolicyRule, Reading, Routed, Timeline, Write
from lab.traffic.flow import Direction
from lab.traffic.packets import read_tag

LookUp = Callable[[Lookup], Answer]
_SEALED = "the tunnel's packet arrived, and nothing came out of it"
_MAIN, _LOCAL = 254, 255


@dataclass(frozen=True, slots=True)
class Roads:
    """How routing is asked on one node: the look-up, the policy rules, the device names.

    ``decided`` keeps the answers, as one question is asked for many packets.
    """

    look_up: LookUp
    policy: Sequence[PolicyRule]
    devices: Mapping[int, str]
    decided: dict[tuple[str, str, Lookup], Routed] = field(default_factory=dict)


@dataclass(slots=True)
class Segment:
    """One packet's uninterrupted way through one namespace."""

    node: str
    passes: Sequence[Pass]

    @property
    def starts_here(self) -> bool:
        """Tell whether the packet was sent from this namespace."""
        return self.passes[0].hook == "output"

    @property
    def ends_here(self) -> bool:
        """Tell whether the packet was delivered in this namespace."""
        return self.passes[-1].hook == "input"

    @property
    def outer(self) -> bool:
        """Tell whether it was on its way inside a tunnel's packet."""
        return self.passes[0].headers.outer

    def rank(self, unpacked: bool) -> tuple[int, int]:
        """Order segments of one packet: where it starts, where it passes, where it ends.

        A tunnel's packet comes between those before and, ``unpacked``, after the tunnel.
        """
        way = 0 if self.starts_here else 2 if self.ends_here else 1
        return 1 if self.outer else 2 if unpacked else 0, way


def timelines(
    passes: Mapping[str, Met],
    client_port: int,
    lookups: Mapping[str, Lookups],
    roads: Mapping[str, Roads],
) -> tuple[Timeline, ...]:
    """Build the timeline of every packet of one flow, requests before replies."""
    found: list[Timeline] = []
    counts: dict[Direction, int] = {"request": 0, "reply": 0}
    moved: dict[str, str] = {}
    told: dict[object, tuple[Event, ...]] = {}
    for packet, segments in _segments(passes).items():
        direction = _direction(packet, segments, client_port)
        alike = *(_seen(s, lookups[s.node]) for s in segments), tuple(moved.items())
        if alike not in told:
            told[alike] = tuple(_events(segments, lookups, roads, moved))
        in_order = told[alike]
        moved.update(_moves(in_order))
        found.append(Timeline(direction, counts[direction], packet.hex(), in_order))
        counts[direction] += 1
    return tuple(sorted(found, key=lambda t: (t.direction == "reply", t.ordinal)))


def _seen(segment: Segment, lookups: Lookups) -> tuple[object, ...]:
    """Return all that the events of a segment depend on: it is the same for most of a flow."""
    found: list[object] = [segment.node]
    for one in segment.passes:
        headers, first = one.headers, one.messages[0] if one.messages else None
        if one.point is not None and first is not None:
            noted = id(one.point), headers.packet, first.mark, headers.outer
            found.append(lookups.ctmark(noted))
        found.extend(map(id, one.lines or one.messages))
        found.append(headers[1:])
    return tuple(found)


def _moves(found: Iterable[Event]) -> Iterator[tuple[str, str]]:
    """Yield where nat moved a packet that was sent from a node whose routes are asked."""
    sent = [e for e in found if isinstance(e, Reading) and e.point.hook == "output"]
    for before, after in itertools.pairwise(sent):
        same_packet = before.outer == after.outer
        if same_packet and before.destination != after.destination:
            yield before.destination, after.destination


def _direction(packet: bytes, segments: Sequence[Segment], client_port: int) -> Direction:
    """Tell by the port it was sent from; of a packet seen in a tunnel only, by its tag."""
    ports = [s.passes[0].headers.source_port for s in segments if not s.outer]
    if ports:
        return "request" if ports[0] == client_port else "reply"
    tag = read_tag(packet)
    return tag[1] if tag else "request"


def _segments(passes: Mapping[str, Met]) -> dict[bytes, list[Segment]]:
    """Group by packet, in the order in which packets set out.

    A packet's own namespaces are put in order by where it starts and ends; two packets are
    ordered by the namespace that sent them.
    """
    found: dict[bytes, list[Segment]] = {}
    for node, met in passes.items():
        for packet, mine in met.items():
            found.setdefault(packet, []).extend(_through(node, mine))
    return {packet: _in_order(segments) for packet, segments in found.items()}


def _through(node: str, passes: Sequence[Pass]) -> Iterator[Segment]:
    """Part one packet's passes through one namespace where it sets out anew."""
    start = 0
    for index in range(1, len(passes)):
        if _sets_out(passes[index - 1], passes[index]):
            yield Segment(node, passes[start:index])
            start = index
    yield Segment(node, passes[start:])


def _in_order(segments: list[Segment]) -> list[Segment]:
    """Sort the segments of one packet; those of one namespace are in order already."""
    arrived = {s.node for s in segments if s.outer and s.ends_here}
    ranked = []
    met: set[str] = set()
    for segment in segments:
        if segment.outer and segment.ends_here:
            met.add(segment.node)
        beyond = bool(arrived) and segment.ends_here and segment.node not in arrived
        ranked.append((segment.rank(segment.node in met or beyond), segment))
    return [segment for _, segment in sorted(ranked, key=lambda pair: pair[0])]


def _sets_out(previous: Pass, one: Pass) -> bool:
    return previous.headers.outer != one.headers.outer or (
        one.stage != previous.stage and one.hook in COMES_IN
    )


def _events(
    segments: Iterable[Segment],
    lookups: Mapping[str, Lookups],
    roads: Mapping[str, Roads],
    moved: Mapping[str, str],
) -> list[Event]:
    found: list[Event] = []
    last: Segment | None = None
    for segment in segments:
        mine = events(segment.passes, lookups[segment.node])
        if segment.node in roads:
            mine = _routed(segment, mine, roads[segment.node], moved)
            if segment.outer or not segment.starts_here:
                found.extend(_written_at_tc(segment, last, mine, found, lookups, roads))
        found.extend(mine)
        last = segment
    if last is not None and (last.outer or not last.ends_here):
        found.extend(_vanished(last, found, lookups[last.node], roads))
    return found


def _written_at_tc(
    segment: Segment,
    last: Segment | None,
    mine: list[Event],
    found: list[Event],
    lookups: Mapping[str, Lookups],
    roads: Mapping[str, Roads],
) -> list[Event]:
    stayed = last is not None and last.node == segment.node
    left_by = last.passes[-1] if last is not None and stayed else None
    return list(
        tc.entering(
            mine,
            found,
            left_by,
            segment.passes[0],
            lookups[segment.node],
            roads[segment.node].devices,
        )
    )


def _vanished(
    last: Segment, found: Sequence[Event], lookups: Lookups, roads: Mapping[str, Roads]
) -> Iterable[Dropped]:
    if any(isinstance(e, Dropped) for e in found):
        return
    end = last.passes[-1]
    read = [e for e in found if isinstance(e, Reading)]
    if end.hook == "postrouting" and read and last.node in roads:
        program = tc.dropped(end, read[-1], lookups, roads[last.node].devices)
        if program is not None:
            yield Dropped(last.node, "egress", LAST, program, "dropped by this program")
            return
    routed = [e for e in found if isinstance(e, Routed) and e.node == last.node]
    unpacked = last.outer and last.ends_here
    reason = _policy_of(end) or (_SEALED if unpacked else _reason(end.hook, routed))
    yield Dropped(last.node, end.hook, end.priority, None, reason)


def _policy_of(end: Pass) -> str:
    """Name the legacy chain whose policy was the last that was seen of a packet."""
    if not end.lines or end.lines[-1].kind != "policy":
        return ""
    return f"policy drop of {end.lines[-1].table} {end.lines[-1].chain}"


def _reason(hook: str, routed: Sequence[Routed]) -> str:
    if hook == "postrouting":
        return "left the node and was not received"
    if routed and routed[-1].disbelieved:
        return "source validation refused it (martian source or rp_filter)"
    if routed and routed[-1].refusal:
        return f"no route: {routed[-1].refusal}"
    if hook == "prerouting":
        return "not routed: no socket or route here, or source validation (rp_filter) refused it"
    return "ended here"


def _routed(
    segment: Segment, found: list[Event], roads: Roads, moved: Mapping[str, str]
) -> list[Event]:
    """Put each routing decision where it is taken: before and within output, after prerouting."""
    if segment.starts_here:
        return list(_sent(segment, found, roads, moved))
    readings = [e for e in found if isinstance(e, Reading) and e.point.hook == "prerouting"]
    if not readings or any(isinstance(e, Dropped) and e.hook == "prerouting" for e in found):
        return found
    iif = next((m.iif for p in segment.passes for m in p.messages if m.iif), 0)
    index = max(n for n, e in enumerate(found) if _hook(e) == "prerouting") + 1
    # Nat may come behind the last reading: the next one has the address that was asked for.
    following = next((e for e in found[index:] if isinstance(e, Reading)), readings[-1])
    asked = readings[-1]
    if asked.destination != following.destination:
        asked = replace(asked, destination=following.destination)
    decision = _decide(segment.node, "prerouting", asked, roads, iif)
    return [*found[:index], decision, *found[index:]]


def _sent(
    segment: Segment, found: list[Event], roads: Roads, moved: Mapping[str, str]
) -> Iterator[Event]:
    """Decide on a packet as it sets out, and again where the kernel does so within output."""
    again = [p.priority for p in segment.passes if p.reroutes and p.hook == "output"]
    last: Reading | None = None
    for event in found:
        if isinstance(event, Reading) and event.point.hook == "output":
            if last is None or _rerouted(last, event, again):
                yield _decide(segment.node, "output", event, roads, 0)
            last = event
        yield event
    if last is not None and (unread := _unread(found[-1], last, again, moved)) is not None:
        yield _decide(segment.node, "output", unread, roads, 0)


def _unread(
    end: Event, last: Reading, again: Sequence[int], moved: Mapping[str, str]
) -> Reading | None:
    """Return what the last look-up was about where a packet ended by it and was not read again.

    ``moved`` says where nat has sent earlier packets of the flow: those after the first pass no
    rule, but are moved and routed as the first was.
    """
    if isinstance(end, Hit | Write):
        changed = end.priority in again and end.after != last.mark
        return replace(last, mark=end.after) if changed else None
    if end is last and last.destination in moved:
        return replace(last, destination=moved[last.destination])
    return None


def _rerouted(before: Reading, after: Reading, again: Sequence[int]) -> bool:
    """Tell whether a packet's route was looked up between two readings.

    That is for another destination (nat), or another mark where a table or chain between them
    makes the kernel look.
    """
    if before.destination != after.destination:
        return True
    between = any(before.point.priority <= at <= after.point.priority for at in again)
    return before.mark != after.mark and between


def _hook(event: Event) -> str:
    return event.point.hook if isinstance(event, Reading) else event.hook


def _decide(node: str, hook: str, reading: Reading, roads: Roads, iif: int) -> Routed:
    question = Lookup(reading.source, reading.destination, reading.mark, iif)
    key = (node, hook, question)
    if key not in roads.decided:
        roads.decided[key] = _asked(node, hook, question, roads)
    return roads.decided[key]


def _asked(node: str, hook: str, question: Lookup, roads: Roads) -> Routed:
    answer = roads.look_up(question)
    if answer.error and hook == "output":  # a transparent socket sends from foreign addresses
        anywhere = roads.look_up(replace(question, source=""))
        answer = answer if anywhere.error else anywhere
    if answer.local and answer.table == _MAIN:
        # Without policy rules of one's own, IPv4 keeps local routes in main as well
        # (net/ipv4/fib_trie.c, fib_trie_unmerge); they are found by the rule for local.
        answer = replace(answer, table=_LOCAL)
    policy = choose(roads.policy, question, answer, roads.devices.get(question.iif, "lo"))
    device = roads.devices.get(answer.device, "")
    via = f" via {answer.gateway}" if answer.gateway else ""
    route = (
        ""
        if answer.error
        else f"{answer.prefix}{via} dev {device} table {TABLES.get(answer.table, answer.table)}"
    )
    return Routed(node, hook, question.mark, policy, route, device, answer.error)
