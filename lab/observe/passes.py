"""From trace messages to passes: one packet going through one base chain or legacy table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lab.native.stages import stage
from lab.observe.chains import ChainKey, Hooked
from lab.observe.nftrace import Headers, Message, Traced
from lab.observe.xtrace import Line
from lab.observe.xtrace import Traced as Logged
from lab.points import Point

_PF = {2: "ip", 10: "ip6"}
Start = tuple[str, int, Point | None, bool]
"""Where a pass is: hook, priority, the recorder's point, whether the route is looked up again."""


@dataclass(slots=True)
class Pass:
    """One packet's way through one base chain (``messages``) or legacy table (``lines``).

    ``point`` is set where the chain is the recorder's own. ``stage`` numbers the hooks in the
    order in which this packet met them in this namespace. ``reroutes`` is set where the kernel
    looks a locally sent packet's route up again if its mark came out otherwise: after the mangle
    table and after nft chains of type route (net/ipv4/netfilter/iptable_mangle.c,
    net/netfilter/nft_chain_route.c).
    """

    headers: Headers
    hook: str
    priority: int
    point: Point | None = None
    messages: Sequence[Message] = ()
    lines: Sequence[Line] = ()
    stage: int = 0
    reroutes: bool = False

    def first_mark(self) -> int:
        """Return the mark with which the packet entered, as far as the messages tell."""
        return self.lines[0].mark if self.lines else self.messages[0].mark


@dataclass(frozen=True, slots=True)
class Chains:
    """The base chains of one namespace; ``probes`` maps those of ``table`` to points."""

    bases: Mapping[ChainKey, Hooked]
    probes: Mapping[str, Point]
    table: str
    _found: dict[int, tuple[Message, Start | None]] = field(default_factory=dict)

    def start(self, message: Message) -> Start | None:
        """Tell where a packet is of whose pass this is the first message."""
        found = self._found.get(id(message))  # kept here, so that the id stays its own
        if found is None or found[0] is not message:
            found = self._found[id(message)] = message, self._look_up(message)
        return found[1]

    def _look_up(self, message: Message) -> Start | None:
        if message.table == self.table:
            point = self.probes[message.chain]
            return point.hook, point.priority, point, False
        for family in (_PF.get(message.family, ""), "inet"):
            hooked = self.bases.get((f"{family} {message.table}", message.chain))
            if hooked is not None:
                return hooked.hook, hooked.priority, None, hooked.kind == "route"
        return None


def nft_passes(traced: Iterable[Traced], chains: Chains) -> Iterator[Pass]:
    """Group nftables trace messages."""
    current: dict[bytes, list[Message]] = {}
    where = chains.start
    for identity, message, headers in traced:
        if headers is None:
            if identity in current:
                current[identity].append(message)
            continue
        start = where(message)
        if start is not None:
            hook, priority, point, again = start
            mine = current[identity] = [message]
            yield Pass(headers, hook, priority, point, mine, (), 0, again)


def legacy_passes(logged: Iterable[Logged]) -> Iterator[Pass]:
    """Group TRACE lines of legacy tables; each ends with a terminal rule or the policy."""
    packet: bytes | None = None
    table = hook = ""
    lines: list[Line] = []
    for line, headers in logged:
        if (line.table, line.hook, headers.packet) == (table, hook, packet):
            lines.append(line)
        else:
            table, hook, packet, lines = line.table, line.hook, headers.packet, [line]
            priority = stage(table, hook)
            at = 0 if priority is None else priority
            yield Pass(headers, hook, at, None, (), lines, 0, (table, hook) == ("mangle", "output"))
        if line.kind == "policy":
            packet = None


def merge(nft: list[Pass], legacy: list[Pass]) -> list[Pass]:
    """Put both kinds of passes of one packet in one namespace in the order in which they happened.

    The recorder's chains stand in every hook, so the nftables passes give the sequence of hooks.
    At equal priority the marks tell: what runs last ends with the mark of the next reading.
    """
    _number(nft)
    if not legacy:
        return nft
    position = 0
    hooks = {p.stage: p.hook for p in nft}
    for one in legacy:
        while position in hooks and hooks[position] != one.hook:
            position += 1
        one.stage = position
    merged = list(nft)
    index, mark = 0, None
    for one in legacy:
        index, mark = _place(merged, one, index, mark)
        merged.insert(index, one)
    return merged


def _number(passes: list[Pass]) -> None:
    number = 0
    for before, after in itertools.pairwise(passes):
        restarted = before.hook == after.hook and before.priority > after.priority
        number += before.hook != after.hook or restarted
        after.stage = number


def _place(merged: list[Pass], one: Pass, start: int, mark: int | None) -> tuple[int, int | None]:
    """Return where a pass belongs, from ``start`` on, and the mark with which the packet got there.

    ``mark`` is the one with which it got to ``start``.
    """
    mine = one.stage, one.priority
    for index in range(start, len(merged)):
        other = merged[index]
        at = other.stage, other.priority
        if at > mine:
            return index, mark
        tie = at == mine and not other.lines and mark == one.first_mark()
        if tie and _ends_last(merged, index, one):
            return index, mark
        mark = other.messages[-1].mark if other.messages else mark
    return len(merged), mark


def _ends_last(merged: list[Pass], index: int, first: Pass) -> bool:
    """Tell whether the packet was next read with the mark with which it left this pass.

    If it was not read again, tell whether it came in with the mark with which it left ``first``.
    """
    following = next((p for p in merged[index + 1 :] if p.point is not None), None)
    left_with = merged[index].messages[-1].mark
    if following is None:
        return merged[index].messages[0].mark == first.lines[-1].mark
    return following.messages[0].mark == left_with


Met = dict[bytes, list[Pass]]
"""The passes through one namespace, packet by packet."""


def by_packet(steps: Iterable[Sequence[Pass]]) -> Met:
    """Group the passes through one namespace by packet, each packet's in the order of time.

    Every step holds those through nftables, then those through legacy tables.
    """
    nft: Met = {}
    legacy: Met = {}
    for one in itertools.chain.from_iterable(steps):
        kind = legacy if one.lines else nft
        packet = one.headers.packet
        if packet in kind:
            kind[packet].append(one)
        else:
            kind[packet] = [one]
    return {packet: merge(nft.get(packet, []), legacy.get(packet, [])) for packet in nft | legacy}
