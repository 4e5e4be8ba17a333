"""netbird#4575: NetBird's src_valid_mark makes Cilium's proxied packets martians.

Thread   netbirdio/netbird#4575, seen 2025-10-02; open.
Parties  NetBird 0.77.1, Cilium 1.20.
Symptom  The node is reachable, but DNS and services behind Cilium's proxy time out.
Cause    NetBird sets src_valid_mark: the look-up that validates a pod's address finds table 2004
         by Cilium's 0x200/0xf00, whose route is local. The packet is dropped as a martian before
         any rule sees it.
Cure     Sysctl net.ipv4.conf.all.src_valid_mark=0.
Cure     Accept_local=1 on the pods' devices (cilium 48928).
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import ends

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "netbird#4575"


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
