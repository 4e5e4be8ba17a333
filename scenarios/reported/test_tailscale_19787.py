"""tailscale#19787: Tailscale saves Mullvad's bits, and Mullvad compares the whole connection mark.

Thread   tailscale/tailscale#19787, seen 2026-05-18; open.
Parties  Tailscale 1.102.3 with iptables, Mullvad 2026.4.
Symptom  Split tunnelling of Mullvad stops: excluded programs are cut off once Mullvad reconnects
         while tailscaled runs.
Cause    Mullvad's 0x6d6f6c65 has bits in 0xff0000. Tailscale saves them to the connection, whose
         mark becomes 0x6f0f41 instead of 0xf41; Mullvad compares all 32 bits. The chain registered
         last runs first, so it happens only where Mullvad came last.
Cure     Tailscaled without the save, as up to 1.94.
Cure     Tailscaled restarted after Mullvad has connected: the chain registered last runs first.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import words

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "tailscale#19787"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_the_connection_mark_gets_tailscales_bits(bug: Result) -> None:
    """0xf41 with 0x6f0000 of 0x6d6f6c65 saved into it: Mullvad's own comparison misses."""
    assert words(bug.runs, "node output mangle + 1", "ctmark")[0] == {0x6F0F41}
