"""openwrt-passwall#4461: mwan3 adds its bits, and PassWall no longer knows its own mark.

Thread   Openwrt-Passwall/openwrt-passwall#4461, seen 2026-09-06; closed by pull request 4462.
Parties  PassWall, mwan3 2.12.2.
Symptom  Xray's connections to its server are redirected into Xray itself, over and over.
Cause    mwan3 adds its uplink's number 0x100/0x3f00 in mangle OUTPUT, so Xray's 0xff becomes 0x1ff
         and '--mark 255 -j RETURN', which compares all 32 bits, misses.
Cure     Pull request 4462: compare 0xff/0xff, only the bits that are PassWall's.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import words

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "openwrt-passwall#4461"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_mwan3_adds_its_bits_to_xrays_mark(bug: Result) -> None:
    """0xff as the packet sets out, 0x1ff where PassWall compares all 32 bits."""
    assert words(bug.runs, "node output first")[0] == {0xFF}
    assert words(bug.runs, "node output dstnat - 1")[0] == {0x1FF}
