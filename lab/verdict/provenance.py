"""Whose bits are on a packet: who last set each bit of the packet mark and of the ctmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from lab.native.marktest import restores, saves, tests
from lab.native.markwrite import writes
from lab.native.rule import Rule
from lab.record import FlowRun, Hit, Reading, Routed, Run, Timeline, Write
from lab.traffic.flow import Direction, Flow
from lab.verdict.outcome import Culprit


@dataclass(frozen=True, slots=True)
class Writer:
    """Who wrote a bit: the software, by a rule or by its socket."""

    software: str
    rule: Rule | None = None

    @property
    def words(self) -> str:
        """Name the rule or the socket."""
        if self.rule is None:
            return f"the socket of {self.software} (SO_MARK)"
        text = self.rule.listed or self.rule.written
        return f"{self.software} ({self.rule.where}: {text})"


Owners = dict[int, Writer | None]


@dataclass(slots=True)
class Origin:
    """The writer of each set bit; ``ctmark`` lasts from packet to packet of a flow.

    ``friends`` are pairs of software that share bits on purpose.
    """

    friends: frozenset[tuple[str, str]] = frozenset()
    mark: Owners = field(default_factory=dict)
    ctmark: Owners = field(default_factory=dict)


def false_matches(run: Run, flow: FlowRun) -> Iterator[tuple[Culprit, Direction]]:
    """Yield each rule that matched on bits which its own software did not set, and which way.

    Only conditions that hold because bits are set count. Bits that nobody was seen to write
    (tc, BPF) have no owner and are passed over.
    """
    origin = Origin(_friends(run))
    seen: set[tuple[int, str]] = set()
    for line in in_time(flow.timelines):
        origin.mark = {}
        for culprit, rule in _walk(run, flow, line, origin):
            if (rule, culprit.writer) not in seen:
                seen.add((rule, culprit.writer))
                yield culprit, line.direction


def refused_socket(run: Run, flow: Flow, seen: FlowRun) -> Culprit | None:
    """Find the policy rule that took a socket's mark for its own and let it send nothing."""
    if flow.sender != "node" or not seen.fate.end.startswith("sendto: "):
        return None
    for policy in run.policy:
        rule = run.rule(policy.rule)
        if policy.mark is None or rule is None or rule.software == seen.owner:
            continue
        refuses = policy.refusal and seen.fate.end.endswith(policy.refusal)
        if refuses and policy.mark.matches(flow.socket_mark):
            mark, socket = flow.socket_mark, f"the socket of {seen.owner} (SO_MARK)"
            return Culprit(rule, "node", "output", 0, mark, mark, socket, policy.mark.value)
    return None


def _friends(run: Run) -> frozenset[tuple[str, str]]:
    software = run.experiment.software
    pairs = {(s.title, o.title) for s in software for o in software if o.name in s.shares_with}
    return frozenset(pairs | {(other, one) for one, other in pairs})


def in_time(lines: Sequence[Timeline]) -> list[Timeline]:
    """Put requests and replies in the order in which they were sent."""
    return sorted(lines, key=lambda t: (t.ordinal, t.direction == "reply"))


def _walk(run: Run, flow: FlowRun, line: Timeline, origin: Origin) -> Iterator[tuple[Culprit, int]]:
    node = ""
    for event in line.events:
        if isinstance(event, Reading):
            if event.point.node != node:
                node = event.point.node
                origin.mark = {} if event.mark == 0 else origin.mark
            if event.mark:
                _settle(origin, event, flow.owner)
        elif isinstance(event, Hit):
            rule = run.rules[event.rule]
            if tests(rule.written):
                yield from _stranger(rule, event.rule, event.before, event, origin)
            _claim(rule, event, origin)
        elif isinstance(event, Write):
            _credit(run, origin, event)
        elif isinstance(event, Routed) and event.policy is not None:
            if event.hook == "output" and not origin.mark:
                origin.mark = _of_socket(event.mark, flow.owner)
            yield from _chosen(run, event, run.policy[event.policy].rule, origin)


def _chosen(
    run: Run, event: Routed, index: int | None, origin: Origin
) -> Iterator[tuple[Culprit, int]]:
    if index is not None:
        yield from _stranger(run.rules[index], index, event.mark, event, origin)


def _settle(origin: Origin, reading: Reading, owner: str) -> None:
    """Bits on a packet as it sets out come from the socket of the flow's owner."""
    if not origin.mark and reading.point.hook == "output" and not reading.outer:
        origin.mark = _of_socket(reading.mark, owner)


def _of_socket(mark: int, owner: str) -> Owners:
    return dict.fromkeys(_bits(mark), Writer(owner))


def _claim(rule: Rule, hit: Hit, origin: Origin) -> None:
    """Give a rule the bits that it sets, also those that were set already."""
    for write in writes(rule.written):
        set_here = write.sets & hit.after if write.field == "mark" and not write.copies else 0
        if set_here:
            origin.mark |= dict.fromkeys(_bits(set_here), _writer(rule))


def _credit(run: Run, origin: Origin, write: Write) -> None:
    rule = run.rule(write.rule)
    target = origin.mark if write.field == "mark" else origin.ctmark
    copied: Owners = {}
    if rule is not None and write.field == "mark" and restores(rule.written):
        copied = origin.ctmark
    elif rule is not None and write.field == "ctmark" and saves(rule.written):
        copied = origin.mark
    for bit in _bits(write.before & ~write.after):
        target.pop(bit, None)
    for bit in _bits(write.after & ~write.before):
        target[bit] = copied.get(bit, _writer(rule))


def _writer(rule: Rule | None) -> Writer | None:
    return None if rule is None else Writer(rule.software, rule)


def _stranger(
    rule: Rule, index: int, word: int, event: Hit | Routed, origin: Origin
) -> Iterator[tuple[Culprit, int]]:
    for test in tests(rule.written):
        owners = origin.mark if test.field == "mark" else origin.ctmark
        tested = test.bits(word if test.field == "mark" else sum(1 << bit for bit in owners))
        writers = [owners.get(bit) for bit in _bits(tested)]
        strangers = [w.words for w in writers if w and _is_stranger(w, rule, origin)]
        if not tested or len(strangers) < len(writers):
            continue
        priority = event.priority if isinstance(event, Hit) else 0
        after = event.after if isinstance(event, Hit) else event.mark
        words = " and ".join(sorted(set(strangers)))
        yield (
            Culprit(rule, event.node, event.hook, priority, word, after, words, tested),
            index,
        )


def _is_stranger(writer: Writer, rule: Rule, origin: Origin) -> bool:
    pair = (writer.software, rule.software)
    return writer.software != rule.software and pair not in origin.friends


@lru_cache(maxsize=4096)
def _bits(word: int) -> tuple[int, ...]:
    return tuple(bit for bit in range(32) if word >> bit & 1)
