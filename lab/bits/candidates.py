"""Which bits a new program may use beside others, best first [pure]."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.bits.meets import KINDS, Meeting, meetings
from lab.lint.hurt import Owners
from lab.marks import WORD, bit_ranges
from lab.registry.software import Software
from lab.report.entries import argument

_COSTS = {"claims": 1000, "tests": 100, "magic": 10, "clears": 1, "compares": 1}
_KERNEL = 0xFF
"""The kernel's own MLD and IGMP reports leave with marks such as 0xd4 in the lowest byte."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Some neighbouring bits and what they meet.

    ``meetings`` are beside the partners themselves, ``releases`` beside other releases and modes
    of theirs, ``elsewhere`` in the rest of the registry. ``cost`` orders candidates; lower is
    better.
    """

    mask: int
    meetings: tuple[Meeting, ...]
    releases: tuple[Meeting, ...]
    elsewhere: tuple[Meeting, ...]

    @property
    def free(self) -> bool:
        """Tell whether no partner claims a bit or acts on it."""
        return not any(meeting.kind in ("claims", "tests") for meeting in self.meetings)

    @property
    def cost(self) -> tuple[int, int, int, int]:
        """Rank by the partners first, then by everybody else, then by the kernel's own marks."""
        kernel = (self.mask & _KERNEL).bit_count()
        others = 2 * _cost(self.releases) + _cost(self.elsewhere)
        return _cost(self.meetings), others, kernel, self.mask

    def of_kind(self, kind: str) -> tuple[Meeting, ...]:
        """Return the meetings of one kind."""
        return tuple(meeting for meeting in self.meetings if meeting.kind == kind)

    def __str__(self) -> str:
        return f"{self.mask:#010x} (bit{'s' * (self.mask.bit_count() > 1)} {bit_ranges(self.mask)})"


def candidates(
    partners: Sequence[Software], registry: Sequence[Software], width: int = 1
) -> tuple[Candidate, ...]:
    """Rank every run of ``width`` neighbouring bits beside the partners."""
    names = {entry.name for entry in partners}
    same = [e for group in Owners(tuple(registry)).ranked for e in group if e.name in names]
    rest = [entry for entry in defaults(registry) if entry.name not in names]
    near = [m for entry in partners for m in meetings(entry, entry.name)]
    past = [m for e in same if e not in partners for m in meetings(e, argument(e))]
    far = [m for entry in rest for m in meetings(entry, entry.name)]
    masks = ((1 << width) - 1 << low for low in range(33 - width))
    found = (Candidate(mask, _met(near, mask), _met(past, mask), _met(far, mask)) for mask in masks)
    return tuple(sorted(found, key=lambda candidate: candidate.cost))


def everywhere(ranked: Iterable[Candidate]) -> tuple[Meeting, ...]:
    """Return what every bit meets: whole-word writes and comparisons."""
    first = next(iter(ranked))
    return tuple(meeting for meeting in first.meetings if meeting.bits == WORD)


def defaults(registry: Sequence[Software]) -> tuple[Software, ...]:
    """Return the entry that each bare name means."""
    return tuple(releases[0] for releases in Owners(tuple(registry)).ranked)


def _met(found: Iterable[Meeting], mask: int) -> tuple[Meeting, ...]:
    met = [meeting for meeting in found if meeting.bits & mask]
    return tuple(sorted(met, key=lambda meeting: (KINDS.index(meeting.kind), meeting.who)))


def _cost(met: Iterable[Meeting]) -> int:
    """Count each software once for each way in which it is met."""
    return sum(_COSTS[kind] for kind, _ in {(meeting.kind, meeting.who) for meeting in met})
