"""amazon-vpc-cni-k8s#3563: the VPC CNI decides before kube-proxy has translated the address.

Thread   aws/amazon-vpc-cni-k8s#3563, seen 2026-01-02; open; pull request 3588 (1.23.0) mends it.
Parties  kube-proxy in nftables mode, AWS VPC CNI 1.22.4 with iptables.
Symptom  Pods of a secondary ENI cannot reach Services: their packets leave by eth0.
Cause    The VPC CNI marks what leaves the VPC before kube-proxy's nftables chain has translated
         the address, so it sees the Service's address, sets 0x80, and the policy rule for 0x80
         looks up main instead of the ENI's table.
Cure     Pull request 3588 (1.23.0): in nftables and behind the translation, at dstnat + 10.
Cure     The Services' network among those that are not translated
         (AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS).
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import preferences

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "amazon-vpc-cni-k8s#3563"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_the_packet_leaves_by_the_primary_eni(bug: Result) -> None:
    """Rule 1024 looks up main for 0x80; the pod's own rule comes after it."""
    together = [run for run in bug.runs if not run.experiment.alone]
    assert (1024, "eth0") in preferences(together)
