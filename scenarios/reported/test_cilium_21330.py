"""cilium#21330: AWS restores bit 7 of every packet, which is part of Cilium's cluster id.

Thread   cilium/cilium#21330, seen 2022-09-16; open.
Parties  Cilium 1.12 with cluster id 129, AWS VPC CNI 1.22.4.
Symptom  A pod's identity arrives with another cluster's id; policies between clusters refuse it.
Cause    The cluster id stands in bits 0-7. AWS restores bit 7 from the connection, which does not
         have it: 0x6b990f81 becomes 0x6b990f01.
Cure     --enable-identity-mark=false (pull request 12185): no identity in the mark.
Cure     A cluster id below 128.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import words

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "cilium#21330"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_cluster_129_becomes_cluster_1(bug: Result) -> None:
    """Bit 7 of the identity is gone, all others are there."""
    assert words(bug.runs, "node forward filter - 1")[0] == {0x6B990F01}
