"""tailscale#4917: Calico's mark of pods is Tailscale's bypass mark.

Thread   tailscale/tailscale#4917, seen 2023-09-30; open.
Parties  Tailscale 1.102.3 with iptables, Calico 3.32.1 with iptables.
Symptom  What a pod sends into the tailnet leaves by the node's uplink and is lost.
Cause    Calico marks what comes from a pod with the first free bit of its mask: 0x80000 since
         3.30, which is Tailscale's bypass mark. Policy rule 5210 takes it for a socket of
         tailscaled and looks up main.
Cure     Calico's iptablesMarkMask moved to 0xff000000.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import preferences

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "tailscale#4917"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_tailscales_rule_for_its_own_sockets_takes_the_pods_packets(bug: Result) -> None:
    """Rule 5210 looks up main, whose default route is the uplink."""
    together = [run for run in bug.runs if not run.experiment.alone]
    assert preferences(together) == {(5210, "eth0")}
