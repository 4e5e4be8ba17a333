"""From trace messages to passes: one packet going through one base chain or legacy table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lab.observe.chains import ChainKey, Hooked
from lab.observe.nftrace import Headers, Message, Traced
from lab.observe.places import stage
from lab.observe.xtrace import Line
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
    messages: list[Message] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
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
    _found: dict[Message, Start | None] = field(default_factory=dict)

    def start(self, message: Message) -> Start | None:
        """Tell where a packet is of whose pass this is the first message."""
        if message not in self._found:
            self._found[message] = self._look_up(message)
        return self._found[message]

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
    current: dict[bytes, Pass] = {}
    for identity, message, headers in traced:
        if headers is None:
            if identity in current:
                current[identity].messages.append(message)
            continue
        start = chains.start(message)
        if start is not None:
            hook, priority, point, again = start
            started = Pass(headers, hook, priority, point, [message], reroutes=again)
            current[identity] = started
            yield started


def legacy_passes(lines: Iterable[Line]) -> Iterator[Pass]:
    """Group TRACE lines of legacy tables; each ends with a terminal rule or the policy."""
    current: Pass | None = None
    for line in lines:
        same = (
            current is not None
            and current.lines[-1].kind != "policy"
            and current.headers.packet == line.headers.packet
            and (current.lines[0].table, current.hook) == (line.table, line.hook)
        )
        if same and current is not None:
            current.lines.append(line)
            continue
        priority = stage(line.table, line.hook)
        again = (line.table, line.hook) == ("mangle", "output")
        at = 0 if priority is None else priority
        current = Pass(line.headers, line.hook, at, lines=[line], reroutes=again)
        yield current


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
    for one in legacy:
        merged.insert(_place(merged, one), one)
    return merged


def _number(passes: list[Pass]) -> None:
    number = 0
    for before, after in itertools.pairwise(passes):
        restarted = before.hook == after.hook and before.priority > after.priority
        number += before.hook != after.hook or restarted
        after.stage = number


def _place(merged: list[Pass], one: Pass) -> int:
    mark: int | None = None
    for index, other in enumerate(merged):
        if (other.stage, other.priority) > (one.stage, one.priority):
            return index
        tie = (other.stage, other.priority) == (one.stage, one.priority) and not other.lines
        if tie and mark == one.first_mark() and _ends_last(merged, index, one):
            return index
        mark = other.messages[-1].mark if other.messages else mark
    return len(merged)


def _ends_last(merged: list[Pass], index: int, first: Pass) -> bool:
    """Tell whether the packet was next read with the mark with which it left this pass.

    If it was not read again, tell whether it came in with the mark with which it left ``first``.
    """
    following = next((p for p in merged[index + 1 :] if p.point is not None), None)
    left_with = merged[index].messages[-1].mark
    if following is None:
        return merged[index].messages[0].mark == first.lines[-1].mark
    return following.messages[0].mark == left_with
