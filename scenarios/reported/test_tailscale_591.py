"""tailscale#591: Calico clears Tailscale's bits before the masquerade that asks for them.

Thread   tailscale/tailscale#591, seen 2022-10-15 to 2024-12-12; open.
Parties  Tailscale 1.102.3 with iptables, Calico 3.20 with iptables.
Symptom  Hosts behind a subnet router on a Calico node do not answer tailnet peers: nothing is
         masqueraded.
Cause    Calico's mask 0xffff0000 contains Tailscale's 0xff0000. Calico clears its scratch bits in
         mangle POSTROUTING, and with them Tailscale's 0x40000, before nat POSTROUTING asks for it.
Cure     Calico's iptablesMarkMask moved to 0xff000000, out of Tailscale's byte (the workaround of
         the thread).
Cure     Calico 3.30 and later: bit 18 means drop, and is in no mask that is cleared.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import words

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "tailscale#591"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_the_mark_is_there_until_calicos_mangle_postrouting(bug: Result) -> None:
    """0x40000 before Calico's rule, nothing of it before nat POSTROUTING asks for it."""
    before = words(bug.runs, "node postrouting mangle - 1")
    after = words(bug.runs, "node postrouting srcnat - 1")
    assert {word & 0xFF0000 for word in before[0] if word is not None} == {0x40000}
    assert {word & 0xFF0000 for word in after[0] if word is not None} == {0}
