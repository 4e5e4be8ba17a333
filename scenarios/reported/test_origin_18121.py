"""origin#18121: an address that is used as a mark has the bit by which Kubernetes masquerades.

Thread   openshift/origin#18121, seen 2018-01-16; merged.
Parties  OpenShift SDN with egress addresses, kube-proxy 1.18.
Symptom  Some projects leave from the node's address instead of their own, by the number of the
         address.
Cause    The mark was the egress address as a number. Where its bit 14 is set kube-proxy takes the
         packet for one to masquerade, before OpenShift's rule sees it.
Cure     The project's number, of 24 bits, instead of the address; where it has Kubernetes' bit,
         bit 24 stands for it.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "origin#18121"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)
