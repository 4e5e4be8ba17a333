"""tailscale#11803: the first packet passes, later ones lose their mark.

Thread   tailscale/tailscale#11803, seen 2024-04-19; open; pull request 19725 (1.100.0) mends the
         byte order.
Parties  Tailscale 1.98 with nftables, GL.iNet policy routing.
Symptom  The first packet of a connection passes, all later ones are lost.
Cause    'ct state established meta mark set ct mark & 0xff00' has its bytes the wrong way round
         and no condition: from the second packet on it stores 0 over the router's 0x8000/0xf000.
Cure     Tailscale 1.100 and later: the right bytes, and only for connections that have the mark.
Cure     The iptables backend, whose restore is masked.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import words

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "tailscale#11803"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_only_the_first_packet_keeps_its_mark(bug: Result) -> None:
    """From the second packet on the connection is established, and 0 is stored over 0x8000."""
    assert words(bug.runs, "node prerouting last") == [{0x8000}, {0}, {0}]
