"""What one experiment saw: timelines, fates and rules, as plain frozen values.

A run can be saved, read back and judged again without root; see ``lab.codec``.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lab.marks import Mark
from lab.native.rule import Rule
from lab.points import Point
from lab.scenario import Experiment
from lab.traffic.flow import Direction, Expectation, Field

# What the kernel answers for a policy rule of each action (net/ipv4/fib_rules.c).
_REFUSALS = {
    "blackhole": os.strerror(errno.EINVAL),
    "unreachable": os.strerror(errno.ENETUNREACH),
    "prohibit": os.strerror(errno.EACCES),
}
# What fib_validate_source() answers instead of a route (net/ipv4/fib_frontend.c).
_DISBELIEF = (os.strerror(errno.EINVAL), os.strerror(errno.EXDEV))
Verdict = Literal["accept", "drop", "jump", "goto", "return", "continue", "stolen", "queue", ""]


@dataclass(frozen=True, slots=True)
class Reading:
    """One packet's marks and addresses at a point; ``ctmark`` is None without conntrack entry.

    ``outer``: those of the tunnel's packet that carries it. ``probe`` is False where they follow
    from what was read nearby (``Timeline.at``).
    """

    point: Point
    mark: int
    ctmark: int | None
    source: str
    destination: str
    probe: bool = True
    outer: bool = False

    def at(self, expectation: Expectation) -> bool:
        """Tell whether it was read where an expectation looks, of the packet it means."""
        return (self.point, self.outer) == (expectation.point, expectation.outer)

    def word(self, field: Field) -> int | None:
        """Return the packet mark or the ctmark."""
        return self.mark if field == "mark" else self.ctmark


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule matched this packet: the packet mark before and after it, and its verdict."""

    node: str
    hook: str
    priority: int
    rule: int
    before: int
    after: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Write:
    """One change of a packet's mark or ctmark between two readings.

    ``rule`` indexes ``Run.rules``; None where no rule can be named (tc, BPF, the kernel itself).
    """

    node: str
    hook: str
    priority: int
    field: Field
    before: int
    after: int
    rule: int | None


@dataclass(frozen=True, slots=True)
class Routed:
    """A routing decision: the mark it was taken with, the policy rule and the route.

    ``policy`` indexes ``Run.policy``; None where no rule could be told. ``refusal`` is the
    kernel's error instead of a route.
    """

    node: str
    hook: str
    mark: int
    policy: int | None
    route: str
    device: str
    refusal: str = ""

    @property
    def disbelieved(self) -> bool:
        """Tell whether the source address was refused, and not the way: by no policy rule."""
        came_in = self.hook == "prerouting" and self.policy is None
        return came_in and self.refusal in _DISBELIEF


@dataclass(frozen=True, slots=True)
class Dropped:
    """Where a packet ended without being delivered."""

    node: str
    hook: str
    priority: int
    rule: int | None
    reason: str


Event = Reading | Hit | Write | Routed | Dropped


@dataclass(frozen=True, slots=True)
class Timeline:
    """One packet's way through every namespace; ``ordinal`` counts from 0 per direction."""

    direction: Direction
    ordinal: int
    packet: str
    events: tuple[Event, ...]

    def readings(self) -> tuple[Reading, ...]:
        """List the readings alone."""
        return tuple(e for e in self.events if isinstance(e, Reading))

    def at(self, point: Point) -> tuple[Reading, ...]:
        """Return what the packet had each time it passed a point; nothing if it never did.

        Marks are read once between two stages at which something is done. Elsewhere between them
        they are what was read last, and what rules have written since.
        """
        place = point.node, point.hook
        hooks = itertools.groupby(self.events, _hook)
        return tuple(
            reading
            for hook, events in hooks
            if hook == place
            for reading in _passing(point, [*events])
        )


def _hook(event: Event) -> tuple[str, str]:
    place = event.point if isinstance(event, Reading) else event
    return place.node, place.hook


