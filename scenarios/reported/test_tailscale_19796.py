"""tailscale#19796: src_valid_mark makes every local table that a mark selects a martian's.

Thread   tailscale/tailscale#19796, seen 2026-05-19; open.
Parties  Tailscale 1.98 with iptables, nikki (mihomo with TPROXY).
Symptom  The router itself reaches the internet; what the LAN sends through the proxy is lost,
         without a log line or a counter.
Cause    With src_valid_mark the look-up that validates the source carries the packet's mark as
         well: it finds the proxy's own 'local default dev lo', a local source, and so a martian,
         whatever rp_filter says.
Cure     Src_valid_mark left at 0 (--netfilter-mode=nodivert).
Cure     Accept_local=1 on the device by which the packets come in.
Cure     Tailscale 1.96 and earlier, which leave the sysctl alone.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import ends

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "tailscale#19796"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_the_packets_are_refused_as_martians(bug: Result) -> None:
    """After PREROUTING, by the look-up that validates the source: no rule drops them."""
    together = [run for run in bug.runs if not run.experiment.alone]
    ((node, hook, reason),) = ends(together)
    assert (node, hook) == ("node", "prerouting")
    assert "source validation refused it" in reason
