"""netbird#6022: one bit of kube-proxy, and NetBird no longer knows its own mark.

Thread   netbirdio/netbird#6022, seen 2026-04-28; open; fixes in pull requests 6289 and 6802.
Parties  NetBird, kube-proxy 1.35.
Symptom  Peers cannot reach ports that are published from a Kubernetes node, or only sometimes.
Cause    NetBird compares its 0x1bd20 whole. kube-proxy adds 0x4000 for masquerading (kube-router
         takes 0x10000 away), both inside that word, so 'mark ! 0x1bd20 -j DROP' in mangle FORWARD
         drops what the policy had let in.
Cure     Pull request 6802: the mark of the connection instead of the packet's; nothing is relied
         upon in the packet mark.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import words

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "netbird#6022"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_kube_proxy_adds_its_bit_to_netbirds_word(bug: Result) -> None:
    """0x1bd20 before nat PREROUTING, 0x1fd20 where NetBird compares it."""
    assert words(bug.runs, "node prerouting mangle + 1")[0] == {0x1BD20}
    assert words(bug.runs, "node forward mangle - 1")[0] == {0x1FD20}
