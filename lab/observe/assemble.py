"""From passes to events: one packet's readings, hits and writes in one namespace, in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lab.native.bpf_text import Program
from lab.native.markwrite import writes
from lab.native.rule import Rule
from lab.observe.nftrace import Headers, Message
from lab.observe.passes import Pass
from lab.observe.probes import Noted
from lab.observe.xtrace import Line
from lab.points import Point
from lab.record import Dropped, Event, Hit, Reading, Verdict, Write

_ENDS = re.compile(r"(-j|--jump) (DROP|REJECT)\b")

NftRule = Callable[[int, str, str, int], int | None]
LegacyRule = Callable[[str, str, int], int | None]


Walked = tuple[tuple[Event, ...], int | None, Sequence[object]]
"""Events, the mark behind them, and the messages that told them: kept, so that ids stay theirs."""


@dataclass(frozen=True, slots=True)
class Lookups:
    """What the assembly asks about one namespace: ctmarks noted and rules installed.

    ``programs`` are the eBPF programs at its devices, with the numbers of their rules. ``read``
    collects which notes were met. Packets are read alike and meet the same rules again and again:
    ``readings``, ``walked`` (whole passes) and ``matched`` (single rules) keep one of each kind.
    """

    node: str
    rules: Sequence[Rule]
    ctmarks: Mapping[Noted, int | None]
    nft_rule: NftRule
    legacy_rule: LegacyRule
    programs: Sequence[tuple[int, Program]] = ()
    read: set[Noted] = field(default_factory=set)
    readings: dict[tuple[object, ...], Reading] = field(default_factory=dict)
    walked: dict[tuple[object, ...], Walked] = field(default_factory=dict)
    matched: dict[tuple[object, ...], Walked] = field(default_factory=dict)

    def ctmark(self, noted: Noted) -> int | None:
        """Return the ctmark with which a packet was noted, None where none was."""
        self.read.add(noted)
        return self.ctmarks.get(noted)

    def reading(self, point: Point, mark: int, ctmark: int | None, headers: Headers) -> Reading:
        """Return what was read of a packet at a point."""
        source, destination, outer = headers.source, headers.destination, headers.outer
        key = (id(point), mark, ctmark, source, destination, outer)
        found = self.readings.get(key)
        if found is None:
            found = Reading(point, mark, ctmark, source, destination, outer=outer)
            self.readings[key] = found
        return found


@dataclass(slots=True)
class _State:
    mark: int | None = None
    ctmark: int | None = None
    since: int = 0  # events from here on lie after the last reading


def events(passes: Iterable[Pass], lookups: Lookups) -> list[Event]:
    """Turn one packet's passes through one namespace into events.

    A change that no rule explains becomes a Write without a rule: tc, BPF, or the kernel.
    """
    found: list[Event] = []
    state = _State()
    for one in passes:
        if one.point is not None:
            _read(one, one.point, lookups, state, found)
        else:
            found.extend(_walked(one, lookups, state))
    return found


def _walked(one: Pass, lookups: Lookups, state: _State) -> tuple[Event, ...]:
    """Return the events of a pass through rules, of those met before without reading them again."""
    told = one.lines or one.messages
    key = (one.hook, one.priority, state.mark, *map(id, told))
    known = lookups.walked.get(key)
    if known is None:
        made = tuple((_legacy if one.lines else _nft)(one, lookups, state))
        known = lookups.walked[key] = made, state.mark, told
    state.mark = known[1]
    return known[0]


def _read(one: Pass, point: Point, lookups: Lookups, state: _State, found: list[Event]) -> None:
    mark = one.messages[0].mark
    headers = one.headers
    ctmark = lookups.ctmarks.get((id(point), headers.packet, mark, headers.outer))
    if state.mark is not None and state.mark != mark:
        found.extend(_late_write(found, state, mark, one, lookups.node))
    if ctmark is not None and state.ctmark is not None and ctmark != state.ctmark:
        since = found[state.since :]
        found[state.since :] = _with_ctmark_writes(since, state.ctmark, ctmark, one, lookups)
    state.mark = mark
    state.ctmark = ctmark if ctmark is not None else state.ctmark
    found.append(lookups.reading(point, mark, ctmark, headers))
    state.since = len(found)


def _late_write(
    found: list[Event], state: _State, mark: int, one: Pass, node: str
) -> Iterator[Write]:
    """Credit a terminal legacy rule that writes (TPROXY): it shows only at the next reading."""
    last = found[-1] if found else None
    rule = last.rule if isinstance(last, Hit) and last.verdict == "accept" else None
    hook, priority = (
        (last.hook, last.priority) if isinstance(last, Hit) else (one.hook, one.priority)
    )
    yield Write(node, hook, priority, "mark", state.mark or 0, mark, rule)


def _with_ctmark_writes(
    since: Sequence[Event], before: int, after: int, one: Pass, lookups: Lookups
) -> list[Event]:
    """Put a change of the ctmark between two readings where the rules that made it matched."""
    shares = _shares(since, before, after, lookups.rules)
    if not shares:
        write = Write(lookups.node, one.hook, one.priority, "ctmark", before, after, None)
        return [*since, write]
    found = list(since)
    for number, hit, was, word in reversed(shares):
        write = Write(lookups.node, hit.hook, hit.priority, "ctmark", was, word, hit.rule)
        following = since[number + 1] if number + 1 < len(since) else None
        both = isinstance(following, Write) and following.rule == hit.rule
        found.insert(number + 1 + both, write)  # the rule's write of the packet's mark is first
    return found


def _shares(
    since: Sequence[Event], before: int, after: int, rules: Sequence[Rule]
) -> list[tuple[int, Hit, int, int]]:
    """Compute each rule's share; if they do not add up, the last rule gets it all."""
    hits = [
        (number, event)
        for number, event in enumerate(since)
        if isinstance(event, Hit) and _writes_ctmark(rules[event.rule].written)
    ]
    found: list[tuple[int, Hit, int, int]] = []
    word: int | None = before
    for number, hit in hits:
        was, word = word, _ctmark_after(rules[hit.rule].written, hit.before, word)
        if was is not None and word is not None and was != word:
            found.append((number, hit, was, word))
    return found if found and word == after else [(*one, before, after) for one in hits[-1:]]


