"""Why a flow with intact marks ends otherwise than alone [pure]."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from operator import or_

from lab.marks import WORD
from lab.native.marktest import tests
from lab.native.rule import Rule
from lab.record import Dropped, FlowRun, Hit, Reading, Routed, Run, Timeline, Write
from lab.verdict.culprit import Place, overtaken_at
from lab.verdict.outcome import Culprit, Outcome
from lab.verdict.provenance import in_time

_TRANSLATES = re.compile(
    r"(?:-j|--jump) (?:MASQUERADE|SNAT|DNAT|REDIRECT)\b"
    r"|(?:^| )(?:masquerade|snat|dnat|redirect)(?: to | ip6? to |$| )"
)
_DIVERTS = re.compile(
    r"(?:-j|--jump) (?:REDIRECT|TPROXY|DNAT)\b|(?:^| )(?:redirect|tproxy|dnat)(?: |$)"
)
# What makes source validation stricter; 2 is the rp_filter that every interface has anyway.
_VALIDATES = re.compile(r"\b(?:src_valid_mark *= *1|rp_filter *= *1|accept_local *= *0)\b")


def classify(
    run: Run, base: FlowRun, seen: FlowRun, owner: str
) -> tuple[Outcome, str, Culprit | None]:
    """Tell a flow that took another way from one that was dropped or rewritten.

    ``base`` is the flow alone, ``seen`` the flow of ``run``. The culprit is None where no rule of
    another software explains it.
    """
    if seen.fate.arrived > base.fate.arrived:
        reason = f"let through: {seen.fate.arrived} of {seen.fate.sent} arrived"
        return Outcome.MISROUTED, reason, next(_let_through(run, base, seen, owner), None)
    before = (base.fate.arrived, base.fate.answered)
    after = (seen.fate.arrived, seen.fate.answered)
    wrongly = _misrouted(run, base, seen, owner) if after < before else None
    if wrongly is not None:
        reason, culprit = wrongly
        return Outcome.MISROUTED, reason, culprit
    if after == before:
        reason = f"seen from {seen.fate.seen_from} instead of {base.fate.seen_from}"
        return Outcome.REWRITTEN, reason, _renamed(run, base, seen, owner)
    culprit = (
        next(_drops(run, seen), None)
        or next(_validation(run, owner, 0) if _disbelieved(seen) else iter(()), None)
        or next(_hits(run, seen, owner, _DIVERTS), None)
    )
    return Outcome.DROPPED, seen.fate.end or "lost", culprit


def _misrouted(
    run: Run, base: FlowRun, seen: FlowRun, owner: str
) -> tuple[str, Culprit | None] | None:
    """Say how a flow was routed otherwise than alone, and by which rule; None if it was not."""
    turned = _turned(base, seen)
    if turned is None:
        return _departed(run, base, seen)
    was, now = turned
    by = _policy(run, now)
    if now.disbelieved:
        by = next(_validation(run, owner, now.mark), None)
        by = by or _marked_for(run, seen, owner, WORD, now)
    by = by or next(_hits(run, seen, owner, _DIVERTS), None)
    if by is not None and by.rule.software == owner:
        by = _marked_for(run, seen, owner, _tested(by.rule), now) or by
    return _instead(was, now), by


def _instead(was: Routed, now: Routed) -> str:
    if not now.refusal:
        return f"routed to {_way(now)} instead of {_way(was)}"
    who = "by source validation " if now.disbelieved else ""
    return f"refused {who}({now.refusal}) instead of routed to {_way(was)}"


def _renamed(run: Run, base: FlowRun, seen: FlowRun, owner: str) -> Culprit | None:
    """Find what gave packets another source address: a translation, one left out, or a route."""
    translated = next(_hits(run, seen, owner, _TRANSLATES), None)
    if translated is None:
        translated = overtaken_at(run, seen, owner, _translations(base))
    departed = None if translated else _departed(run, base, seen)
    return departed[1] if departed else translated


def _turned(base: FlowRun, seen: FlowRun) -> tuple[Routed, Routed] | None:
    """Find the first packet that was routed otherwise than alone, and where."""
    for was_line, line in _both(base, seen):
        for was, now in zip(_decisions(was_line), _decisions(line), strict=False):
            if (other := _otherwise(was, now, _unsent(line))) is not None:
                return other
    return None


def _both(base: FlowRun, seen: FlowRun) -> Iterator[tuple[Timeline, Timeline]]:
    """Pair each packet's timeline alone with that together."""
    alone = {(line.direction, line.ordinal): line for line in base.timelines}
    for line in in_time(seen.timelines):
        if (was := alone.get((line.direction, line.ordinal))) is not None:
            yield was, line


def _departed(run: Run, base: FlowRun, seen: FlowRun) -> tuple[str, Culprit | None] | None:
    """Say which route gave a packet another address to set out from, and by which rule.

    It is the first one's: the kernel keeps the source address when a mark makes it look again
    (net/ipv4/netfilter.c, ip_route_me_harder; net/ipv6/netfilter.c, ip6_route_me_harder). Where
    anything filtered the packets or their answers, the address did not matter.
    """
    if any(map(_filtered, seen.timelines)):
        return None
    for was, now in _both(base, seen):
        alone, together = _departure(was), _departure(now)
        if alone is None or together is None or alone[1] == together[1]:
            continue
        first, source = together
        reason = f"sent from {source} instead of {alone[1]}, as first routed: {first.route}"
        return reason, _policy(run, first)
    return None


