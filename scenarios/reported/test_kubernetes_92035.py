"""kubernetes#92035: a mark that outlives VXLAN has the tunnel's packet masqueraded as well.

Thread   kubernetes/kubernetes#92035, seen 2020-06-11; merged (1.19).
Parties  flannel, Calico or another VXLAN overlay, kube-proxy 1.18.
Symptom  Connections to services over VXLAN stall for 63 seconds.
Cause    VXLAN hands the skb on with its mark, so the tunnel's packet bears 0x4000 as well, and
         KUBE-POSTROUTING masquerades both.
Cure     Pull request 92035 (1.19): the mark is cleared before MASQUERADE, so the tunnel's packet
         does not bear it.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "kubernetes#92035"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)