def _passing(point: Point, hook: Sequence[Event]) -> Iterator[Reading]:
    """Yield the readings at a point, or else what follows from the other events of the hook."""
    exact = [e for e in hook if isinstance(e, Reading) and e.point == point]
    yield from exact
    before = [e for e in hook if not isinstance(e, Routed) and _priority(e) < point.priority]
    behind = [e for e in hook if not isinstance(e, Routed) and _priority(e) >= point.priority]
    read = [e for e in (*before[::-1], *behind) if isinstance(e, Reading)]
    if not exact and read and not any(isinstance(e, Dropped) for e in before):
        mark = _words(before, "mark", 1)[-1:] or _words(behind, "mark", 0)[:1]
        ctmark = _words(before, "ctmark", 1)[-1:] or _words(behind, "ctmark", 0)[:1]
        yield replace(read[0], point=point, mark=mark[0] or 0, ctmark=ctmark[0], probe=False)


def _priority(event: Reading | Hit | Write | Dropped) -> int:
    return event.point.priority if isinstance(event, Reading) else event.priority


def _words(events: Iterable[Event], field: Field, side: int) -> list[int | None]:
    """List a word as it was before (``side`` 0) or behind (1) each event that tells."""
    return [
        event.word(field) if isinstance(event, Reading) else (event.before, event.after)[side]
        for event in events
        if isinstance(event, Reading) or (isinstance(event, Write) and event.field == field)
    ]


@dataclass(frozen=True, slots=True)
class Fate:
    """How a flow ended: what arrived where, seen from which address, and how much was answered.

    ``sent``, ``arrived`` and ``answered`` count packets (UDP) or exchanges (TCP). ``end`` says
    where the packets ended when they did not arrive.
    """

    sent: int
    arrived: int
    answered: int
    seen_at: str
    seen_from: str
    end: str

    def same_as(self, other: Fate, *, address: bool) -> bool:
        """Compare what an owner relies on: counts, receiver, and perhaps the source address."""
        return (self.arrived, self.answered, self.seen_at) == (
            other.arrived,
            other.answered,
            other.seen_at,
        ) and (not address or self.seen_from == other.seen_from)

    def __str__(self) -> str:
        if not self.arrived:
            return self.end or f"0 of {self.sent} arrived"
        back = "" if self.answered == self.sent else f", {self.answered} of {self.sent} answered"
        lost = "" if self.arrived == self.sent else f" {self.arrived} of {self.sent}"
        end = f" ({self.end})" if self.end else ""
        return f"delivered{lost} to {self.seen_at} from {self.seen_from}{back}{end}"


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One line of ``ip rule``, with its owner where an entry installed it.

    ``suppress`` is the longest prefix whose routes it passes over, -1 if none.
    """

    priority: int
    table: int
    action: str
    mark: Mark | None
    inverted: bool
    iif: str
    oif: str
    source: str
    destination: str
    rule: int | None
    text: str
    suppress: int = -1

    @property
    def refusal(self) -> str:
        """Return the kernel's error for a packet that it refuses, empty if it does not."""
        return _REFUSALS.get(self.action, "")


@dataclass(frozen=True, slots=True)
class FlowRun:
    """One flow of one experiment as it went; ``relied_from`` is the address its owner relies on."""

    owner: str
    name: str
    timelines: tuple[Timeline, ...]
    fate: Fate
    relied_from: str = ""


@dataclass(frozen=True, slots=True)
class Environment:
    """What the run depended on: kernel and tool versions."""

    kernel: str
    tools: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """All that one experiment recorded. ``lost`` lists what the observation missed.

    ``seconds`` is what it took from building the network to letting go of it.

    ``refused`` says why a software could not be installed beside the others. ``ran_as`` names the
    experiment that was run in its stead, because the kernel ends in the same state.
    """

    experiment: Experiment
    environment: Environment
    rules: tuple[Rule, ...]
    policy: tuple[PolicyRule, ...]
    flows: tuple[FlowRun, ...]
    conntrack: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    refused: str = ""
    seconds: float = 0.0
    ran_as: str = ""

    def flow(self, owner: str, name: str) -> FlowRun | None:
        """Find a flow by owner and name."""
        return next((f for f in self.flows if (f.owner, f.name) == (owner, name)), None)

    def rule(self, index: int | None) -> Rule | None:
        """Return a rule by its index."""
        return None if index is None else self.rules[index]