def _departure(line: Timeline) -> tuple[Routed, str] | None:
    """Return the first route of a packet that a node itself sends, and the address it is from."""
    first = next((e for e in line.events if isinstance(e, Routed)), None)
    read = next(iter(line.readings()), None)
    if first is None or read is None or (first.node, first.hook) != (read.point.node, "output"):
        return None
    return first, read.source


def _decisions(line: Timeline) -> list[list[Routed]]:
    """List the decisions on a packet, those before and within one output hook together."""
    found: list[list[Routed]] = []
    for event in line.events:
        if isinstance(event, Routed):
            if found and event.hook == "output" and found[-1][0].hook == "output":
                found[-1].append(event)
            else:
                found.append([event])
    return found


def _otherwise(was: list[Routed], now: list[Routed], unsent: bool) -> tuple[Routed, Routed] | None:
    """Compare the decisions that counted: the last ones, by which a packet leaves.

    One that ended within output may not have come to its last: rules saw the device of the first.
    """
    if unsent and now[0].hook == "output":
        if _way(now[0]) != _way(was[0]):
            return was[0], now[0]
        return None if _way(now[-1]) in map(_way, was) else (was[-1], now[-1])
    return None if _way(was[-1]) == _way(now[-1]) else (was[-1], now[-1])


def _way(decision: Routed) -> str:
    """Say where a packet was sent: the device of a local route does not matter."""
    if decision.refusal:
        return decision.refusal
    local = decision.device == "lo" or decision.route.endswith("table local")
    return f"{decision.node} itself" if local else decision.device


def _unsent(line: Timeline) -> bool:
    return any(isinstance(event, Dropped) and event.hook == "output" for event in line.events)


def _filtered(line: Timeline) -> bool:
    """Tell whether a rule or a chain's policy ended a packet, no route that there was not."""
    ends = [event for event in line.events if isinstance(event, Dropped)]
    return any(
        end.rule is not None
        or end.hook not in ("prerouting", "postrouting")
        or end.reason.startswith("policy drop of ")
        for end in ends
    )


def _policy(run: Run, now: Routed) -> Culprit | None:
    if now.policy is None:
        return None
    rule = run.rule(run.policy[now.policy].rule)
    return None if rule is None else Culprit(rule, now.node, now.hook, 0, now.mark, now.mark)


def _tested(rule: Rule) -> int:
    """Return the bits of the packet mark that a rule tests."""
    return reduce(or_, (test.mark.mask for test in tests(rule.written) if test.field == "mark"), 0)


def _marked_for(run: Run, seen: FlowRun, owner: str, bits: int, now: Routed) -> Culprit | None:
    """Find the rule of another software that set the bits by which a packet came to its route."""
    for line in seen.timelines:
        if not any(event is now for event in line.events):
            continue
        before = itertools.takewhile(lambda event: event is not now, line.events)
        for event in reversed([e for e in before if isinstance(e, Write)]):
            rule = run.rule(event.rule)
            sets = event.field == "mark" and event.after & ~event.before & now.mark & bits
            if sets and rule is not None and rule.software != owner:
                return Culprit(
                    rule, event.node, event.hook, event.priority, event.before, event.after
                )
    return None


def _let_through(run: Run, base: FlowRun, seen: FlowRun, owner: str) -> Iterator[Culprit]:
    """Find what accepted, where the flow alone was dropped, a packet that was not dropped there."""
    for line in seen.timelines:
        if not any(isinstance(event, Dropped) for event in line.events):
            found = overtaken_at(run, replace(seen, timelines=(line,)), owner, _drop_places(base))
            if found is not None:
                yield found


def _drop_places(base: FlowRun) -> frozenset[Place]:
    return frozenset(
        (e.node, e.hook, e.priority)
        for line in base.timelines
        for e in line.events
        if isinstance(e, Dropped)
    )


def _translations(base: FlowRun) -> frozenset[Place]:
    """List where the source address of a packet alone was translated."""
    nat = {"postrouting": 100, "input": 100}
    return frozenset(
        (after.point.node, after.point.hook, nat[after.point.hook])
        for line in base.timelines
        for before, after in itertools.pairwise(line.readings())
        if before.source != after.source and after.point.hook in nat
    )


def _hits(run: Run, seen: FlowRun, owner: str, target: re.Pattern[str]) -> Iterator[Culprit]:
    """Find matches of other software's rules with a target of some kind."""
    for line in in_time(seen.timelines):
        for event in line.events:
            if isinstance(event, Hit):
                rule = run.rules[event.rule]
                if rule.software != owner and target.search(rule.written):
                    yield Culprit(
                        rule, event.node, event.hook, event.priority, event.before, event.after
                    )


def _disbelieved(seen: FlowRun) -> bool:
    return "ended on node " in seen.fate.end and "source validation" in seen.fate.end


def _validation(run: Run, owner: str, mark: int) -> Iterator[Culprit]:
    """Find the sysctl of another software that makes source validation refuse a packet."""
    for rule in run.rules:
        if rule.tool == "sysctl" and rule.software != owner and _VALIDATES.search(rule.written):
            yield Culprit(rule, "node", "prerouting", 0, mark, mark)


def _drops(run: Run, seen: FlowRun) -> Iterator[Culprit]:
    for line in in_time(seen.timelines):
        mark = 0
        for event in line.events:
            if isinstance(event, Reading):
                mark = event.mark
            elif isinstance(event, Dropped) and event.rule is not None:
                rule = run.rules[event.rule]
                yield Culprit(rule, event.node, event.hook, event.priority, mark, mark)
