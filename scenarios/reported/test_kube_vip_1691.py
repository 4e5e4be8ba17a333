"""kube-vip#1691: Tailscale restores bit 16 of kube-vip's connections, and nothing else.

Thread   kube-vip/kube-vip#1691, seen 2026-08-16; merged.
Parties  Tailscale 1.102.3 with nftables (src_valid_mark left at 0, see tailscale#19796), kube-vip
         with WireGuard.
Symptom  What comes in through kube-vip's tunnel is answered by the node's uplink.
Cause    kube-vip's mark for the connection, the port plus 0x10000, has bit 16. Tailscale takes
         that for its own, restores 0x10000 alone, and the policy rule for 0x1ca6c misses.
Cure     Pull request 1691: the connection keeps the port's number alone, 0xca6c; only the packet
         mark has the bit.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import words

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "kube-vip#1691"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_of_the_connections_mark_one_bit_comes_back(bug: Result) -> None:
    """Tailscale's byte of 0x1ca6c is 0x10000: the policy rule for the whole word misses."""
    assert words(bug.runs, "node prerouting last", direction="reply")[0] == {0x10000}
