"""talos#4836: KubeSpan's whole word erases the mark of Calico's eBPF program.

Thread   siderolabs/talos#4836, seen 2022-06; closed by pull request 5945 (1.2.0-beta.0).
Parties  KubeSpan of Talos 1.1, Calico 3.32.1 (eBPF).
Symptom  What pods send to another node's address is dropped once KubeSpan is on.
Cause    KubeSpan writes the whole word 0x51821 in PREROUTING. Calico's 0x01000000, set by its eBPF
         program as the packet came in, is gone when Calico's rule in FORWARD asks for it.
Cure     Pull request 5945: 0x40 under the mask 0x60, for the rule and for the route.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import words

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "talos#4836"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_the_whole_word_is_kubespans(bug: Result) -> None:
    """Where Calico asks for 0x01000000 stands 0x51821."""
    assert words(bug.runs, "node forward filter - 1")[0] == {0x51821}
