"""firewalld#1564: a rich rule that keeps the bits of its mask instead of all others.

Thread   firewalld/firewalld#1564, seen 2026-05-22; open.
Parties  firewalld with nftables, any program with bits outside the rule's mask.
Symptom  A rich rule that marks 0x200/0x3f00 makes every other program's mark vanish from those
         packets.
Cause    firewalld emits 'mark set mark & 0x00003f00 ^ 0x200': it keeps the bits inside the mask
         instead of those outside.
Cure     The iptables backend, whose --set-xmark 0x200/0x3f00 is right.
Cure     The inverse of the mask, as the thread proposes.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import words

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "firewalld#1564"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_every_bit_outside_the_mask_is_erased(bug: Result) -> None:
    """0x1000000 comes in, 0x200 is what the socket's hook sees."""
    assert words(bug.runs, "node prerouting raw + 1")[0] == {0x1000000}
    assert words(bug.runs, "node input filter - 1")[0] == {0x200}
