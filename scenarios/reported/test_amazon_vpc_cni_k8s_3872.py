"""amazon-vpc-cni-k8s#3872: a masked CONNMARK restore written in nft stores the whole word.

Thread   aws/amazon-vpc-cni-k8s#3872, seen 2026-09-10; open; fix in pull request 3875.
Parties  AWS VPC CNI 1.23.0 (nftables), Calico 3.32.1 (eBPF).
Symptom  After the upgrade every pod is cut off; Calico's own rule drops what lacks its mark.
Cause    The masked CONNMARK restore became 'meta mark set ct mark & 0x80', which stores the whole
         word: Calico's 0x01000000, set by its eBPF program, is gone before FORWARD tests it.
Cure     Back to 1.22.4, which restores with --nfmask 0x80 --ctmask 0x80.
Cure     Pull request 3875: two rules that set or clear bit 7 and nothing else.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import words

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "amazon-vpc-cni-k8s#3872"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_every_packet_has_lost_the_mark_of_the_ebpf_program(bug: Result) -> None:
    """Not from the second packet on: the first one is dropped already."""
    assert words(bug.runs, "node prerouting first") == [{0x1000000}] * 3
    assert words(bug.runs, "node forward filter - 1") == [{0}] * 3
