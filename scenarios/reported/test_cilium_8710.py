"""cilium#8710: the number of Cilium's key for IPsec is the bit by which kubelet drops.

Thread   cilium/cilium#8710, seen 2019-07-29; merged.
Parties  Cilium with IPsec and key 9, kubelet 1.18.6.
Symptom  With a key number of 8 and more nothing that is encrypted leaves the node.
Cause    The key's number stands in bits 12-15, which are Kubernetes' 0x4000 and 0x8000:
         KUBE-FIREWALL drops the encrypted packet, whose mark is 0x9e00.
Cure     Pull request 8710: what is marked for encryption is accepted at the top, before
         Kubernetes' chains.
Cure     Kubernetes 1.25 and later with IPTablesOwnershipCleanup: kubelet installs no such rule.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import ends

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "cilium#8710"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_kubelets_chain_drops_what_is_encrypted(bug: Result) -> None:
    """In OUTPUT, by a rule."""
    together = [run for run in bug.runs if not run.experiment.alone]
    assert {(node, hook) for node, hook, _ in ends(together)} == {("node", "output")}
