"""cilium#46422: the identity of Cilium's ingress is Tailscale's bypass mark.

Thread   cilium/cilium#46422, seen 2026-06-09; open.
Parties  Cilium with its ingress, Tailscale 1.102.3.
Symptom  HTTP 503 'upstream connect error' for every pod on another node.
Cause    Cilium writes the identity into bits 16-31; the ingress has identity 8, so Envoy's packets
         carry 0x80b00. Tailscale's rule 5210 takes that for its bypass mark and looks up main
         instead of table 52.
Cure     Tailscale's marks moved out of Cilium's bits, as pull request 18695 would let one
         configure: 0x1000 and 0x2000 under 0x3000.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import preferences

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "cilium#46422"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_tailscales_rule_for_its_own_sockets_takes_envoys_packets(bug: Result) -> None:
    """Rule 5210 looks up main, whose default route is the uplink."""
    together = [run for run in bug.runs if not run.experiment.alone]
    assert preferences(together) == {(5210, "eth0")}
