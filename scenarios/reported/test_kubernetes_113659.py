"""kubernetes#113659: 51820 contains the bit for which kubelet drops packets.

Thread   kubernetes/kubernetes#113659, seen 2022-11-06; closed.
Parties  wg-quick, kubelet 1.18.6.
Symptom  The WireGuard tunnel dies the moment kubelet starts.
Cause    wg-quick marks WireGuard's packets with 51820 = 0xca6c, which contains 0x8000;
         KUBE-FIREWALL drops every packet with that bit.
Cure     Kubernetes 1.25 and later with IPTablesOwnershipCleanup: kubelet installs no such rule.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import ends

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "kubernetes#113659"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_nothing_leaves_the_node(bug: Result) -> None:
    """KUBE-FIREWALL drops WireGuard's packets in OUTPUT."""
    together = [run for run in bug.runs if not run.experiment.alone]
    assert {(node, hook) for node, hook, _ in ends(together)} == {("node", "output")}
    assert {v.culprit.before for v in bug.of("wg-quick", "tunnel") if v.culprit} == {51820}
