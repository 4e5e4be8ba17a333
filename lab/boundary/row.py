"""What happens to a mark at one boundary: a row of the table, and what a run of it showed [pure].

A row is native text: what is built (one command a line, each behind the node it runs on), what is
sent, and which marks are expected at which places. Places are written ``NODE WHERE``::

    b prerouting -301     packets at an inet hook; without a priority as late as the mark can change
    b ingress v1          packets at a device's netdev hook (``egress`` alike)
    b bridge forward      packets at a bridge hook
    b tap v1 out          frames at a packet socket on the device
    b socket 5000         datagrams as the receiving socket is told their marks
    b accepted            the mark of the socket that accept() returned
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from lab.boundary.acts import Act
from lab.marks import WORD
from lab.traffic.flow import Family

Word = Literal["packet mark", "ctmark", "socket mark"]
Network = Literal["pair", "router"]


class Change(Enum):
    """What became of a mark between the first and the last place of a row."""

    KEPT = "kept"
    ERASED = "erased"
    INHERITED = "inherited"
    """Another packet, socket or conntrack entry took it over."""
    FRESH = "fresh"
    """The other packet, socket or conntrack entry began with zero."""
    REWRITTEN = "rewritten"
    DROPPED = "dropped"
    IGNORED = "ignored"
    """The rule or option that should have set it had no effect."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The marks at one place: all different ones in rising order; none if nothing came by.

    ``match`` says in nft's words which packets are meant, where not those of the row. With
    ``each`` the marks are those of every packet in the order of arrival.
    """

    at: str
    marks: tuple[int, ...]
    word: Word = "packet mark"
    match: str = ""
    each: bool = False

    @property
    def node(self) -> str:
        """Return the node it is taken on."""
        return self.at.partition(" ")[0]

    @property
    def where(self) -> tuple[str, ...]:
        """Return the rest of the place, in words."""
        return tuple(self.at.split()[1:])

    def __str__(self) -> str:
        return f"{self.at}: {self.word} {words(self.marks)}"


def see(at: str, *marks: int, word: Word = "packet mark", match: str = "") -> Reading:
    """Expect these marks, and no others, at one place; none means that nothing comes by."""
    return Reading(at, marks, word, match)


def words(marks: tuple[int, ...]) -> str:
    """Print marks; ``-`` where no packet was seen."""
    return ", ".join(f"{mark:#x}" for mark in marks) or "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One boundary. ``needs`` name features, ``source`` is where the kernel decides it.

    A line number there is that of Debian's Linux 6.12.107; elsewhere the function is named.

    ``match`` says in nft's words which packets are meant.
    """

    name: str
    change: Change
    readings: tuple[Reading, ...]
    reason: str
    source: str
    built: str = ""
    sent: tuple[Act, ...] = ()
    needs: tuple[str, ...] = ()
    match: str = "udp dport 5000"
    network: Network = "pair"
    family: Family = "ipv4"

    def inconsistency(self) -> str:
        """Say why the expected marks cannot mean ``change``; empty if they can."""
        before, after = self.readings[0].marks, self.readings[-1].marks
        fits = {
            Change.KEPT: before == after and any(before),
            Change.INHERITED: before == after and any(before),
            Change.ERASED: any(before) and after == (0,),
            Change.FRESH: any(before) and after == (0,),
            Change.REWRITTEN: before != after and any(after),
            Change.DROPPED: bool(before) and not after,
            Change.IGNORED: before == after and bool(before),
        }
        if not fits[self.change]:
            return f"{self.name}: {words(before)} then {words(after)} is not {self.change.value}"
        wrong = [m for r in self.readings for m in r.marks if not 0 <= m <= WORD]
        return f"{self.name}: {wrong[0]:#x} does not fit in 32 bits" if wrong else ""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run of a row showed: the marks at each of its places, on one kernel."""

    row: str
    kernel: str
    seen: tuple[Reading, ...]
    skipped: str = ""
    """Why it could not run here; ``seen`` is empty then."""

    def by_place(self) -> dict[str, str]:
        """Map each place to the marks seen there."""
        return by_place(self.seen)


def by_place(readings: tuple[Reading, ...]) -> dict[str, str]:
    """Map places to marks, to compare what was expected with what was seen."""
    return {
        f"{r.at}, {r.word}" + (f" of {r.match}" if r.match else ""): words(r.marks)
        for r in readings
    }
