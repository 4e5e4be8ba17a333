"""podkop#275: mwan3, moved out of the bits of Podkop, adds one that its comparison does not expect.

Thread   itdoginfo/podkop#275, seen 2025-12-20; closed by pull request 284.
Parties  Podkop, mwan3 2.12.2 with another mask.
Symptom  Podkop and mwan3 fail each other; whoever moves mwan3's mask out of the way finds that
         Podkop has stopped.
Cause    0x105 lies in mwan3's 0x3f00, so mwan3 takes Podkop's packets for classified ones. With
         the mask moved to 0x3f0000 mwan3 adds 0x10000, and Podkop, which compares all 32 bits
         with 0x105, misses.
Cure     Pull request 284 and what followed it: a bit outside of mwan3's mask, 0x100000, set and
         compared under a mask of its own.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import words

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "podkop#275"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_mwan3_adds_its_uplink_to_podkops_mark(bug: Result) -> None:
    """0x105 becomes 0x10105, which is not 0x105."""
    assert words(bug.runs, "node prerouting dstnat - 1")[0] == {0x10105}
