"""cilium#36104: a pod's identity is Tailscale's bypass mark.

Thread   cilium/cilium#36104, seen 2024-11-21; open (pinned).
Parties  Cilium, Tailscale 1.102.3.
Symptom  Some pods cannot reach pods on other nodes over a mesh of Tailscale, others can, by the
         number of their identity.
Cause    Cilium writes a pod's identity into bits 16-31. Where its low byte is 0x08 Tailscale's
         rule 5210 takes the packet for one of tailscaled and looks up main instead of table 52.
Cure     Tailscale's marks moved out of Cilium's bits, as pull request 18695 would let one
         configure: 0x1000 and 0x2000 under 0x3000.
Cure     Another identity: 9 instead of 8 in its low byte.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import preferences

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "cilium#36104"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_tailscales_rule_for_its_own_sockets_takes_the_pods_packets(bug: Result) -> None:
    """Rule 5210 looks up main, whose default route is the uplink."""
    together = [run for run in bug.runs if not run.experiment.alone]
    assert preferences(together) == {(5210, "eth0")}
