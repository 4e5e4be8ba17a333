"""Whose bits a ruleset takes for its own, told from what it writes and tests [pure]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.errors import UsageError
from lab.lint.model import Subject
from lab.marks import WORD, Mark, bit_ranges
from lab.traffic.flow import Field


@dataclass(frozen=True, slots=True)
class Owned:
    """The masks of the bits that are taken to be a ruleset's own, and why."""

    mark: int
    ctmark: int
    reason: str
    whole: bool = False

    def masks(self) -> Iterator[tuple[Field, int]]:
        """Yield both fields with their masks."""
        yield "mark", self.mark
        yield "ctmark", self.ctmark

    def __str__(self) -> str:
        packet = f"bits {bit_ranges(self.mark)} of the packet mark" if self.mark else ""
        connection = f"bits {bit_ranges(self.ctmark)} of the conntrack mark" if self.ctmark else ""
        told = " and ".join(filter(None, (packet, connection))) or "no bits"
        return f"{told} ({self.reason})"


def owned(subject: Subject, owns: str = "", *, cleared: bool = True) -> Owned:
    """Return the bits that rules write or test; ``owns`` (``value/mask`` or a mask) overrides.

    Without ``cleared`` bits count that rules set or test, not those that they only clear.
    """
    found = {field: _mask(subject, field, cleared) for field in ("mark", "ctmark")}
    writers = sum(bool(line.writes) for line in subject.lines)
    testers = sum(bool(line.tests) for line in subject.lines)
    if not owns:
        reason = f"written by {_rules(writers)}, tested by {_rules(testers)}"
        return Owned(found["mark"], found["ctmark"], reason, found["mark"] == WORD)
    try:
        mark = Mark.parse(owns)
    except ValueError as problem:
        raise UsageError(f"--owns {owns!r}: {problem}") from None
    mask = mark.mask if "/" in owns else mark.value
    return Owned(mask, mask if found["ctmark"] else 0, "as given by --owns", mask == WORD)


def _rules(count: int) -> str:
    return f"{count} rule{'s' * (count != 1)}"


def _mask(subject: Subject, field: str, cleared: bool) -> int:
    mask = copied = 0
    for line in subject.lines:
        for write in line.writes:
            if write.field == field:
                copied |= write.copies
                if not write.copies:
                    mask |= write.changes if cleared else write.sets
        for test in line.tests:
            if test.field == field:
                mask |= test.mark.mask
    return mask | copied if cleared or not mask else mask
