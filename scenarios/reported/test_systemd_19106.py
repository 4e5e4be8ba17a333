"""systemd#19106: networkd deletes the policy rules of others as it starts.

Thread   systemd/systemd#19106, seen 2021-03-24; closed: ManageForeignRoutingPolicyRules=.
Parties  Tailscale 1.102.3 and other programs with policy rules, systemd-networkd.
Symptom  After networkd restarts the VPN's policy rules are gone, and with them its routes.
Cause    networkd deletes rules that it did not make, unless ManageForeignRoutingPolicyRules=no.
Cure     ManageForeignRoutingPolicyRules=no.
Cure     Tailscaled restarted after networkd, which puts its rules back.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import preferences

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "systemd#19106"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_only_the_kernels_own_rules_are_left(bug: Result) -> None:
    """Main sends what is for the tailnet to the uplink."""
    together = [run for run in bug.runs if not run.experiment.alone]
    assert preferences(together) == {(32766, "eth0")}
