"""tailscale#3659: mwan3's policy rules come before Tailscale's.

Thread   tailscale/tailscale#3659, seen 2022-09-09; closed by pull request 5588.
Parties  Tailscale 1.102.3, mwan3 2.12.2.
Symptom  On an OpenWrt router with mwan3 nothing reaches the tailnet: it leaves by the WAN.
Cause    mwan3 marks every connection and looks up its own table at preference 2001, before
         Tailscale's 5210 to 5270.
Cure     Pull request 5588: where mwan3 is found the rules move from 5210-5270 to 1310-1370, before
         mwan3's.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import preferences

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "tailscale#3659"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_mwan3s_table_is_asked_first(bug: Result) -> None:
    """Rule 2001 sends to the WAN what table 52 would send into the tailnet."""
    together = [run for run in bug.runs if not run.experiment.alone]
    assert preferences(together) == {(2001, "eth0")}
