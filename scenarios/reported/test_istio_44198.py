"""istio#44198: ambient and Cilium test each other's bits.

Thread   istio/istio#44198, seen 2023-03-31; closed: redirection moved into the pods.
Parties  Istio ambient before 1.21, Cilium 1.20.
Symptom  Pods on a node with both lose their connections to the outside.
Cause    Ambient marked on the node, with whole-word tests and bits (0x200, 0x210, 0x220) that
         Cilium uses for its kind of packet; each takes the other's packets for its own.
Cure     Ambient of today, which marks in the pod's own namespace.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import together

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "istio#44198"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_the_pod_gets_no_answer(bug: Result) -> None:
    """Whatever arrives is never answered, in both orders of installation."""
    assert {flow.fate.answered for flow in together(bug.runs)} == {0}