def _writes_ctmark(text: str) -> bool:
    return any(write.field == "ctmark" for write in writes(text))


def _ctmark_after(text: str, mark: int, ctmark: int | None) -> int | None:
    """Return the ctmark behind a rule that matched, None where its text does not tell."""
    for write in writes(text):
        if write.opaque or ctmark is None:
            return None
        old, other = (mark, ctmark) if write.field == "mark" else (ctmark, mark)
        new = (old & write.kept) ^ (other & write.copies) ^ write.xor
        mark, ctmark = (new, ctmark) if write.field == "mark" else (mark, new)
    return ctmark


def _nft(one: Pass, lookups: Lookups, state: _State) -> Iterator[Event]:
    for message in one.messages:
        key = (one.hook, one.priority, state.mark, id(message))
        known = lookups.matched.get(key)
        if known is None:
            made = tuple(_told(one, message, state.mark, lookups))
            known = lookups.matched[key] = made, message.mark, (message,)
        state.mark = known[1]
        yield from known[0]


def _told(one: Pass, message: Message, mark: int | None, lookups: Lookups) -> Iterator[Event]:
    """Yield the events of one message; ``mark`` is the packet's before it, as far as is known."""
    before = message.mark if mark is None else mark
    if message.kind == "policy" and message.verdict == "drop":
        reason = f"policy drop of {message.table} {message.chain}"
        yield Dropped(lookups.node, one.hook, one.priority, None, reason)
    if message.kind != "rule" or not message.handle:
        return
    rule = lookups.nft_rule(message.family, message.table, message.chain, message.handle)
    if rule is not None:
        yield from _hit(one, lookups.node, rule, before, message)
    elif before != message.mark:
        yield Write(lookups.node, one.hook, one.priority, "mark", before, message.mark, None)


def _hit(one: Pass, node: str, rule: int, before: int, message: Message) -> Iterator[Event]:
    yield Hit(node, one.hook, one.priority, rule, before, message.mark, message.verdict)
    if before != message.mark:
        yield Write(node, one.hook, one.priority, "mark", before, message.mark, rule)
    if message.verdict == "drop":
        yield Dropped(node, one.hook, one.priority, rule, "dropped by this rule")


def _legacy(one: Pass, lookups: Lookups, state: _State) -> Iterator[Event]:
    if state.mark is not None and state.mark != one.lines[0].mark:
        yield Write(
            lookups.node, one.hook, one.priority, "mark", state.mark, one.lines[0].mark, None
        )
    for index, line in enumerate(one.lines):
        following = one.lines[index + 1] if index + 1 < len(one.lines) else None
        after = line.mark if following is None else following.mark
        state.mark = after
        # An unconditional rule with a plain verdict is traced as the end of its chain, with its
        # own number (net/ipv4/netfilter/ip_tables.c, get_chainname_rulenum).
        rule = lookups.legacy_rule(line.table, line.chain, line.number)
        if rule is not None:
            yield from _legacy_hit(one, line, rule, after, following is None, lookups)


def _legacy_hit(
    one: Pass, line: Line, rule: int, after: int, last: bool, lookups: Lookups
) -> Iterator[Event]:
    ends = last and bool(_ENDS.search(lookups.rules[rule].written))
    verdict: Verdict = "drop" if ends else "accept" if last else "continue"
    yield Hit(lookups.node, one.hook, one.priority, rule, line.mark, after, verdict)
    if line.mark != after:
        yield Write(lookups.node, one.hook, one.priority, "mark", line.mark, after, rule)
    if ends:
        yield Dropped(lookups.node, one.hook, one.priority, rule, "dropped by this rule")
