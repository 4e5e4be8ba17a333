"""Who is to blame where an owner's bits differ from its run alone [pure]."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.record import Dropped, Event, FlowRun, Hit, Reading, Run, Timeline, Write
from lab.traffic.flow import Expectation, Field
from lab.verdict.outcome import Culprit
from lab.verdict.provenance import in_time

Words = set[int | None]


def foreign_write(
    run: Run, seen: FlowRun, expectation: Expectation, owner: str, right: Words
) -> Culprit | None:
    """Find the write of another software on the first packet that went wrong.

    Without one, an earlier such write of the flow is behind it: a mark that was never saved is
    not restored. ``right`` holds the masked words of the run alone.
    """
    earlier: list[Culprit] = []
    for line in in_time(seen.timelines):
        if _covers(line, expectation) and wrong(line.readings(), expectation, right):
            direct = list(_writes(run, _before(line, expectation), expectation, owner))
            same = [culprit for field, culprit in direct if field == expectation.field]
            if direct:
                return same[-1] if same else direct[-1][1]
        earlier += [culprit for _, culprit in _writes(run, line.events, expectation, owner)]
    return earlier[0] if earlier else None


def lost_with(
    run: Run, seen: FlowRun, expectation: Expectation, owner: str, right: Words
) -> tuple[int, Culprit] | None:
    """Find a packet that was lost before the point with bits that another software had written.

    Returns the masked word with which it was lost, and the write that spoilt it.
    """
    for line in in_time(seen.timelines):
        if not _covers(line, expectation):
            continue
        events = _until_lost(line)
        written = [e for e in events if isinstance(e, Write) and e.field == expectation.field]
        word = written[-1].after & expectation.mark.mask if written else None
        if word is None or word in right:
            continue
        for field, culprit in reversed(list(_writes(run, events, expectation, owner))):
            if field == expectation.field and culprit.before & expectation.mark.mask in right:
                return word, culprit
    return None


def _until_lost(line: Timeline) -> Sequence[Event]:
    """Return what happened to a packet up to its end; nothing if it was not lost."""
    ends = (n for n, e in enumerate(line.events) if isinstance(e, Dropped))
    return line.events[: next(ends, 0)]


def _covers(line: Timeline, expectation: Expectation) -> bool:
    return line.direction == expectation.direction and expectation.covers(line.ordinal)


def _before(line: Timeline, expectation: Expectation) -> tuple[Event, ...]:
    until = [
        number
        for number, event in enumerate(line.events)
        if isinstance(event, Reading) and event.at(expectation)
    ]
    return line.events[: until[-1]] if until else line.events


def _writes(
    run: Run, events: Sequence[Event], expectation: Expectation, owner: str
) -> Iterator[tuple[Field, Culprit]]:
    for event in events:
        if not isinstance(event, Write) or event.rule is None:
            continue
        rule = run.rules[event.rule]
        touched = (event.before ^ event.after) & expectation.mark.mask
        if rule.software != owner and touched:
            culprit = Culprit(
                rule, event.node, event.hook, event.priority, event.before, event.after
            )
            yield event.field, culprit


def wrong(read: Sequence[Reading], expectation: Expectation, right: Words) -> bool:
    """Tell whether a packet was read at the point with a word that the run alone never shows."""
    for reading in read:
        word = reading.word(expectation.field)
        masked = None if word is None else word & expectation.mark.mask
        if reading.at(expectation) and masked not in right:
            return True
    return False


def erased(seen: FlowRun, expectation: Expectation, right: Words) -> str:
    """Say at which crossing before the point a packet that went wrong lost the bits, if at one."""
    mask = expectation.mark.mask
    for line in seen.timelines:
        read = line.readings()
        if not wrong(read, expectation, right):
            continue
        until = next(n for n, r in enumerate(read) if r.at(expectation))
        for last, first in itertools.pairwise(read[: until + 1]):
            if last.point.node != first.point.node and last.mark & mask and not first.mark & mask:
                return f"erased on the way from {last.point.node} to {first.point.node}"
    return ""


Place = tuple[str, str, int]
"""A node, a hook and a priority: one table or chain, of which a verdict is the end."""


def overtaken(
    alone: Run, base: FlowRun, run: Run, seen: FlowRun, expectation: Expectation, owner: str
) -> Culprit | None:
    """Find a rule of another software that accepted a packet before the owner's could mark it."""
    for line, was in zip(in_time(seen.timelines), in_time(base.timelines), strict=False):
        if not _covers(line, expectation):
            continue
        writes = _owner_writes(alone, _before(was, expectation), expectation, owner)
        places = frozenset((w.node, w.hook, w.priority) for w in writes)
        events = _before(line, expectation)
        culprit = overtaken_at(
            run, replace(seen, timelines=(replace(line, events=events),)), owner, places
        )
        if culprit is not None:
            return culprit
    return None


def overtaken_at(run: Run, seen: FlowRun, owner: str, places: frozenset[Place]) -> Culprit | None:
    """Find a rule of another software that accepted a packet at one of these places."""
    for line in in_time(seen.timelines):
        for event in line.events:
            if not isinstance(event, Hit) or event.verdict != "accept":
                continue
            rule = run.rules[event.rule]
            if rule.software != owner and (event.node, event.hook, event.priority) in places:
                return Culprit(
                    rule, event.node, event.hook, event.priority, event.before, event.after
                )
    return None


def _owner_writes(
    run: Run, events: Sequence[Event], expectation: Expectation, owner: str
) -> Iterator[Write]:
    for event in events:
        if isinstance(event, Write) and event.rule is not None:
            touched = (event.before ^ event.after) & expectation.mark.mask
            if touched and run.rules[event.rule].software == owner:
                yield event
