"""Whether runs of an entry alone bear out what it claims about bits [pure].

An entry claims that its named marks appear on packets, and, if it is bitwise, that its rules
change no bits but its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lab.marks import WORD, Mark
from lab.record import Reading, Run, Write
from lab.registry.software import Software
from lab.traffic.flow import Field


@dataclass(frozen=True, slots=True)
class Claim:
    """A mark that flows must show; without a name any bit of the allocation's mask will do."""

    field: Field
    name: str
    mark: Mark
    unseen: str = ""

    def shown_by(self, word: int) -> bool:
        """Tell whether a packet mark or ctmark carries it."""
        return self.mark.matches(word) if self.name else bool(word & self.mark.mask)

    def __str__(self) -> str:
        return f"{self.field} {self.mark}" + (f" ({self.name})" if self.name else "")


def claims(software: Software) -> tuple[Claim, ...]:
    """List what an entry claims to appear on packets, with its reason where no flow shows it."""
    found: list[Claim] = []
    for allocation in software.allocations:
        found += [
            Claim(allocation.field, v.name, v.mark, allocation.unseen) for v in allocation.values
        ]
        if not allocation.values:
            bits = Mark(allocation.mask, allocation.mask)
            found.append(Claim(allocation.field, "", bits, allocation.unseen))
    return tuple(found)


def seen(software: Software, runs: Iterable[Run]) -> tuple[Claim, ...]:
    """List the claims that at least one packet of its own flows bears out."""
    words = set().union(*(set(_words(run, software)) for run in runs))
    return tuple(
        claim
        for claim in claims(software)
        if any(field == claim.field and claim.shown_by(word) for field, word in words)
    )


def not_seen(software: Software, runs: Iterable[Run]) -> tuple[Claim, ...]:
    """List the claims that no packet bears out and for which the entry gives no reason."""
    shown = seen(software, runs)
    return tuple(c for c in claims(software) if c not in shown and not c.unseen)


def strays(software: Software, runs: Iterable[Run]) -> tuple[str, ...]:
    """List the writes by which a bitwise entry changed bits that it does not own."""
    if software.style != "bitwise":
        return ()
    return tuple(dict.fromkeys(text for run in runs for text in _strays(software, run)))


def _words(run: Run, software: Software) -> Iterator[tuple[Field, int]]:
    for flow in run.flows:
        if flow.owner != software.title:
            continue
        for line in flow.timelines:
            for event in line.events:
                yield from _event_words(event)


def _event_words(event: object) -> Iterator[tuple[Field, int]]:
    if isinstance(event, Reading):
        yield "mark", event.mark
        if event.ctmark is not None:
            yield "ctmark", event.ctmark
    elif isinstance(event, Write):
        yield event.field, event.after


def _strays(software: Software, run: Run) -> Iterator[str]:
    for flow in run.flows:
        for line in flow.timelines:
            for event in line.events:
                if isinstance(event, Write):
                    yield from _stray(software, run, event)


def _stray(software: Software, run: Run, write: Write) -> Iterator[str]:
    rule = run.rule(write.rule)
    foreign = (write.before ^ write.after) & ~software.owned(write.field) & WORD
    if rule is not None and rule.software == software.title and foreign:
        yield (
            f"{rule} changed {write.field} bits {foreign:#x} that no allocation has "
            f"({write.before:#x} -> {write.after:#x})"
        )
