"""What a new program's bits would meet in one registry entry [pure]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lab.lint.hurt import described
from lab.lint.model import Line
from lab.lint.run import entry_subjects
from lab.lint.wording import FIELD
from lab.marks import WORD
from lab.registry.software import Software

Kind = Literal["claims", "tests", "magic", "clears", "compares"]
"""Worst first: whose bits they are, who acts on them, whose word holds them, who erases them, and
whose comparison of the whole word misses when they are set."""
KINDS: tuple[Kind, ...] = ("claims", "tests", "magic", "clears", "compares")


@dataclass(frozen=True, slots=True)
class Meeting:
    """One thing that some bits meet: who, how, which bits, and the rule where there is one."""

    kind: Kind
    who: str
    bits: int
    what: str
    rule: str = ""


def meetings(entry: Software, who: str) -> tuple[Meeting, ...]:
    """Return all that a new program's bits may meet in an entry, each once."""
    found = dict.fromkeys((*_claims(entry, who), *_rules(entry, who)))
    kept: dict[tuple[Kind, int, str], Meeting] = {}
    for meeting in found:
        kept.setdefault((meeting.kind, meeting.bits, meeting.what), meeting)
    return tuple(kept.values())


def _claims(entry: Software, who: str) -> Iterator[Meeting]:
    for allocation in entry.allocations:
        if allocation.mask != WORD:
            what = f"calls {described(allocation.mask)} of the {FIELD[allocation.field]} its own"
            yield Meeting("claims", who, allocation.mask, what)
        for value in allocation.values:
            if value.mark.mask == WORD and value.mark.value:
                what = f"its {FIELD[allocation.field]} {value.name} is {value.mark}"
                yield Meeting("magic", who, value.mark.value, what)


def _rules(entry: Software, who: str) -> Iterator[Meeting]:
    for subject in entry_subjects(entry):
        for line in subject.of("iptables", "nft", "policy"):
            yield from _tests(line, who)
            yield from _writes(line, who)


def _tests(line: Line, who: str) -> Iterator[Meeting]:
    for test in line.tests:
        mark, field = test.mark, FIELD[test.field]
        if mark.mask != WORD:
            yield Meeting("tests", who, mark.mask, f"tests the {field} for {mark}", line.text)
            continue
        yield Meeting("compares", who, WORD, f"compares the whole {field}", line.text)
        if mark.value:
            what = f"its whole {field} {mark.value:#x} contains it"
            yield Meeting("magic", who, mark.value, what, line.text)


def _writes(line: Line, who: str) -> Iterator[Meeting]:
    for write in line.writes:
        erased, field = line.erased(write), FIELD[write.field]
        if erased:
            how = "the whole" if write.whole else f"{described(erased)} of the"
            yield Meeting("clears", who, erased, f"overwrites {how} {field}", line.text)
        if write.whole and write.xor and not write.copies:
            what = f"its whole {field} {write.xor:#x} contains it"
            yield Meeting("magic", who, write.xor, what, line.text)
